"""A front of accuracy against cost: every agent's, by scores, and the finished points of the agent's."""

from __future__ import annotations

from autoprune.budget import amount, noun
from autoprune.page._cells import table_box, value_cell
from autoprune.page._html import Html, el, join
from autoprune.page._numbers import named, said, title, with_error
from autoprune.page._run import Run
from autoprune.page._search import agents_of, look_of
from autoprune.page._spec import Chart, Level, Point, Series
from autoprune.page._svg_chart import chart_figure
from autoprune.searching import front


def front_chart(run: Run, key: str) -> Chart | None:
    """Return the fronts as a chart; None if none was asked for, or nothing is scored yet."""
    kind = run.config.budget.minimize
    dense = run.dense
    if kind is None or run.config.budget.max_drop is not None or not run.episodes or dense is None:
        return None
    whole = dense.cost(kind)
    series = []
    for name, episodes in agents_of(run).items():
        points = tuple(
            Point(
                episode.score.of(kind) / whole,
                run.metric.scale * episode.score.accuracy,
                f"{name}: {said(run.metric, episode.score.accuracy)} at {amount(kind, episode.score.of(kind))}",
            )
            for episode in front([e for e in episodes if e.feasible], kind)
        )
        series.append(Series(name, points, look_of(run, name), line="step"))
    finished = tuple(
        Point(
            row["cost"] / whole,
            run.metric.scale * row["search_accuracy"],
            f"{row['name']}, finished: {said(run.metric, row['search_accuracy'])} at {amount(kind, row['cost'])}",
        )
        for row in (run.report or {}).get("front", {}).get("points", ())
    )
    if finished:
        series.append(Series(f"{run.config.agent}, finished", finished, "tuned"))
    return Chart(
        f"{key}front",
        f"{title(run.metric)} against {noun(kind)}",
        f"share of the dense network's {noun(kind)}",
        named(run.metric, " on the search part"),
        tuple(series),
        levels=(Level("dense", run.metric.scale * dense.search_accuracy, "dense"),),
        note="A line is an agent's front: of what it scored, the policies than which none is both smaller and more accurate.",
        x_from_zero=True,
    )


def front_section(run: Run, key: str) -> Html | None:
    """Return the section, None if no front was asked for."""
    chart = front_chart(run, key)
    if chart is None or run.report is None or "front" not in run.report:
        return None
    found = run.report["front"]
    kind = found["kind"]
    lines = [
        el(
            "tr",
            el("th", row["name"], scope="row"),
            value_cell(row["name"], "cost", row["cost"], amount(kind, row["cost"])),
            el("td", f"{row['cost'] / found['dense']:.3f}"),
            value_cell(row["name"], "search_accuracy", row["search_accuracy"], run.metric.text(row["search_accuracy"])),
            value_cell(
                row["name"], "accuracy", row["accuracy"], with_error(run.metric, row["accuracy"], row["accuracy_se"])
            ),
        )
        for row in found["points"]
    ]
    areas = ", ".join(
        f"{name} {value:.4f}" for name, value in sorted(found["areas"].items(), key=lambda item: -item[1])
    )
    return join(
        el("h2", "The front"),
        chart_figure(chart),
        table_box(
            "front",
            "The points of the agent's front, finished; policy and weights of each are in the run's folder front/.",
            ("", noun(kind), "ratio", f"search {named(run.metric)}", f"{run.part} {named(run.metric)}"),
            lines,
            label="The points of the front",
        ),
        el(
            "p",
            f"Area below each front ({run.metric.name} over the share of the cost, by scores; larger is better): {areas}.",
        ),
    )
