"""Options of agents that are out of range, refused in one sentence."""

from __future__ import annotations

import math

from autoprune.errors import UsageError


def check_number(
    agent: str, name: str, value: object, *, low: int = 0, high: int | None = None, whole: bool = False
) -> None:
    """Refuse what is no finite number in a range.

    Args:
        agent: Whose option it is.
        name: The option.
        value: What was given.
        low: The least that is allowed.
        high: The most, if there is one.
        whole: Whether it has to be a whole number.

    Raises:
        UsageError: with the value and the range.
    """
    right = isinstance(value, int if whole else int | float) and not isinstance(value, bool)
    if not right or not low <= value <= (math.inf if high is None else high) or value == math.inf:  # type: ignore[operator]
        kind = "a whole number" if whole else "a number"
        limit = f"of at least {low}" if high is None else f"from {low} to {high}"
        raise UsageError(f"The value of '{name}' is {value!r}, but the {agent} agent needs {kind} {limit}.")


def check_switch(agent: str, name: str, value: object) -> None:
    """Refuse what is neither true nor false.

    Raises:
        UsageError: with the value.
    """
    if not isinstance(value, bool):
        raise UsageError(f"The value of '{name}' is {value!r}, but the {agent} agent needs true or false.")
