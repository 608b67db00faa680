"""How numbers are written on the page."""

from __future__ import annotations

from autoprune.evaluation import Metric

PLUS_MINUS = "\u00a0±\u00a0"  # never alone at the end of a line


def percent(value: float, digits: int = 2) -> str:
    """Return a share in [0, 1] in percent, without the sign: ``0.8815`` is "88.15"."""
    return f"{100 * value:.{digits}f}"


def with_error(metric: Metric, value: float, error: float | None) -> str:
    """Return a metric's value with its standard error, if that is known, without its unit."""
    return metric.with_error(value, error).replace(" ± ", PLUS_MINUS)


def said(metric: Metric, value: float, error: float | None = None) -> str:
    """Return a metric's value with its standard error, if that is known, and its unit: "88.15 ± 0.32 %"."""
    return with_error(metric, value, error) + metric.unit


def named(metric: Metric, where: str = "") -> str:
    """Return what a metric's numbers are, for a column or an axis: "accuracy on the search part, %"."""
    return f"{metric.name}{where}{', %' if metric.share else ''}"


def title(metric: Metric) -> str:
    """Return a metric's name with a capital."""
    return metric.name[:1].upper() + metric.name[1:]


def big(value: float) -> str:
    """Return a count with three significant digits and a unit: "20.2 M"."""
    for unit, size in (("G", 1e9), ("M", 1e6), ("k", 1e3)):
        if abs(value) >= size:
            return f"{value / size:.3g} {unit}" if abs(value) < 1000 * size else f"{value / size:,.0f} {unit}"
    return f"{value:.3g}"


def seconds(value: float) -> str:
    """Return a duration for people."""
    if value < 90:
        return f"{value:.0f} s"
    return f"{value / 60:.0f} min" if value < 5400 else f"{value / 3600:.1f} h"


def plural(count: int, one: str, several: str | None = None) -> str:
    """Return a count with its noun."""
    return f"{count:,} {one if count == 1 else several or one + 's'}"
