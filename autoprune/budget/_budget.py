"""Budgets: how small, how fast, how light the network must become."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal

from autoprune.budget._drop import QUANTILE
from autoprune.errors import UsageError
from autoprune.registry import Registry, nearest
from autoprune.support.reading import reading

Mode = Literal["exact", "at-most"]
_COUNTS = {"": 1.0, "k": 1e3, "m": 1e6, "g": 1e9, "t": 1e12}
_BYTES = {"b": 1.0, "kb": 1e3, "mb": 1e6, "gb": 1e9, "kib": 2.0**10, "mib": 2.0**20, "gib": 2.0**30}
_SECONDS = {"us": 1e-6, "µs": 1e-6, "ms": 1e-3, "s": 1.0}
UNITS: Mapping[str, Mapping[str, float]] = {
    "macs": _COUNTS,
    "params": _COUNTS,
    "size": _BYTES,
    "memory": _BYTES,
    "latency": _SECONDS,
}
"""The kinds of cost that autoprune knows, with the units that an absolute limit may have."""
_NOUNS = {
    "macs": "MACs",
    "params": "parameters",
    "size": "bytes of weights",
    "memory": "bytes of activations at their peak",
    "latency": "latency",
}
UserCost = Callable[[Any], float]
costs: Registry[UserCost] = Registry("cost", "autoprune.costs", reserved=UNITS)
"""Costs of one's own, for ``--budget NAME=0.5``: of the kept channels by group name, or of the network (`on_network`)."""
_PREFIXES = {"n": 1e-9, "µ": 1e-6, "u": 1e-6, "m": 1e-3, "": 1.0, "k": 1e3}
_EXAMPLES = {"macs": "60M", "params": "500k", "size": "4MB", "memory": "2MB", "latency": "12ms"}


def noun(kind: str) -> str:
    """Return what a kind of cost is called in a sentence."""
    return _NOUNS.get(kind) or getattr(_own(kind), "noun", None) or kind


def _own(kind: str) -> UserCost | None:
    """Return a cost of one's own that is registered, None for another kind; nothing is imported by name for it."""
    return None if kind in UNITS or ":" in kind or kind not in costs.names() else costs.get(kind)


def _units(kind: str) -> Mapping[str, float]:
    """Return the units of a kind of cost, in small letters, and what one of each is."""
    if kind in UNITS:
        return UNITS[kind]
    unit = str(getattr(_own(kind), "unit", ""))
    return {f"{prefix}{unit}".lower(): size for prefix, size in _PREFIXES.items()} if unit else {"": 1.0}


def amount(kind: str, value: float) -> str:
    """Return an absolute cost as text: ``12.3 ms``, ``4.1 MB``, ``62,742,848``."""
    if kind == "latency":
        return f"{value:.3g} s" if value >= 1 else f"{1e3 * value:.3g} ms" if value >= 1e-3 else f"{1e6 * value:.3g} µs"
    if kind in ("size", "memory"):
        return next(
            f"{value / u:.3g} {n}" for u, n in ((1e9, "GB"), (1e6, "MB"), (1e3, "kB"), (1, "B")) if value >= u or u == 1
        )
    if kind in ("macs", "params"):
        return f"{int(value):,}"
    unit = str(getattr(_own(kind), "unit", ""))
    prefix = next((p for p in ("k", "", "m", "µ") if value >= _PREFIXES[p]), "n") if unit else ""
    return f"{value / _PREFIXES[prefix]:.3g} {prefix}{unit}" if unit else f"{value:g}"


