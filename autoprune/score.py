"""What a policy is judged by: the budget it must meet and the score it got."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any, Literal

from autoprune.errors import UsageError


@dataclass(frozen=True)
class Score:
    """One policy's result.

    Attributes:
        accuracy: Top-1 accuracy in [0, 1].
        loss: Mean cross-entropy in nats.
        macs: Multiply-adds of one image.
        params: Number of parameters.
        reward: What the reward function made of it (NaN before it was asked).
        seconds: Wall-clock time the score took.
        cost: The same in dense passes: seconds over those of one eager pass of the dense network over the search images.
    """

    accuracy: float
    loss: float
    macs: int
    params: int
    reward: float = math.nan
    seconds: float = 0.0
    cost: float = 0.0

    def to_dict(self) -> dict[str, Any]:
        """Return the fields as JSON-ready values."""
        return asdict(self)


@dataclass(frozen=True)
class Budget:
    """How small the network must become.

    Attributes:
        value: Share of the dense network's MACs, in (0, 1].
        mode: "exact": every policy uses all of the budget to within one rounding step. "at-most": policies may be smaller.
        kind: What is limited. "macs" for now.
        unit: "ratio": ``value`` is relative to the dense network.

    Raises:
        UsageError: for any other value.
    """

    value: float
    mode: Literal["exact", "at-most"] = "exact"
    kind: Literal["macs"] = "macs"
    unit: Literal["ratio"] = "ratio"

    def __post_init__(self) -> None:
        if isinstance(self.value, bool) or not isinstance(self.value, int | float) or not 0.0 < self.value <= 1.0:
            raise UsageError(
                f"The budget is '{self.value}', but must be a ratio in (0, 1]: the share of the dense network's MACs that "
                "may stay, for example 0.5."
            )
        if self.mode not in ("exact", "at-most"):
            raise UsageError(f"The budget mode is '{self.mode}', but must be 'exact' or 'at-most'.")
        if (self.kind, self.unit) != ("macs", "ratio"):
            raise UsageError(f"The budget is a {self.unit} of {self.kind}, but must be a ratio of macs.")

    def to_dict(self) -> dict[str, Any]:
        """Return the fields as JSON-ready values."""
        return asdict(self)
