"""Several runs over one another: table side by side, learning curves, accuracy against size, policies."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence

from autoprune.budget import amount
from autoprune.page._cells import table_box, value_cell
from autoprune.page._headline import best_tuned, short_data, short_model
from autoprune.page._html import Html, el, join
from autoprune.page._numbers import named, plural, said, title, with_error
from autoprune.page._policy import ratios_of
from autoprune.page._run import Run
from autoprune.page._search import agents_of, best_so_far, merit, merit_label, places, switch, thinned
from autoprune.page._spec import Chart, Point, Series
from autoprune.page._style import run_look
from autoprune.page._svg_chart import chart_figure
from autoprune.page._verdict import best_rule, compare, size
from autoprune.report import Row
from autoprune.support.text import short

_CLOUD = 250  # markers per run


def comparison(runs: Sequence[Run]) -> Html:
    """Return everything that compares the runs."""
    curves = learning_curves(runs)
    size = against_size(runs, params=False), against_size(runs, params=True)
    kept = keep_ratios(runs)
    return join(
        el("h1", f"{plural(len(runs), 'run')} side by side"),
        el("p", " · ".join(f"{name} {values[0]}" for name, values in _setups(runs) if len(set(values)) == 1), class_="kicker"),
        el("p", _lead(runs), class_="lead"),
        side_by_side(runs),
        differences(runs),
        el("h2", "The searches"),
        el("p", "The rewards of the runs differ, so their learning curves have no common axis.") if curves is None else None,
        el(
            "div",
            el("div", switch("c-x", ("policies scored", "cost"), *curves)) if curves is not None else None,
            el("div", switch("c-s", ("multiply-adds", "parameters"), *size)),
            class_="pair",
        ),
        el("h2", "The policies"),
        el("p", "The runs decide different coupling groups, so their policies have no common axis.")
        if kept is None
        else join(el("div", chart_figure(kept), policies_table(runs), class_="pair")),
        el("h2", "Each run"),
    )  # fmt: skip


def _lead(runs: Sequence[Run]) -> str:
    unfinished = sum(run.report is None for run in runs)
    rest = f" {plural(unfinished, 'run is', 'runs are')} not finished." if unfinished else ""
    done = sorted(
        ((run, row) for run in runs if (row := run.final) is not None),
        key=lambda pair: -pair[0].metric.sign * pair[1].accuracy,
    )
    if not done:
        return f"Nothing to compare yet:{rest}"
    if len({(run.config.data_fingerprint, run.part) for run, _ in done}) > 1:
        return f"The runs are measured on different images, so their results do not compare.{rest}"
    if len({run.metric for run, _ in done}) > 1:
        return f"The runs are measured in different metrics, so their results do not compare.{rest}"
    best, final = done[0]
    metric = best.metric
    text = f"{best.label} has the best refitted network: {said(metric, final.accuracy, final.accuracy_se)}"
    if best.dense is not None:
        text += f" at {final.macs / best.dense.macs:.3f} of the multiply-adds"
    if len(done) > 1:
        found = compare([row for _, row in done], 0, 1, metric)
        chance = "" if found.p is None else ", more than chance" if found.shown else ": no difference is shown"
        text += f"; {done[1][0].label} is {size(found, metric)} behind on the same images{chance}"
    return f"{text}.{rest}"


def side_by_side(runs: Sequence[Run]) -> Html:
    """Return a table with a line per run."""
    metrics = {run.metric for run in runs}
    label = named(runs[0].metric) if len(metrics) == 1 else "metric"
    told = tuple(name for name, values in _setups(runs) if len(set(values)) > 1)
    head = ("", *told, label, "dense", "MACs ratio", "param. ratio", "fine-tuned", "best rule")
    timed = any(run.final is not None and run.final.measured for run in runs)
    head += ("time, measured",) if timed else ()
    head += ("policies", "cost")
    note = (
        f"{label[:1].upper()}{label[1:]} ± one standard error of the agent's refitted network, on images that the search did not "
        "see where there are such. Cost in passes of the dense network over the search images, all in all."
    )
    return table_box(
        "runs", note, head, [_line(runs, number, timed=timed) for number in range(len(runs))], label="Table of runs"
    )


def _setups(runs: Sequence[Run]) -> list[tuple[str, list[str]]]:
    """Return what tells the runs apart, with a value per run."""
    return [
        ("model", [short_model(run.config.model) for run in runs]),
        ("data", [short_data(run.config.data) for run in runs]),
        ("budget", [str(run.config.budget) for run in runs]),
        ("agent", [run.config.agent for run in runs]),
        ("seed", [str(run.config.seed) for run in runs]),
        ("metric", [run.metric.name for run in runs]),
    ]


def _line(runs: Sequence[Run], number: int, *, timed: bool) -> Html:
    run = runs[number]
    final, dense, rule, tuned = run.final, run.dense, best_rule(run), best_tuned(run)
    result = tuned.result if tuned is not None else None
    total = (run.report or {}).get("total_cost")
    return el(
        "tr",
        el("th", run.label, "" if run.report is not None else " (unfinished)", scope="row"),
        *(el("td", values[number]) for _, values in _setups(runs) if len(set(values)) > 1),
        _accuracy(run, "accuracy", final),
        _accuracy(run, "dense", dense),
        el("td", f"{final.macs / dense.macs:.3f}" if final and dense else "–"),
        el("td", f"{final.params / dense.params:.3f}" if final and dense else "–"),
        el("td", with_error(run.metric, result["accuracy"], result.get("accuracy_se")) if result is not None else "–"),
        el("td", f"{run.metric.text(rule.accuracy)} ({rule.name})" if rule is not None else "–"),
        _time(final) if timed else None,
        el("td", f"{len(run.episodes):,}"),
        value_cell(run.label, "total_cost", total, "–" if total is None else f"{total:,.0f}"),
    )  # fmt: skip


def _time(final: Row | None) -> Html:
    if final is None or not final.measured:
        return el("td", "–")
    found = final.measured
    return el("td", f"{amount('latency', found['seconds'])} ({found['ratio']:.3f})")


def _accuracy(run: Run, field: str, row: Row | None) -> Html:
    if row is None:
        return value_cell(run.label, field, None, "–")
    return value_cell(run.label, field, row.accuracy, with_error(run.metric, row.accuracy, row.accuracy_se))


def differences(runs: Sequence[Run]) -> Html:
    """Return a table of the options in which the runs differ."""
    configs = [run.config.to_dict() for run in runs]
    keys = [key for key in configs[0] if any(config[key] != configs[0][key] for config in configs)]
    if not keys:
        return el("p", "Their configurations are equal.", class_="note")

    def shown(value: object) -> str:
        return short(value if isinstance(value, str) else json.dumps(value))

    lines = (
        el("tr", el("th", key, scope="row"), *(el("td", shown(config[key]), class_="text") for config in configs))
        for key in keys
    )
    head = el("tr", el("th", "", scope="col"), *(el("th", run.label, scope="col", class_="text") for run in runs))
    return el(
        "details",
        el("summary", "What differs in their configurations"),
        el("div", el("table", el("thead", head), el("tbody", *lines)), class_="scroll wrap"),
    )


def learning_curves(runs: Sequence[Run]) -> tuple[Chart, Chart] | None:
    """Return best so far of every run's own agent against policies and against cost; None if rewards differ."""
    if len({run.config.reward for run in runs}) > 1:
        return None
    return _learning(runs, cost=False), _learning(runs, cost=True)


