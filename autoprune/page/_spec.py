"""What a chart shows, as plain data: the page draws it as SVG."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Point:
    """One measurement.

    Attributes:
        x: Where.
        y: What.
        title: Said when the pointer rests on it.
        error: One standard error of ``y``, drawn as a bar both ways.
    """

    x: float
    y: float
    title: str = ""
    error: float | None = None


@dataclass(frozen=True)
class Series:
    """Points that belong together.

    Attributes:
        name: Its entry in the legend.
        points: In the order of ``x``.
        look: Key of `autoprune.page._style.LOOKS`: colour and marker.
        line: "", "straight" or "step" (the value holds until the next point).
        marks: Whether every point gets its marker.
        faint: Small, half transparent marks, for clouds.
        dashed: Whether the line is.
        shade: Overrides the colour of the look: the place in [0, 1] on a scale of colours, for families of curves.
        legend: Whether it has an entry in the legend.
    """

    name: str
    points: tuple[Point, ...]
    look: str
    line: str = ""
    marks: bool = True
    faint: bool = False
    dashed: bool = False
    shade: float | None = None
    legend: bool = True


@dataclass(frozen=True)
class Level:
    """A value to compare with, drawn as a line across.

    Attributes:
        name: Its entry in the legend.
        y: The value.
        look: As for a series.
    """

    name: str
    y: float
    look: str


@dataclass(frozen=True)
class Chart:
    """A chart with two axes.

    Attributes:
        key: Unique on the page.
        title: What it shows, a short noun phrase.
        x_label: What x is, with its unit.
        y_label: What y is, with its unit.
        series: Drawn in this order, the last on top.
        levels: Values to compare with.
        note: How to read it, a sentence or two.
        x_from_zero: Whether the axis of x begins at 0.
        whole_x: Whether x is a whole number (no ticks between).
    """

    key: str
    title: str
    x_label: str
    y_label: str
    series: tuple[Series, ...]
    levels: tuple[Level, ...] = ()
    note: str = ""
    x_from_zero: bool = False
    whole_x: bool = False


@dataclass(frozen=True)
class Bar:
    """One column of a picture of a network.

    Attributes:
        name: What it is.
        before: Dense value.
        after: Value of the small network.
        kind: "decided" (the policy decides it), "smaller" (it is, whoever decided) or "whole".
        title: Said when the pointer rests on it.
        rule: Value of the policy to compare with, None for none.
        residual: Whether it crosses a residual join.
    """

    name: str
    before: float
    after: float
    kind: str
    title: str
    rule: float | None = None
    residual: bool = False


@dataclass(frozen=True)
class Bars:
    """Columns side by side, what was before as an outline, what is left filled.

    Attributes:
        key: Unique on the page.
        title: What it shows.
        y_label: What the height is.
        bars: From left to right.
        rule: Name of the policy that the marks show; "" if there are none.
        note: How to read it.
    """

    key: str
    title: str
    y_label: str
    bars: tuple[Bar, ...]
    rule: str = ""
    note: str = ""
