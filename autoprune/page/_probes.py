"""Sensitivity curves: accuracy against the keep ratio of one group at a time."""

from __future__ import annotations

from autoprune.inspection import Probe
from autoprune.page._html import Html, el, join
from autoprune.page._numbers import named, said
from autoprune.page._run import Run
from autoprune.page._spec import Chart, Point, Series
from autoprune.page._style import LOOKS
from autoprune.page._svg_chart import chart_figure

_NAMED = 4  # curves of their own colour: the most sensitive groups
_FAMILY = (
    " The most sensitive groups are named; the others' curves pass from blue (first group) to orange (last), hover to see "
    "which is which."
)
_LOOKS = ("uniform", "agent", "shallow", "deep")
assert all(look in LOOKS for look in _LOOKS)


def curves_of(run: Run) -> dict[str, list[Probe]]:
    """Return the probes of every group by rising ratio, in execution order."""
    found: dict[str, list[Probe]] = {name: [] for name in run.sizes()}
    for probe in run.probes:
        found.setdefault(probe.group, []).append(probe)
    return {name: sorted(probes, key=lambda p: p.kept) for name, probes in found.items() if probes}


def sensitivity_chart(run: Run, key: str) -> Chart | None:
    """Return one curve per group; the most sensitive ones are named, the others pass from blue (first) to orange (last)."""
    curves = curves_of(run)
    if not curves:
        return None
    dense = run.dense.search_accuracy if run.dense is not None else None
    metric = run.metric
    worst = sorted(curves, key=lambda name: min(metric.sign * probe.accuracy for probe in curves[name]))[:_NAMED]
    series: list[Series] = []
    for place, (name, probes) in enumerate(curves.items()):
        points = [
            Point(
                probe.kept / probe.size,
                metric.scale * probe.accuracy,
                f"{name}: {said(metric, probe.accuracy)} with {probe.kept} of {probe.size} channels",
            )
            for probe in probes
        ]
        if dense is not None:
            points.append(Point(1.0, metric.scale * dense, f"dense: {said(metric, dense)}"))
        if name in worst:
            series.append(Series(name, tuple(points), _LOOKS[worst.index(name)], line="straight"))
        else:
            shade = place / max(1, len(curves) - 1)
            series.append(Series(name, tuple(points), "agent", line="straight", shade=shade, legend=False))
    series.sort(key=lambda s: (s.shade is None, -worst.index(s.name) if s.name in worst else 0))
    return Chart(
        f"{key}sensitivity",
        "Sensitivity of each coupling group",
        "share of the group's channels kept",
        named(metric, " on the search part"),
        tuple(series),
        note="One group pruned at a time and refitted, all others whole."
        + (_FAMILY if len(curves) > len(worst) else ""),
    )


def sensitivity_table(run: Run) -> Html:
    """Return the curves as a table."""
    lines = []
    for name, probes in curves_of(run).items():
        text = "; ".join(f"{run.metric.text(probe.accuracy)} at {probe.kept}/{probe.size}" for probe in probes)
        lines.append(el("tr", el("th", name, scope="row"), el("td", text, class_="text")))
    head = el(
        "tr",
        el("th", "group", scope="col"),
        el("th", f"{named(run.metric)}, at channels kept", scope="col", class_="text"),
    )
    return el(
        "details",
        el("summary", "The sensitivity curves as a table"),
        el("div", el("table", el("thead", head), el("tbody", *lines)), class_="scroll wrap"),
        open=len(lines) <= 12,
    )


def sensitivity_section(run: Run, key: str) -> Html | None:
    """Return the section, None if nothing was measured."""
    chart = sensitivity_chart(run, key)
    if chart is None:
        return None
    return join(el("h2", "Sensitivity"), el("div", chart_figure(chart), sensitivity_table(run), class_="pair"))
