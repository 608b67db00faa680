"""The policy as a picture of the network, and as a table."""

from __future__ import annotations

from collections.abc import Mapping

from autoprune.page._html import Html, el, join
from autoprune.page._numbers import big
from autoprune.page._run import Run
from autoprune.page._spec import Bar, Bars, Chart, Point, Series
from autoprune.page._style import LOOKS
from autoprune.page._svg_bars import bars_figure
from autoprune.page._svg_chart import chart_figure
from autoprune.page._verdict import best_rule
from autoprune.report import Row

Ratios = Mapping[str, tuple[int, int]]


def ratios_of(run: Run, row: Row) -> dict[str, tuple[int, int]]:
    """Return group name -> (kept, size) of a row's policy."""
    sizes = run.sizes()
    return {name: (kept, sizes[name]) for name, kept in row.counts.items() if name in sizes}


def channels(run: Run, key: str) -> Bars | None:
    """Return the channels of every layer before and after; of every decided group where the layers are not known."""
    final = run.final
    if final is None or not run.sizes():
        return None
    rule = best_rule(run)
    ratios = ratios_of(run, final)
    others = ratios_of(run, rule) if rule is not None else {}
    bars = _layer_bars(run, ratios, others) if run.network is not None else _group_bars(ratios, others)
    return Bars(
        f"{key}channels",
        "Output channels of every layer, in execution order" if run.network is not None else
        "Channels of every coupling group, in execution order",
        "channels",
        tuple(bars),
        rule.name if rule is not None else "",
        "Layers whose channels are added up at a residual join lose the same channels or none."
        if run.network is not None else "",
    )  # fmt: skip


def costs(run: Run, key: str) -> Bars | None:
    """Return the multiply-adds of every layer before and after; None if they are not known exactly."""
    final, network = run.final, run.network
    if final is None or network is None or not run.sizes():
        return None
    ratios = ratios_of(run, final)
    if network.kept_macs(ratios) != final.macs:
        return None
    bars = []
    for stage in network.stages:
        after = stage.kept_macs(ratios)
        title = f"{stage.name}: {stage.macs:,} multiply-adds before, {after:,} after ({after / max(1, stage.macs):.2f})"
        kind = "smaller" if after < stage.macs else "whole"
        bars.append(Bar(stage.name, stage.macs / 1e6, after / 1e6, kind, title))
    return Bars(f"{key}costs", "Multiply-adds of every layer, in execution order", "million", tuple(bars))


def keep_ratios(run: Run, key: str) -> Chart | None:
    """Return the share of every group's channels that each policy keeps, in execution order."""
    sizes = run.sizes()
    series = []
    for row in run.rows:
        if row.name == "dense" or not sizes:
            continue
        own = row.name == run.config.agent
        points = tuple(
            Point(place + 1, kept / size, f"{row.name}: {name} keeps {kept} of {size} channels ({kept / size:.2f})")
            for place, (name, (kept, size)) in enumerate(ratios_of(run, row).items())
        )
        look = "agent" if own else row.name if row.name in LOOKS else "other"
        series.append(Series(row.name, points, look, line="straight", marks=own or len(points) <= 40, dashed=not own))
    if not series:
        return None
    return Chart(
        f"{key}keeps",
        "What each policy keeps",
        "coupling group, in execution order",
        "share of its channels kept",
        tuple(series),
        whole_x=True,
        note="The agent's policy is the solid line.",
    )


def policy_section(run: Run, key: str) -> Html | None:
    """Return the whole section."""
    picture = channels(run, key)
    if picture is None:
        return None
    cost, keeps = costs(run, key), keep_ratios(run, key)
    return join(
        el("h2", f"The policy of {run.config.agent}"),
        bars_figure(picture),
        bars_figure(cost) if cost is not None else None,
        el("div", chart_figure(keeps), policy_table(run), class_="pair") if keeps is not None else policy_table(run),
    )


def policy_table(run: Run) -> Html:
    """Return kept channels of every group as a table."""
    final = run.final
    assert final is not None
    residual = run.network.residual if run.network is not None else frozenset[str]()
    lines = []
    for name, (kept, size) in ratios_of(run, final).items():
        bar = el("span", el("i", style=f"width:{100 * kept / size:.1f}%"), class_="bar", aria_hidden="true")
        lines.append(
            el(
                "tr",
                el("th", name, " (residual)" if name in residual else None, scope="row"),
                el("td", f"{kept}", data_group=name, data_value=kept),
                el("td", f"{size}"),
                el("td", f"{kept / size:.2f}"),
                el("td", bar),
            )
        )
    head = el("tr", *(el("th", text, scope="col") for text in ("group", "kept", "of", "ratio", "")))
    return el(
        "details",
        el("summary", f"The policy as a table: {len(lines)} coupling groups"),
        el("div", el("table", el("thead", head), el("tbody", *lines), data_table="policy"), class_="scroll"),
        open=len(lines) <= 12,
    )


def _layer_bars(run: Run, ratios: Ratios, others: Ratios) -> list[Bar]:
    network = run.network
    assert network is not None
    residual = network.residual
    bars = []
    for stage in network.stages:
        before = sum(stage.channels.values())
        after = stage.kept(ratios)
        decided = any(name in ratios for name in stage.channels)
        crosses = any(name in residual for name in stage.channels)
        groups = ", ".join(name for name in stage.channels if name) or "none that can be pruned"
        kept_macs = stage.kept_macs(ratios)
        title = (
            f"{stage.name}: {after} of {before} channels ({after / before:.2f}); group {groups}"
            f"{', crosses a residual join' if crosses else ''}; "
            f"{big(kept_macs)} of {big(stage.macs)} multiply-adds"
        )
        rule = stage.kept(others) if others and decided else None
        bars.append(Bar(stage.name, before, after, "decided" if decided else "whole", title, rule, crosses))
    return bars


def _group_bars(ratios: Ratios, others: Ratios) -> list[Bar]:
    return [
        Bar(
            name,
            size,
            kept,
            "decided",
            f"{name}: {kept} of {size} channels ({kept / size:.2f})",
            others[name][0] if name in others else None,
        )
        for name, (kept, size) in ratios.items()
    ]
