"""The errors autoprune raises on purpose: one clear sentence each, with the exit code of the command line."""

from __future__ import annotations

_LONGEST = 2000


class AutopruneError(Exception):
    """Something failed while it ran (exit code 1). The message names the value, the rule and the next step.

    Args:
        message: One sentence. Values in it may be anybody's: line breaks become spaces, and of a very long one the middle goes.
    """

    exit_code = 1

    def __init__(self, message: str = "") -> None:
        text = " ".join(str(message).splitlines()) if "\n" in str(message) else str(message)
        super().__init__(text if len(text) <= _LONGEST else f"{text[: _LONGEST // 2]} [...] {text[-_LONGEST // 4 :]}")


class UsageError(AutopruneError, ValueError):
    """What the caller asked for cannot be done (exit code 2)."""

    exit_code = 2
