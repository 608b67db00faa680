"""A picture of a network's coupling groups, in the manner of a metro map.

Time runs to the right: every convolution and linear layer is a stop in execution order. Every coupling group is a line of its
own colour, from the first layer that makes its channels to the last one that reads them; a layer is the vertical stroke from the
lines it reads to the line it makes. Below, what the layers cost. `picture` computes, `draw` draws (with matplotlib).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from autoprune.errors import UsageError
from autoprune.support.files import write_atomic
from autoprune.support.packages import require

SUFFIXES = (".png", ".svg", ".pdf")
_COLOURS = (
    *("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#7b4ea3", "#8c564b"),
    *("#117733", "#aa4499", "#332288", "#b8a000"),
)
WHOLE = "#a0a0a0"
IMAGE = -0.6  # height of the image's mark
LEGEND = (
    "A line is a coupling group: its letter, its channels (bold: crosses a residual join; dashed grey: cannot be pruned).\n"
    "A stroke is a layer: ○ reads the group, ● makes its channels, ▼ reads the image."
)


class Line(NamedTuple):
    """A coupling group as a line.

    Attributes:
        letter: The group's letters.
        channels: Its size.
        residual: Whether it crosses a residual join.
        prunable: Whether it can be pruned.
        colour: Its colour, as ``#rrggbb``; grey if it cannot be pruned.
        row: Its height, 0 the topmost.
        start: Number of the first layer that makes or reads it.
        end: Number of the last one.
    """

    letter: str
    channels: int
    residual: bool
    prunable: bool
    colour: str
    row: int
    start: int
    end: int


class Stop(NamedTuple):
    """A layer as a stop.

    Attributes:
        name: The layer's name.
        reads: Numbers of the lines that it reads; none for the image.
        writes: Numbers of the lines that it makes.
        share: Its share of the network's MACs.
    """

    name: str
    reads: tuple[int, ...]
    writes: tuple[int, ...]
    share: float


class Picture(NamedTuple):
    """All that is to be drawn.

    Attributes:
        title: A line about the network.
        lines: Its coupling groups, in the order of ``inspect``.
        stops: Its layers in execution order.
        rows: How many heights the lines take.
    """

    title: str
    lines: tuple[Line, ...]
    stops: tuple[Stop, ...]
    rows: int


def picture(found: Mapping[str, Any]) -> Picture:
    """Lay out what `autoprune.inspection.inspect_model` found. Pure; lines that do not overlap share a height."""
    groups, layers = found["groups"], found["layers"]
    number = {group["name"]: place for place, group in enumerate(groups)}
    stops = tuple(
        Stop(
            layer["name"],
            tuple(number[name] for name in layer["in_groups"]),
            tuple(number[name] for name in layer["out_groups"]),
            layer["macs"] / max(1, found["macs"]),
        )
        for layer in layers
    )
    spans: list[tuple[int, int]] = []
    for place in range(len(groups)):
        at = [x for x, stop in enumerate(stops) if place in stop.reads or place in stop.writes]
        spans.append((at[0], at[-1]) if at else (0, 0))
    rows = _rows(spans, [group["kind"] == "residual" for group in groups])
    lines, used = [], 0
    for group, row, (start, end) in zip(groups, rows, spans, strict=True):
        colour = _COLOURS[used % len(_COLOURS)] if group["prunable"] else WHOLE
        used += bool(group["prunable"])
        residual = group["kind"] == "residual"
        lines.append(Line(group["letter"], group["channels"], residual, group["prunable"], colour, row, start, end))
    prunable = sum(line.prunable for line in lines)
    title = (
        f"{found.get('model', 'network')}: {len(stops)} layers, {found['macs'] / 1e6:,.1f} M MACs, {prunable} of "
        f"{len(lines)} coupling groups can be pruned"
    )
    return Picture(title, tuple(lines), stops, max(rows, default=0) + 1)


def _rows(spans: Sequence[tuple[int, int]], residual: Sequence[bool]) -> list[int]:
    """Give every line the first height where it fits, the residual ones before the others so that they lie on top."""
    rows = [0] * len(spans)
    taken: list[list[tuple[int, int]]] = []
    for first in (True, False):
        floor = 0 if first else len(taken)
        for place in sorted(range(len(spans)), key=lambda p: spans[p]):
            if residual[place] is not first:
                continue
            start, end = spans[place]
            row = floor
            while row < len(taken) and any(
                start <= other_end and other_start <= end for other_start, other_end in taken[row]
            ):
                row += 1
            if row == len(taken):
                taken.append([])
            taken[row].append((start, end))
            rows[place] = row
    return rows


def check_path(path: Path) -> None:
    """See that a picture can be drawn to ``path``.

    Raises:
        UsageError: if its ending is not known, or matplotlib is not installed.
    """
    if path.suffix.lower() not in SUFFIXES:
        raise UsageError(f"The picture '{path}' must end in {', '.join(SUFFIXES[:-1])} or {SUFFIXES[-1]}.")
    require("Pictures need", "matplotlib")


def draw(picture: Picture, path: Path) -> None:
    """Draw a picture into a PNG, SVG or PDF file, written atomically.

    Args:
        picture: What to draw.
        path: The file.

    Raises:
        UsageError: see `check_path`; also if the file cannot be written.
    """
    check_path(path)
    from matplotlib import rc_context
    from matplotlib.figure import Figure  # no pyplot: nothing global, no display needed

    count = max(1, len(picture.stops))
    width, map_height = min(60.0, max(9.0, 0.24 * count + 1.5)), min(30.0, 0.42 * picture.rows + 0.6)
    figure = Figure(figsize=(width, map_height + 3.4), dpi=110, layout="constrained")
    top, bottom = figure.subplots(2, 1, sharex=True, height_ratios=[map_height, 1.1])
    _draw_lines(top, picture)
    _draw_stops(top, picture)
    top.set_title(picture.title, loc="left", fontsize=11, pad=27)
    top.text(0, 1, LEGEND, transform=top.transAxes, fontsize=7, color="#505050", va="bottom").set_in_layout(False)
    top.set_ylim(picture.rows - 0.4, -0.9)
    top.set_yticks([])
    top.tick_params(bottom=False)
    bottom.bar(
        range(len(picture.stops)),
        [100 * stop.share for stop in picture.stops],
        color=[picture.lines[stop.writes[0]].colour if stop.writes else WHOLE for stop in picture.stops],
        width=0.7,
    )
    bottom.set_ylabel("% of MACs", fontsize=8)
    bottom.tick_params(axis="y", labelsize=7)
    bottom.set_xticks(range(len(picture.stops)), [stop.name for stop in picture.stops], rotation=90, fontsize=7)
    bottom.set_xlim(-1.2, count - 0.4)
    for axes in (top, bottom):
        axes.spines[["top", "right", "left"]].set_visible(False)
    top.spines["bottom"].set_visible(False)
    kind = path.suffix[1:].lower()
    with rc_context({"svg.fonttype": "none", "svg.hashsalt": "autoprune"}):  # text stays text, ids stay the same
        metadata = {"Date": None} if kind == "svg" else None
        write_atomic(path, lambda temporary: figure.savefig(temporary, format=kind, metadata=metadata))


def _draw_lines(axes: Any, picture: Picture) -> None:
    for line in picture.lines:
        wide = 1.5 + 0.9 * math.log2(max(2, line.channels)) / 2
        x: list[float] = [line.start, max(line.end, line.start + 0.4)]
        style = "-" if line.prunable else (0, (2, 1))
        axes.plot(
            x,
            [line.row, line.row],
            color=line.colour,
            linewidth=wide,
            linestyle=style,
            solid_capstyle="round",
            zorder=2,
        )
        axes.annotate(
            f"{line.letter} {line.channels}",
            (line.start, line.row),
            xytext=(5, 4),
            textcoords="offset points",
            fontsize=7.5,
            fontweight="bold" if line.residual else "normal",
            color=line.colour if line.prunable else "#606060",
            zorder=5,
            bbox={"facecolor": "white", "edgecolor": "none", "alpha": 0.8, "pad": 0.2},  # over the strokes
        )


def _draw_stops(axes: Any, picture: Picture) -> None:
    made = [(x, picture.lines[place].row) for x, stop in enumerate(picture.stops) for place in stop.writes]
    read = [(x, picture.lines[place].row) for x, stop in enumerate(picture.stops) for place in stop.reads]
    read = [at for at in read if at not in set(made)]
    image = [(x, IMAGE) for x, stop in enumerate(picture.stops) if not stop.reads]
    for x in range(len(picture.stops)):
        rows = [row for at, row in (*made, *read, *image) if at == x]
        axes.plot([x, x], [min(rows), max(rows)], color="#404040", linewidth=0.9, zorder=1)
    for marks, marker, inside in ((image, "v", "#404040"), (read, "o", "white"), (made, "o", "#202020")):
        axes.plot(
            [x for x, _ in marks],
            [row for _, row in marks],
            marker=marker,
            linestyle="",
            markerfacecolor=inside,
            markeredgecolor="#303030",
            markersize=4.5,
            zorder=4,
        )