def _learning(runs: Sequence[Run], *, cost: bool) -> Chart:
    clouds, curves = [], []
    for number, run in enumerate(runs):
        episodes = agents_of(run).get(run.config.agent, [])
        if not episodes:
            continue
        x = places(episodes, cost=cost)
        points = [
            Point(place, merit(run, e), f"{run.label}, {e.agent}, policy {e.episode + 1}: {merit(run, e):.4g}")
            for e, place in zip(episodes, x, strict=True)
        ]
        clouds.append(Series(run.label, tuple(thinned(points, _CLOUD)), run_look(number), faint=True, legend=False))
        best = best_so_far(run, episodes, x)
        curves.append(Series(f"{run.label}, {run.config.agent}", best, run_look(number), line="step"))
    return Chart(
        f"c-{'cost' if cost else 'learning'}",
        "Learning curves of the runs' agents",
        "cost so far, in passes of the dense network" if cost else "policies scored",
        merit_label(runs[0]),
        (*clouds, *curves),
        note="Faint marks are single policies, the line is the best so far within the budget.",
        x_from_zero=True,
        whole_x=not cost,
    )


def against_size(runs: Sequence[Run], *, params: bool) -> Chart:
    """Return accuracy against multiply-adds (or parameters) of all runs; as shares of the dense where all are known."""
    units = [(run.dense.params if run.dense else None) if params else run.dense_macs for run in runs]
    shares = None not in units
    series: list[Series] = []
    finals: list[Series] = []
    for number, run in enumerate(runs):
        unit = (units[number] if shares else None) or 1e6
        cloud = [
            Point(
                (e.score.params if params else e.score.macs) / unit,
                run.metric.scale * e.score.accuracy,
                f"{run.label}, {e.agent}, policy {e.episode + 1}: {said(run.metric, e.score.accuracy)}",
            )
            for e in run.episodes
            if e.agent == run.config.agent
        ]
        series.append(Series(run.label, tuple(thinned(cloud, _CLOUD)), run_look(number), faint=True, legend=False))
        rows = [row for row in (run.final, run.dense) if row is not None]
        points = tuple(
            Point(
                (row.params if params else row.macs) / unit,
                run.metric.scale * row.search_accuracy,
                f"{run.label}, {row.name}: {said(run.metric, row.search_accuracy)} on the search part, "
                f"{said(run.metric, row.accuracy, row.accuracy_se)} on the {run.part} part",
            )
            for row in rows
        )
        finals.append(Series(f"{run.label}, pruned and dense", points, run_look(number), line="straight", dashed=True))
    what = "parameters" if params else "multiply-adds"
    return Chart(
        "c-params" if params else "c-macs",
        f"{title(runs[0].metric)} against {what}",
        f"share of the dense network's {what}" if shares else f"million {what}",
        named(runs[0].metric, " on the search part"),
        (*series, *finals),
        note="Faint marks are policies as scored in the search, large ones finished networks.",
        x_from_zero=True,
    )


