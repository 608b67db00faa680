"""The errors autoprune raises on purpose: one clear sentence each, with the exit code of the command line."""

from __future__ import annotations


class AutopruneError(Exception):
    """Something failed while it ran (exit code 1). The message names the value, the rule and the next step."""

    exit_code = 1


class UsageError(AutopruneError, ValueError):
    """What the caller asked for cannot be done (exit code 2)."""

    exit_code = 2
