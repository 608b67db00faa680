"""The page's main charts as files of their own: the same drawings, with title, legend and style in them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from autoprune.page import _compare, _front, _policy, _probes, _search, _svg_bars, _svg_chart, _tuning
from autoprune.page._html import Html, el
from autoprune.page._run import Run
from autoprune.page._spec import Bars, Chart
from autoprune.page._style import svg_css, without_variables
from autoprune.support.files import write_text_atomic

_TITLE, _LINE, _KEY, _CHARACTER = 34, 22, 26, 7.2
"""Heights of the title and of a line of the legend; widths of a key and, on average, of a character."""


def charts_of(runs: Sequence[Run]) -> list[Bars | Chart]:
    """Return the charts that are written, in the order of the page."""
    if len(runs) > 1:
        kept = _compare.keep_ratios(runs)
        several = (*(_compare.learning_curves(runs) or ()), _compare.against_size(runs, params=False), kept)
        return [chart for chart in several if chart is not None]
    run = runs[0]
    scored: list[Chart | None] = []
    if run.episodes:
        front = _front.front_chart(run, "")
        scored = [_search.learning_curve(run, "", cost=False), front or _search.against_size(run, "", params=False)]
    also = (_policy.keep_ratios(run, ""), _tuning.tuning_chart(run, ""), _probes.sensitivity_chart(run, ""))
    return [chart for chart in (_policy.channels(run, ""), *scored, *also) if chart is not None]


def write_charts(runs: Sequence[Run], folder: Path) -> list[Path]:
    """Write the main charts of the page, one SVG file each, atomically.

    Args:
        runs: The runs.
        folder: Where they go; it is made.

    Raises:
        AutopruneError: if one cannot be written.
    """
    paths = []
    for chart in charts_of(runs):
        path = folder / f"{chart.key}.svg"
        write_text_atomic(path, standalone(chart))
        paths.append(path)
    return paths


def standalone(chart: Bars | Chart) -> str:
    """Return a chart as a whole SVG document, without what only browsers know (variables)."""
    if isinstance(chart, Bars):
        drawing, (width, height), entries = _svg_bars.bars_svg(chart), _svg_bars.size(chart), _svg_bars.legend(chart)
    else:
        drawing, (width, height) = _svg_chart.chart_svg(chart), (_svg_chart.WIDTH, _svg_chart.HEIGHT)
        entries = _svg_chart.legend(chart)
    keys, lines = _legend(entries, width, _TITLE + height)
    whole = _TITLE + height + lines * _LINE + 6
    return without_variables(
        el(
            "svg",
            el("style", Html(svg_css())),
            el("rect", width=width, height=whole, class_="paper"),
            el("text", chart.title, x=12, y=22, class_="heading"),
            el("svg", drawing, y=_TITLE, width=width, height=height),
            *keys,
            xmlns="http://www.w3.org/2000/svg",
            width=width,
            height=whole,
            viewBox=f"0 0 {width} {whole}",
        )
    )


def _legend(entries: Sequence[tuple[Html, str]], width: int, top: int) -> tuple[list[Html], int]:
    """Place keys and their texts from left to right; return them, and how many lines they take."""
    parts: list[Html] = []
    x, line = 12.0, 0
    for key, text in entries:
        needed = _KEY + 6 + _CHARACTER * len(text)
        if x > 12 and x + needed > width:
            x, line = 12.0, line + 1
        y = top + line * _LINE
        parts.append(el("g", key, transform=f"translate({x:.0f} {y + 4})"))
        parts.append(el("text", text, x=f"{x + _KEY + 6:.0f}", y=y + 15))
        x += needed + 18
    return parts, line + bool(entries)
