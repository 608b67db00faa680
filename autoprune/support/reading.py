"""What every reader of a file or an option ends in: an AutopruneError in one sentence, whatever is wrong with the input."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from autoprune.errors import AutopruneError, UsageError

_WIDTH = 160


@contextmanager
def reading(
    what: str, remedy: str, *, fault: str = "is damaged", passes: type[Exception] = AutopruneError
) -> Iterator[None]:
    """Turn whatever a reader raises into a UsageError, within a ``with`` block around nothing but the reading.

        with reading(f"The timing '{path}'", "time the run again"):
            return [float(row["ms"]) for row in values["rows"]]

    Args:
        what: What is read, the subject of the sentence.
        remedy: What the user can do, its end.
        fault: What is wrong with it.
        passes: What else is raised as it is.

    Raises:
        UsageError: "<what> <fault> (<why>); <remedy>."
    """
    try:
        yield
    except (AutopruneError, passes):
        raise
    except (
        Exception
    ) as error:  # what is read may be anything, so what parsers, NumPy, torch and zip raise may be anything
        raise UsageError(f"{what} {fault} ({reason(error)}); {remedy}.") from error


def reason(error: Exception) -> str:
    """Return in a few words why something could not be read."""
    if isinstance(error, KeyError) and error.args:
        return f"no '{str(error.args[0])[:60]}'"
    if isinstance(error, RecursionError):
        return "it is nested too deeply"
    if isinstance(error, MemoryError):
        return "it asks for more memory than there is"
    text = " ".join(str(error).split())[:_WIDTH].rstrip(".")
    return text or type(error).__name__
