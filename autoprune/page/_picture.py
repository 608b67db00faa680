"""The page's main charts as one PNG, drawn from the same data through matplotlib."""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from autoprune.page import _compare, _front, _policy, _probes, _search, _tuning
from autoprune.page._headline import short_data, short_model
from autoprune.page._numbers import with_error
from autoprune.page._run import Run
from autoprune.page._spec import Bars, Chart, Series
from autoprune.page._style import LOOKS, shade
from autoprune.page._svg_chart import axes_of
from autoprune.support.files import write_atomic

_MARKERS = {
    "circle": "o",
    "square": "s",
    "up": "^",
    "down": "v",
    "diamond": "D",
    "cross": "x",
    "plus": "+",
    "star": "*",
}
_INK, _LINE, _WHOLE = "#1b1f24", "#d5dae0", "#c3cad2"


def charts_of(runs: Sequence[Run]) -> tuple[Bars | None, list[Chart]]:
    """Return the pictures that the PNG shows."""
    if len(runs) > 1:
        curves = _compare.learning_curves(runs)
        kept = _compare.keep_ratios(runs)
        charts = [*(curves or ()), _compare.against_size(runs, params=False), *([kept] if kept is not None else [])]
        return None, charts
    run = runs[0]
    found = [_search.learning_curve(run, "", cost=False)] if run.episodes else []
    of_front = _front.front_chart(run, "")
    found += [of_front or _search.against_size(run, "", params=False)] if run.episodes else []
    found += [c for c in (_tuning.tuning_chart(run, ""), _probes.sensitivity_chart(run, "")) if c is not None]
    keeps = _policy.keep_ratios(run, "")
    if len(found) % 2 and keeps is not None:
        found.append(keeps)
    return _policy.channels(run, ""), found


def draw(runs: Sequence[Run], path: Path) -> None:
    """Draw the main charts of the page into a PNG, written atomically.

    Args:
        runs: The runs.
        path: The file.

    Raises:
        AutopruneError: if it cannot be written.
    """
    from matplotlib.figure import Figure

    bars, charts = charts_of(runs)
    lines = (len(charts) + 1) // 2
    heights = ([3.6] if bars is not None else []) + [4.1] * lines
    figure = Figure(figsize=(13, sum(heights) + 0.7), dpi=120, layout="constrained", facecolor="white")
    grid = figure.add_gridspec(len(heights), 2, height_ratios=heights)
    figure.suptitle(_title(runs), x=0.01, ha="left", fontsize=14, fontweight="bold", color=_INK)
    if bars is not None:
        _bars(figure.add_subplot(grid[0, :]), bars)
    for number, chart in enumerate(charts):
        line, column = divmod(number, 2)
        _chart(figure.add_subplot(grid[line + (bars is not None), column]), chart)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph .* missing")  # names in a script that the font lacks
        write_atomic(path, lambda temporary: figure.savefig(temporary, format="png"))


def _title(runs: Sequence[Run]) -> str:
    if len(runs) > 1:
        return _plain(" and ".join(run.label for run in runs))
    run = runs[0]
    title = f"{short_model(run.config.model)} on {short_data(run.config.data)}"
    final, dense = run.final, run.dense
    if final is not None and dense is not None:
        title += (
            f": {with_error(final.accuracy, final.accuracy_se)} % at {final.macs / dense.macs:.3f} of the MACs "
            f"(dense {with_error(dense.accuracy, dense.accuracy_se)} %)"
        )
    return _plain(title if run.report is not None else title + " (unfinished)")


def _plain(text: str) -> str:
    """Return text in which nothing is read as a formula."""
    return "".join(c if c.isprintable() else "\ufffd" for c in text).replace("$", r"\$")


def _frame(axes: Any, title: str) -> None:
    axes.set_title(_plain(title), loc="left", fontsize=11, color=_INK)
    axes.grid(axis="y", color=_LINE, linewidth=0.8)
    axes.set_axisbelow(True)
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.tick_params(labelsize=9, colors=_INK, length=3)


def _bars(axes: Any, picture: Bars) -> None:
    places = range(len(picture.bars))
    axes.bar(
        places, [bar.before for bar in picture.bars], width=0.74, facecolor="none", edgecolor="#57606a", linewidth=0.9
    )
    axes.bar(
        places,
        [bar.after for bar in picture.bars],
        width=0.74,
        color=[_WHOLE if bar.kind == "whole" else LOOKS["agent"].light for bar in picture.bars],
    )
    for place, bar in enumerate(picture.bars):
        if bar.rule is not None:
            axes.plot([place - 0.45, place + 0.45], [bar.rule] * 2, color=LOOKS["uniform"].light, linewidth=2)
        if bar.residual:
            axes.annotate("⊕", (place, bar.before), ha="center", va="bottom", fontsize=8, color=_INK)
    step = max(1, -(-len(picture.bars) // 90))
    axes.set_xticks(list(places)[::step], [_plain(bar.name[-24:]) for bar in picture.bars][::step], rotation=90)
    axes.set_ylabel(_plain(picture.y_label), fontsize=10)
    axes.set_xlim(-0.8, len(picture.bars) - 0.2)
    said = ["outline: before"] + ([f"line: {picture.rule}"] if picture.rule else [])
    said += ["⊕: crosses a residual join"] if any(bar.residual for bar in picture.bars) else []
    title = f"{picture.title} ({', '.join(said)})"
    _frame(axes, title)
    axes.tick_params(axis="x", labelsize=7.5)


def _chart(axes: Any, chart: Chart) -> None:
    x, y = axes_of(chart)
    for level in chart.levels:
        axes.axhline(
            level.y, color=LOOKS[level.look].light, linestyle=(0, (6, 3)), linewidth=1.3, label=_plain(level.name)
        )
    for series in chart.series:
        _series(axes, series, y.low)
    axes.set_xlim(x.low, x.high)
    axes.set_ylim(y.low, y.high)
    axes.set_xlabel(_plain(chart.x_label), fontsize=10)
    axes.set_ylabel(_plain(chart.y_label), fontsize=10)
    _frame(axes, chart.title)
    if axes.get_legend_handles_labels()[0]:
        axes.legend(fontsize=8.5, frameon=False, ncols=3, loc="upper center", bbox_to_anchor=(0.5, -0.13))


def _series(axes: Any, series: Series, low: float) -> None:
    points = [point for point in series.points if math.isfinite(point.x) and math.isfinite(point.y)]
    look = LOOKS[series.look]
    colour = look.light if series.shade is None else shade(series.shade)
    axes.plot(
        [point.x for point in points],
        [max(point.y, low) for point in points],
        color=colour,
        label=_plain(series.name) if series.legend and points else None,
        linestyle="" if not series.line else "--" if series.dashed else "-",
        drawstyle="steps-post" if series.line == "step" else "default",
        linewidth=1.0 if series.shade is not None else 1.9,
        marker=_MARKERS[look.marker] if series.marks else "",
        markersize=3.2 if series.faint or series.shade is not None else 13 if look.marker == "star" else 8,
        markeredgecolor="white" if look.marker not in ("cross", "plus") and not series.faint else colour,
        markeredgewidth=0.6 if look.marker not in ("cross", "plus") else 1.0,
        alpha=0.45 if series.faint else 1.0,
    )