def _same_groups(runs: Sequence[Run]) -> bool:
    sizes = [run.sizes() for run in runs if run.final is not None]
    return bool(sizes) and bool(sizes[0]) and all(list(other.items()) == list(sizes[0].items()) for other in sizes)


def keep_ratios(runs: Sequence[Run]) -> Chart | None:
    """Return what every run's policy keeps, group by group; None if the groups are not the same."""
    if not _same_groups(runs):
        return None
    series = []
    for number, run in enumerate(runs):
        if run.final is None:
            continue
        points = tuple(
            Point(place + 1, kept / size, f"{run.label}: {name} keeps {kept} of {size} channels")
            for place, (name, (kept, size)) in enumerate(ratios_of(run, run.final).items())
        )
        series.append(Series(run.label, points, run_look(number), line="straight"))
    return Chart(
        "c-keeps",
        "What each run's policy keeps",
        "coupling group, in execution order",
        "share of its channels kept",
        tuple(series),
        whole_x=True,
    )


def policies_table(runs: Sequence[Run]) -> Html:
    """Return the kept channels of every group, a column per run."""
    done = [run for run in runs if run.final is not None]
    sizes = done[0].sizes()
    cell: Callable[[Run, str], Html] = lambda run, name: el(  # noqa: E731
        "td", str(run.final.counts[name]) if run.final is not None else "–"
    )
    lines = (
        el("tr", el("th", name, scope="row"), el("td", str(size)), *(cell(run, name) for run in done))
        for name, size in sizes.items()
    )
    head = el("tr", *(el("th", text, scope="col") for text in ("group", "dense", *(run.label for run in done))))
    return el(
        "details",
        el("summary", "Channels kept as a table"),
        el("div", el("table", el("thead", head), el("tbody", *lines), data_table="policies"), class_="scroll"),
    )