@dataclass(frozen=True)
class Limit:
    """The most that a network may have of one kind of cost.

    Attributes:
        kind: "macs", "params", "size" (bytes of weights), "memory" (peak bytes of activations), "latency", or a cost of one's
            own: a name in `autoprune.budget.costs` or ``package.module:function``.
        value: The limit.
        unit: "ratio": a share of the dense network's, in (0, 1]. "absolute": in MACs, parameters, bytes, seconds or whatever
            the cost is in.

    Raises:
        UsageError: for any other value.
    """

    kind: str
    value: float
    unit: Literal["ratio", "absolute"] = "ratio"

    def __post_init__(self) -> None:
        _check_kind(self.kind)
        number = isinstance(self.value, int | float) and not isinstance(self.value, bool)
        if self.unit == "ratio":
            if not number or not 0.0 < self.value <= 1.0:
                raise UsageError(_no_ratio(self.value, self.kind))
        elif self.unit != "absolute":
            raise UsageError(f"The unit of a budget is '{self.unit}', but must be 'ratio' or 'absolute'.")
        elif not number or not (0 < self.value < math.inf):
            raise UsageError(f"The budget of {noun(self.kind)} is {self.value}, but must be a number above 0.")

    @classmethod
    def parse(cls, kind: str, value: float | str) -> Limit:
        """Read a limit: a share of the dense network's ("0.5", 0.5), or an amount with its unit ("12ms", "4MB", "60M").

        Raises:
            UsageError: for anything else.
        """
        _check_kind(kind)
        text = str(value).strip()
        match = re.fullmatch(r"([+-]?(?:\d+\.?\d*|\.\d+)(?:e[+-]?\d+)?)\s*([a-zµ]*)", text, re.IGNORECASE)
        units = _units(kind)
        if match is None or isinstance(value, bool):
            raise UsageError(_no_ratio(value, kind))
        amount_, unit = float(match[1]), match[2].lower()
        if not unit and (amount_ <= 1.0 or "" not in units or kind == "macs"):
            if not 0.0 < amount_ <= 1.0:
                raise UsageError(_no_ratio(value, kind))
            return cls(kind, amount_)
        if unit not in units:
            raise UsageError(
                f"The budget of {noun(kind)} is '{text}', whose unit is none of {', '.join(u for u in units if u)}; "
                f"give for example {kind}={_EXAMPLES.get(kind, '0.5')}."
            )
        return cls(kind, amount_ * units[unit], "absolute")

    def of(self, dense: float) -> float:
        """Return the limit in the unit of the cost.

        Args:
            dense: The dense network's cost.
        """
        return self.value * dense if self.unit == "ratio" else self.value

    def __str__(self) -> str:
        """Return the limit as `parse` reads it."""
        if self.unit == "ratio":
            return f"{self.kind}={self.value!r}"
        if self.kind == "latency":
            return f"{self.kind}={1e3 * self.value:.12g}ms"
        if self.kind in ("size", "memory"):
            return f"{self.kind}={self.value:.12g}B"
        if self.kind in UNITS:
            return f"{self.kind}={self.value / 1e3:.15g}k"
        return f"{self.kind}={self.value:.15g}{getattr(_own(self.kind), 'unit', '')}"

    @property
    def words(self) -> str:
        """The limit for a sentence: "0.5 of the MACs", "12 ms of latency"."""
        if self.unit == "ratio":
            return f"{self.value:g} of the {noun(self.kind)}"
        kind = noun(self.kind)
        if self.kind in ("size", "memory"):
            kind = kind.removeprefix("bytes of ")
        return f"{amount(self.kind, self.value)} {'of ' if self.kind not in ('macs', 'params') else ''}{kind}"


