"""A chart as SVG: axes, ticks, lines, markers, hover titles; the legend is HTML below it."""

from __future__ import annotations

import math
from collections.abc import Iterable

from autoprune.page._axes import Axis, floor_of, make_axis
from autoprune.page._html import Html, el, join, legend_list
from autoprune.page._spec import Chart, Level, Point, Series
from autoprune.page._style import LOOKS, MARKERS, STROKED, shade

WIDTH, HEIGHT = 560, 350
_LEFT, _RIGHT, _TOP, _BOTTOM = 66, 14, 12, 54


def chart_figure(chart: Chart) -> Html:
    """Return a chart with its title, legend and note as a ``figure``."""
    return el(
        "figure",
        el("h3", chart.title),
        chart_svg(chart),
        legend_list(legend(chart)),
        el("figcaption", chart.note) if chart.note else None,
        id=chart.key,
    )


def axes_of(chart: Chart) -> tuple[Axis, Axis]:
    """Return the axes of x and y that a chart is drawn on; very bad values of clouds lie below."""
    points = [point for series in chart.series for point in series.points]
    solid = [edge for s in chart.series if not s.faint for point in s.points for edge in _edges(point)]
    cloud = [point.y for s in chart.series if s.faint for point in s.points]
    levels = [level.y for level in chart.levels]
    low = floor_of(cloud, keep=[*solid, *levels])
    x = make_axis(
        (point.x for point in points), _LEFT, WIDTH - _RIGHT, zero=chart.x_from_zero, whole=chart.whole_x, count=5
    )
    y = make_axis((max(value, low) for value in (*cloud, *solid, *levels)), HEIGHT - _BOTTOM, _TOP, count=5)
    return x, y


def chart_svg(chart: Chart) -> Html:
    """Return the drawing alone."""
    x, y = axes_of(chart)
    name = f"{chart.key}-title"
    return el(
        "svg",
        el("title", f"{chart.title}: {chart.y_label} against {chart.x_label}", id=name),
        *_frame(chart, x, y),
        *(_level(level, x, y) for level in chart.levels),
        *(_series(series, x, y) for series in chart.series),
        class_="chart",
        viewBox=f"0 0 {WIDTH} {HEIGHT}",
        role="img",
        aria_labelledby=name,
    )


def marker_of(look: str) -> str:
    """Return the path of a look's marker."""
    return MARKERS[LOOKS[look].marker]


def _edges(point: Point) -> Iterable[float]:
    error = point.error or 0.0
    return (point.y - error, point.y + error)


def _frame(chart: Chart, x: Axis, y: Axis) -> list[Html]:
    parts = [
        el("path", d=" ".join(f"M{x.start} {y.at(t):.1f}H{x.end}" for t in y.ticks), class_="grid"),
        el("path", d=f"M{x.start} {y.start}H{x.end}", class_="axis"),
        el("path", d=" ".join(f"M{x.at(t):.1f} {y.start}v5" for t in x.ticks), class_="axis"),
    ]
    parts += [
        el("text", y.label(t), x=x.start - 8, y=f"{y.at(t) + 4.5:.1f}", text_anchor="end", class_="tick")
        for t in y.ticks
    ]
    parts += [
        el("text", x.label(t), x=f"{x.at(t):.1f}", y=y.start + 21, text_anchor="middle", class_="tick") for t in x.ticks
    ]
    middle = (y.start + y.end) / 2
    parts.append(el("text", chart.x_label, x=(x.start + x.end) / 2, y=HEIGHT - 8, text_anchor="middle"))
    parts.append(
        el("text", chart.y_label, x=15, y=middle, text_anchor="middle", transform=f"rotate(-90 15 {middle:.0f})")
    )
    return parts


def _level(level: Level, x: Axis, y: Axis) -> Html:
    title = el("title", level.name)
    line = el("path", title, d=f"M{x.start} {y.at(level.y):.1f}H{x.end}", class_="level")
    kind = "s" if LOOKS[level.look].marker in STROKED else "m"
    mark = el("path", d=marker_of(level.look), transform=f"translate({x.end} {y.at(level.y):.1f})", class_=kind)
    return el("g", line, mark, class_=f"k-{level.look}")


def _series(series: Series, x: Axis, y: Axis) -> Html:
    parts: list[Html] = [el("title", series.name)] if series.line else []
    known = [point for point in series.points if math.isfinite(point.x) and math.isfinite(point.y)]
    if series.line and known:
        parts.append(el("path", d=_line(series, known, x, y), class_="l dashed" if series.dashed else "l"))
    if series.marks:
        parts += [_mark(point, series, x, y) for point in known]
    classes, style = [f"k-{series.look}"], None
    if series.faint:
        classes.append("faint")
    if series.shade is not None:
        classes = ["shade", "thin"]
        style = _shades(series.shade)
    return el("g", *parts, class_=" ".join(classes), style=style)


def _line(series: Series, points: list[Point], x: Axis, y: Axis) -> str:
    parts = [f"M{x.at(points[0].x):.1f} {y.at(points[0].y):.1f}"]
    for point in points[1:]:
        if series.line == "step":
            parts.append(f"H{x.at(point.x):.1f}V{y.at(point.y):.1f}")
        else:
            parts.append(f"L{x.at(point.x):.1f} {y.at(point.y):.1f}")
    return "".join(parts)


def _mark(point: Point, series: Series, x: Axis, y: Axis) -> Html:
    at_x, at_y = x.at(point.x), y.at(point.y)
    title = el("title", point.title) if point.title else None
    below = point.y < y.low
    path = MARKERS["down"] if below else marker_of(series.look)
    kind = "below" if below else "s" if LOOKS[series.look].marker in STROKED else "m"
    scale = ("scale(.62)" if series.faint else "scale(1.25)") if series.shade is None else "scale(.7)"
    mark = el("path", title, d=path, transform=f"translate({at_x:.1f} {at_y:.1f}){scale}", class_=kind)
    if not point.error:
        return mark
    up, down = y.at(point.y + point.error), y.at(point.y - point.error)
    bar = f"M{at_x:.1f} {up:.1f}V{down:.1f}M{at_x - 4:.1f} {up:.1f}h8M{at_x - 4:.1f} {down:.1f}h8"
    return join(el("path", d=bar, class_="e"), mark)


def legend(chart: Chart) -> list[tuple[Html, str]]:
    """Return the key of everything that has a name, as a group of a drawing 26 wide and 12 high, and the name."""
    entries = [(_key(series), series.name) for series in chart.series if series.legend and series.points]
    for level in chart.levels:
        kind = "s" if LOOKS[level.look].marker in STROKED else "m"
        mark = el("path", d=marker_of(level.look), transform="translate(22 6)", class_=kind)
        entries.append((el("g", el("path", d="M0 6H26", class_="level"), mark, class_=f"k-{level.look}"), level.name))
    return entries


def _key(series: Series) -> Html:
    parts: list[Html] = []
    if series.line:
        parts.append(el("path", d="M0 6H26", class_="l dashed" if series.dashed else "l"))
    if series.marks and series.shade is None:
        kind = "s" if LOOKS[series.look].marker in STROKED else "m"
        parts.append(el("path", d=marker_of(series.look), transform="translate(13 6)", class_=kind))
    style = None if series.shade is None else _shades(series.shade)
    return el("g", *parts, class_="shade" if style else f"k-{series.look}", style=style)


def _shades(place: float) -> str:
    return f"--a:{shade(place)};--b:{shade(place, dark=True)}"
