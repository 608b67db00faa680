"""A search's result as one figure: what every finished network reaches, and what stays of every group. Drawn with matplotlib."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

from autoprune.report._table import metric_of
from autoprune.support.packages import require

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_RESULT, _OTHER = "#0072b2", "#a0a0a0"


class ResultInfo(NamedTuple):
    """What is drawn.

    Attributes:
        label: What the networks are measured by, with the part and the unit.
        names: The finished networks, the dense one first.
        values: Their metric, as shown.
        errors: Its standard errors; 0 where none is known.
        exported: Which of them is the result.
        groups: The groups that were decided.
        kept: What stays of each in the result, in [0, 1].
    """

    label: str
    names: tuple[str, ...]
    values: tuple[float, ...]
    errors: tuple[float, ...]
    exported: str
    groups: tuple[str, ...]
    kept: tuple[float, ...]


def result_info(report: Mapping[str, Any]) -> ResultInfo:
    """Return what is drawn of a report. Pure."""
    metric, rows, dense = metric_of(report), report["rows"], report["dense"]["counts"]
    counts = report["final"]["counts"]
    return ResultInfo(
        f"{metric.name} on the {report['accuracy_part']} part{metric.unit}",
        tuple(row["name"] for row in rows),
        tuple(metric.scale * row["accuracy"] for row in rows),
        tuple(metric.scale * (row["accuracy_se"] or 0.0) for row in rows),
        report["exported"],
        tuple(counts),
        tuple(counts[name] / dense[name] for name in counts),
    )


def result_figure(report: Mapping[str, Any]) -> Figure:
    """Draw a report's finished networks with their standard errors, and the share of each group that stays in the result.

    Args:
        report: As in a run folder's ``report.json``.

    Raises:
        UsageError: if matplotlib is not installed.
    """
    require("A figure of the result needs", "matplotlib")
    from matplotlib.figure import Figure  # no pyplot: nothing global, no display needed

    info = result_info(report)
    longest = max(len(info.names), len(info.groups))
    figure = Figure(figsize=(10, min(30.0, max(3.0, 0.26 * longest + 1.2))), layout="constrained")
    reached, stays = figure.subplots(1, 2)
    colours = [_RESULT if name == info.exported else _OTHER for name in info.names]
    reached.errorbar(info.values, info.names, xerr=info.errors, fmt="none", ecolor="#505050", zorder=1)
    reached.scatter(info.values, info.names, c=colours, zorder=2)
    reached.set_xlabel(f"{info.label}, with standard errors")
    stays.barh(info.groups, [100 * share for share in info.kept], color=_RESULT)
    stays.set_xlim(0, 100)
    stays.set_xlabel(f"% of the group's channels in {info.exported}'s network")
    for axes in (reached, stays):
        axes.invert_yaxis()
        axes.tick_params(labelsize=8)
        axes.spines[["top", "right"]].set_visible(False)
    return figure