@dataclass(frozen=True, init=False)
class Budget:
    """What the network must become: limits, all of which are met, or the smallest within a drop of accuracy.

        Budget(0.5)                                       # half of the MACs
        Budget("macs=0.5,latency=12ms")
        Budget(params=0.6, size="4MB", mode="at-most")
        Budget(max_drop=0.5)                              # the fewest MACs for half a point of accuracy
        Budget(minimize="latency")                        # a front of accuracy against latency

    Attributes:
        limits: What is limited, each kind once.
        mode: "exact": every policy uses all of the budget, so that no group could keep more. "at-most": policies may be
            smaller; always so with ``max_drop`` or ``minimize``.
        max_drop: How much accuracy may be lost at most, in points (1.0: from 93.3 % to 92.3 %), or of another metric in its own
            unit; None where the limits decide.
        minimize: The kind of cost to make small: with ``max_drop`` as small as that allows, without it all along a front of
            accuracy against cost. None where accuracy alone counts.

    Raises:
        UsageError: for what is no budget.
    """

    limits: tuple[Limit, ...]
    mode: Mode
    max_drop: float | None
    minimize: str | None

    def __init__(
        self,
        value: float | str | Iterable[Limit] | None = None,
        mode: Mode = "exact",
        *,
        max_drop: float | None = None,
        minimize: str | None = None,
        **kinds: float | str,
    ) -> None:
        limits = [*_limits(value), *(Limit.parse(kind, given) for kind, given in kinds.items())]
        if max_drop is not None:
            if isinstance(max_drop, bool) or not isinstance(max_drop, int | float) or not 0 <= max_drop < 100:
                raise UsageError(
                    f"The largest drop of accuracy is {max_drop}, but must be in points from 0 to below 100, for example 0.5."
                )
            minimize = "macs" if minimize is None else minimize
        if minimize is not None:
            _check_kind(minimize)
        elif not limits:
            raise UsageError(_no_ratio(value, "macs"))
        twice = [limit.kind for number, limit in enumerate(limits) if limit.kind in [x.kind for x in limits[:number]]]
        if twice:
            raise UsageError(f"The budget limits {noun(twice[0])} twice; give each kind once.")
        if mode not in ("exact", "at-most"):
            raise UsageError(f"The budget mode is '{mode}', but must be 'exact' or 'at-most'.")
        object.__setattr__(self, "limits", tuple(limits))
        object.__setattr__(self, "mode", mode if minimize is None else "at-most")
        object.__setattr__(self, "max_drop", max_drop)
        object.__setattr__(self, "minimize", minimize)

    def tightened(self, kind: str, factor: float) -> Budget:
        """Return the same budget with one limit times ``factor`` (in (0, 1])."""
        limits = [replace(limit, value=limit.value * factor) if limit.kind == kind else limit for limit in self.limits]
        return Budget(limits, self.mode, max_drop=self.max_drop, minimize=self.minimize)

    @property
    def kinds(self) -> tuple[str, ...]:
        """The kinds of cost that matter."""
        return tuple(dict.fromkeys((*(limit.kind for limit in self.limits), *filter(None, (self.minimize,)))))

    def within(self, accuracy: float, dense: float, error: float = math.nan, *, scale: float = 100.0) -> bool:
        """Whether an accuracy is within the drop allowed, with 95 % confidence where its error is known.

        That is for a single network. Of many that are tried some are within by luck: which one a search ends with is decided on
        other images (`autoprune.budget`).

        Args:
            accuracy: The network's accuracy in [0, 1], or what else is measured, larger is better.
            dense: The dense network's on the same images.
            error: Standard error of their difference.
            scale: What a difference is multiplied with to be in the unit of ``max_drop``: 100 for points of a share, else 1.
        """
        if self.max_drop is None:
            return True
        spare = 0.0 if math.isnan(error) else QUANTILE * error
        return scale * (dense - accuracy + spare) <= self.max_drop + 1e-9

    def limit(self, kind: str) -> Limit | None:
        """Return the limit of one kind, None if there is none."""
        return next((limit for limit in self.limits if limit.kind == kind), None)

    def __str__(self) -> str:
        """Return the limits as ``--budget`` takes them: "0.5", "macs=0.5,latency=12ms"."""
        if len(self.limits) == 1 and self.limits[0].kind == "macs" and self.limits[0].unit == "ratio":
            return repr(float(self.limits[0].value))
        return ",".join(map(str, self.limits))

    @property
    def words(self) -> str:
        """The budget for a sentence."""
        limits = " and ".join(limit.words for limit in self.limits)
        if self.max_drop is not None:
            goal = f"the least {noun(str(self.minimize))} for a drop of {self.max_drop:g} points"
        elif self.minimize is not None:
            goal = f"a front of accuracy against {noun(self.minimize)}"
        else:
            return limits + (" at most" if self.mode == "at-most" else "")
        return f"{goal}, at most {limits}" if limits else goal

    def to_dict(self) -> dict[str, Any]:
        """Return JSON-ready values."""
        goal = {"max_drop": self.max_drop, "minimize": self.minimize}
        return {
            "limits": [asdict(limit) for limit in self.limits],
            "mode": self.mode,
            **{key: value for key, value in goal.items() if value is not None},
        }

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Budget:
        """Return the budget that `to_dict` wrote.

        Raises:
            UsageError: for anything else.
        """
        with reading("The budget of the configuration", "restore the file"):
            goal = {key: values[key] for key in ("max_drop", "minimize") if key in values}
            limits = [Limit(**limit) for limit in values["limits"]]
            found = cls(limits, values["mode"], **goal)
        return found


def _check_kind(kind: str) -> None:
    if kind in UNITS or ":" in kind:
        return
    if kind not in costs.names():
        known = [*UNITS, *costs.names()]
        raise UsageError(
            f"Unknown kind of budget '{kind}'.{nearest(kind, known)} Known: {', '.join(known)}, or package.module:function."
        )


def _limits(value: float | str | Iterable[Limit] | None) -> list[Limit]:
    if value is None:
        return []
    if isinstance(value, str):
        parts = [part.strip() for part in value.split(",")]
        return [Limit.parse(kind.strip() or "macs", given) for kind, _, given in (p.rpartition("=") for p in parts)]
    if isinstance(value, int | float):
        return [Limit("macs", value)]
    try:
        limits = list(value)
    except TypeError:
        limits = []
    if not all(isinstance(limit, Limit) for limit in limits):
        raise UsageError(_no_ratio(value, "macs"))
    return limits


def _no_ratio(value: object, kind: str) -> str:
    end = f"for example {'' if kind == 'macs' else kind + '='}0.5"
    if kind in _EXAMPLES and kind != "macs":
        end += f", or an amount: {kind}={_EXAMPLES[kind]}"
    return (
        f"The budget is '{value}', but must be a ratio in (0, 1]: the share of the dense network's {noun(kind)} that may "
        f"stay, {end}."
    )
