"""Reading a budget."""

from __future__ import annotations

import math
from typing import Literal

from autoprune.errors import UsageError
from autoprune.score import Budget


def parse_budget(value: str | float, mode: Literal["exact", "at-most"] = "exact") -> Budget:
    """Return the budget that ``value`` says: the share of the dense network's MACs, in (0, 1].

    Raises:
        UsageError: for anything else.
    """
    try:
        ratio = math.nan if isinstance(value, bool) else float(value)
    except (TypeError, ValueError):
        ratio = math.nan
    if not 0.0 < ratio <= 1.0:
        raise UsageError(
            f"The budget is '{value}', but must be a ratio in (0, 1]: the share of the dense network's MACs that may "
            "stay, for example 0.5."
        )
    return Budget(value=ratio, mode=mode)
