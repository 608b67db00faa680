"""What a network's quality is measured in: a name, a direction, and whether it is a share."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from autoprune.errors import UsageError
from autoprune.support.text import short

SHARES = ("accuracy", "agreement", "pixel-accuracy")
"""Metrics of ours that are shares in [0, 1]."""


@dataclass(frozen=True)
class Metric:
    """A measure of quality, as `autoprune.evaluation.Score` holds it, in its own unit and direction.

    Attributes:
        name: What it is called: "accuracy", "agreement", "divergence", "miou", or one of the user's.
        maximize: Whether larger is better.
        share: Whether it is a share in [0, 1], which is shown in per cent.
    """

    name: str = "accuracy"
    maximize: bool = True
    share: bool = True

    @classmethod
    def named(cls, name: str, *, maximize: bool = True) -> Metric:
        """Return a metric by its name; `SHARES` are shown in per cent, all others as they are."""
        return cls(name, maximize, name in SHARES)

    @classmethod
    def asked(cls, maximize: str | None, minimize: str | None) -> Metric | None:
        """Return the metric that options name, None for none.

        Raises:
            UsageError: if two are named.
        """
        if maximize is not None and minimize is not None:
            raise UsageError(
                f"--maximize {maximize} and --minimize-metric {minimize} are two metrics, but one counts; give one of them."
            )
        name = maximize or minimize
        return None if name is None else cls.named(name, maximize=minimize is None)

    @property
    def scale(self) -> float:
        """What a value is multiplied with before it is shown."""
        return 100.0 if self.share else 1.0

    @property
    def unit(self) -> str:
        """What stands behind a value that is shown: " %" or nothing."""
        return " %" if self.share else ""

    @property
    def difference_unit(self) -> str:
        """What stands behind a difference of two values that are shown: " points" or nothing."""
        return " points" if self.share else ""

    @property
    def sign(self) -> float:
        """1 where larger is better, else -1."""
        return 1.0 if self.maximize else -1.0

    def text(self, value: float) -> str:
        """Return a value (or a difference, or a standard error) as it is shown, without its unit: "91.32", "0.04213"."""
        return f"{100 * value:.2f}" if self.share else f"{value:.4g}"

    def error_text(self, error: float) -> str:
        """Return a standard error as it is shown beside a value: "0.54", "0.0021"."""
        return self.text(error) if self.share else f"{error:.2g}"

    def with_error(self, value: float, error: float | None) -> str:
        """Return a value as it is shown, with its error (or half the width of its interval) if that is known: "91.32 ± 0.54"."""
        return self.text(value) if error is None else f"{self.text(value)} ± {self.error_text(error)}"

    def better(self, a: float, b: float) -> bool:
        """Whether ``a`` is better than ``b``; NaN is never."""
        return a > b if self.maximize else a < b

    def gain(self, value: float, reference: float) -> float:
        """Return by how much ``value`` is better than ``reference``, in the metric's unit; negative where it is worse."""
        return value - reference if self.maximize else reference - value

    def to_dict(self) -> dict[str, Any]:
        """Return the fields as JSON-ready values."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: Any) -> Metric:
        """Return what ``to_dict`` wrote; None, of a report that is older, is the accuracy.

        Raises:
            ValueError: for anything else.
        """
        if values is None:
            return cls()
        if not isinstance(values, Mapping) or set(values) != {"name", "maximize", "share"}:
            raise ValueError(f"the metric is {short(values):.80}")
        name, maximize, share = values["name"], values["maximize"], values["share"]
        if not isinstance(name, str) or not name or type(maximize) is not bool or type(share) is not bool:
            raise ValueError(f"the metric is {short(values):.80}")
        return cls(name, maximize, share)


ACCURACY = Metric()
AGREEMENT = Metric("agreement")
PIXEL_ACCURACY = Metric("pixel-accuracy")
DIVERGENCE = Metric("divergence", maximize=False, share=False)
