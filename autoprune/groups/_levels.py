"""The channel counts that a group may keep."""

from __future__ import annotations

import math

from autoprune.errors import UsageError


def allowed_counts(size: int, *, min_keep: float = 0.0, round_to: int = 1) -> tuple[int, ...]:
    """Return the allowed channel counts of a group of ``size``, ascending.

    They are the multiples of ``round_to`` from ``max(1, ceil(min_keep * size))`` on, and always ``size`` itself.

    Raises:
        UsageError: if ``min_keep`` is not in [0, 1] or ``round_to`` below 1.
    """
    if not 0.0 <= min_keep <= 1.0:
        raise UsageError(f"The smallest share of channels to keep is {min_keep}, but must be in [0, 1].")
    if round_to < 1:
        raise UsageError(f"Channel counts are rounded to multiples of {round_to}, but it must be at least 1.")
    least = max(1, math.ceil(min_keep * size - 1e-9))  # 0.7 * 10 is a hair above 7 in floating point.
    first = -(-least // round_to) * round_to
    return (*range(first, size, round_to), size)
