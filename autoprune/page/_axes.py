"""Axes: ranges that hold what is shown, and ticks at round numbers."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True)
class Axis:
    """A linear map from values to places.

    Attributes:
        low: Least value shown.
        high: Greatest value shown.
        start: Place of ``low``.
        end: Place of ``high``.
        ticks: Values with a mark, round numbers in the range.
    """

    low: float
    high: float
    start: float
    end: float
    ticks: tuple[float, ...]

    def at(self, value: float) -> float:
        """Return the place of a value, clipped to the range."""
        share = (min(max(value, self.low), self.high) - self.low) / (self.high - self.low)
        return self.start + share * (self.end - self.start)

    def label(self, tick: float) -> str:
        """Return a tick's text, with as many digits as the ticks need to differ."""
        step = abs(self.ticks[1] - self.ticks[0]) if len(self.ticks) > 1 else abs(tick) or 1.0
        digits = max(0, -math.floor(math.log10(step) + 1e-9))
        if round(step, digits) != round(step, digits + 2):
            digits += 1
        text = f"{tick:,.{digits}f}"
        return text.replace("-", "−")


def make_axis(
    values: Iterable[float], start: float, end: float, *, zero: bool = False, whole: bool = False, count: int = 5
) -> Axis:
    """Return an axis that holds the values, with a little room.

    Args:
        values: What is to be shown; what is not finite is left out.
        start: Place of the least value.
        end: Place of the greatest value.
        zero: Whether the range begins at 0.
        whole: Whether ticks must be whole numbers.
        count: About how many ticks.
    """
    known = [value for value in values if math.isfinite(value)]
    low, high = (min(known), max(known)) if known else (0.0, 1.0)
    if zero:
        low = min(low, 0.0)
    span = high - low
    if span <= 1e-12 * max(1.0, abs(high)):
        room = abs(high) * 0.05 or 1.0
        low, high = (low if low == 0 or (zero and high > 0) else low - room), high + room
    else:
        low, high = low if zero else low - 0.04 * span, high + 0.04 * span
    return Axis(low, high, start, end, ticks(low, high, count, whole=whole))


def ticks(low: float, high: float, count: int = 5, *, whole: bool = False) -> tuple[float, ...]:
    """Return about ``count`` multiples of 1, 2 or 5 times a power of ten between two values."""
    raw = (high - low) / max(1, count)
    power = 10.0 ** math.floor(math.log10(raw))
    step = next(factor * power for factor in (1, 2, 5, 10) if factor * power >= raw * (1 - 1e-9))
    if whole:
        step = max(1.0, step)
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    return tuple(number * step + 0.0 for number in range(first, last + 1))


def floor_of(values: Iterable[float], *, keep: Iterable[float]) -> float:
    """Return a lower end that a few very bad values do not drag down: they are drawn at the edge.

    Args:
        values: All values.
        keep: Values that must be shown where they are.
    """
    known = sorted(value for value in values if math.isfinite(value))
    must = [value for value in keep if math.isfinite(value)]
    if not known:
        return min(must, default=0.0)
    twentieth = known[len(known) // 20]
    span = max([known[-1], *must]) - twentieth
    low = twentieth - 0.1 * span if known[0] < twentieth - 0.5 * span else known[0]
    return min([low, *must])
