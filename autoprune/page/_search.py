"""The search: score and best so far against policies scored and against cost, and accuracy against size."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

from autoprune.page._html import Html, el, join
from autoprune.page._numbers import named, said, title
from autoprune.page._run import Run
from autoprune.page._spec import Chart, Level, Point, Series
from autoprune.page._style import LOOKS
from autoprune.page._svg_chart import chart_figure
from autoprune.runs import Episode

MOST_POINTS = 600
"""Markers of one cloud; of more, every so many-th is drawn."""


def look_of(run: Run, name: str) -> str:
    """Return the look of an agent or rule on its run's page."""
    return "agent" if name == run.config.agent else name if name in LOOKS else "other"


def agents_of(run: Run) -> dict[str, list[Episode]]:
    """Return the episodes of each agent and rule; the run's own agent last, so that it is drawn on top."""
    found: dict[str, list[Episode]] = {}
    for episode in run.episodes:
        found.setdefault(episode.agent, []).append(episode)
    own = found.pop(run.config.agent, None)
    if own is not None:
        found[run.config.agent] = own
    return found


def merit(run: Run, episode: Episode) -> float:
    """Return what policies are judged by: the metric as it is shown, or the reward where that is another."""
    return run.metric.scale * episode.score.accuracy if run.by_metric else episode.score.reward


def merit_label(run: Run) -> str:
    """Return what ``merit`` is, for an axis."""
    return named(run.metric, " on the search part") if run.by_metric else f"reward ({run.config.reward})"


def best_so_far(run: Run, episodes: Sequence[Episode], x: Sequence[float]) -> tuple[Point, ...]:
    """Return the steps of the best merit within the budget, ending where the search ends."""
    points: list[Point] = []
    best = -math.inf
    for episode, place in zip(episodes, x, strict=True):
        value = merit(run, episode)
        if episode.feasible and value > best:
            best = value
            points.append(Point(place, value, f"{episode.agent}, policy {episode.episode + 1}: {value:.4g}"))
    if points and x[-1] > points[-1].x:
        points.append(Point(x[-1], best, f"{episodes[-1].agent}, best of {len(episodes)}: {best:.4g}"))
    return tuple(points)


def places(episodes: Sequence[Episode], *, cost: bool) -> list[float]:
    """Return where each episode stands: its number from 1, or the cost in dense passes up to it."""
    if not cost:
        return [float(episode.episode + 1) for episode in episodes]
    total, found = 0.0, []
    for episode in episodes:
        total += 0.0 if episode.reused or not math.isfinite(episode.score.cost) else episode.score.cost
        found.append(total)
    return found


def learning_curve(run: Run, key: str, *, cost: bool) -> Chart:
    """Return score and best so far of every agent and rule."""
    clouds, curves, levels = [], [], []
    for name, episodes in agents_of(run).items():
        look, x = look_of(run, name), places(episodes, cost=cost)
        if len(episodes) == 1 and name != run.config.agent:
            levels.append(Level(f"{name}, one policy", merit(run, episodes[0]), look))
            continue
        points = [
            Point(place, merit(run, episode), _said(run, episode)) for episode, place in zip(episodes, x, strict=True)
        ]
        clouds.append(Series(name, tuple(thinned(points)), look, faint=True, legend=False))
        curves.append(Series(f"{name}, best so far", best_so_far(run, episodes, x), look, line="step"))
    if run.dense is not None and run.by_metric:
        levels.insert(0, Level("dense", run.metric.scale * run.dense.search_accuracy, "dense"))
    note = (
        "One mark is one policy as the search scored it; finished networks are refitted on more images, so they score "
        "differently. Best so far counts policies within the budget only."
    )
    return Chart(
        f"{key}{'cost' if cost else 'learning'}",
        "Learning curve",
        "cost so far, in passes of the dense network" if cost else "policies scored",
        merit_label(run),
        (*clouds, *curves),
        tuple(levels),
        note,
        x_from_zero=True,
        whole_x=not cost,
    )


def against_size(run: Run, key: str, *, params: bool) -> Chart:
    """Return accuracy against multiply-adds (or parameters) of every policy scored, and of the finished networks."""
    series = []
    for name, episodes in agents_of(run).items():
        points = [
            Point(
                (episode.score.params if params else episode.score.macs) / 1e6,
                run.metric.scale * episode.score.accuracy,
                _said(run, episode),
            )
            for episode in episodes
        ]
        look = look_of(run, name)
        finished = run.row(name) is not None
        series.append(Series(f"{name}, scored", tuple(thinned(points)), look, faint=True, legend=not finished))
    for row in run.rows:
        size = (row.params if params else row.macs) / 1e6
        hint = (
            f"{row.name}, finished: {said(run.metric, row.search_accuracy)} on the search part, "
            f"{said(run.metric, row.accuracy, row.accuracy_se)} on the {run.part} part; {size:.4g} M"
        )
        kind = "" if row.name == "dense" else ", finished"
        point = Point(size, run.metric.scale * row.search_accuracy, hint)
        series.append(Series(f"{row.name}{kind}", (point,), look_of(run, row.name)))
    for tuned in run.tuned:
        if tuned.result is not None:
            result, size = tuned.result, tuned.result["params" if params else "macs"] / 1e6
            hint = f"{tuned.name}: {said(run.metric, result['search_accuracy'])} on the search part; {size:.4g} M"
            point = Point(size, run.metric.scale * result["search_accuracy"], hint)
            scratch = bool(result.get("from_scratch"))
            name = f"{'from scratch' if scratch else 'fine-tuned'} ({tuned.name})"
            series.append(Series(name, (point,), "other" if scratch else "tuned"))
    what = "parameters" if params else "multiply-adds"
    return Chart(
        f"{key}{'params' if params else 'macs'}",
        f"{title(run.metric)} against {what}",
        f"million {what}",
        named(run.metric, " on the search part"),
        tuple(series),
        note="Faint marks are policies as scored in the search, large ones finished networks.",
        x_from_zero=True,
    )


def search_section(run: Run, key: str) -> Html | None:
    """Return the section with these charts."""
    if not run.episodes:
        return None
    return join(
        el("h2", "The search"),
        el(
            "div",
            switch(
                f"{key}x",
                ("policies scored", "cost"),
                learning_curve(run, key, cost=False),
                learning_curve(run, key, cost=True),
            ),
            switch(
                f"{key}s",
                ("multiply-adds", "parameters"),
                against_size(run, key, params=False),
                against_size(run, key, params=True),
            ),
            class_="pair",
        ),
    )


def switch(key: str, names: tuple[str, str], one: Chart, two: Chart) -> Html:
    """Return two charts of which one is seen, chosen by a pair of radio buttons (no script).

    Args:
        key: Unique on the page.
        names: What the buttons say.
        one: Seen first.
        two: The other.
    """
    first, second = f"{key}1", f"{key}2"
    return el(
        "fieldset",
        el("legend", "Against"),
        el("input", type="radio", name=key, id=first, checked=True),
        el("label", names[0], for_=first),
        el("input", type="radio", name=key, id=second),
        el("label", names[1], for_=second),
        el("div", chart_figure(one), class_="panel one"),
        el("div", chart_figure(two), class_="panel two"),
        class_="switch",
    )


def thinned(points: Sequence[Point], most: int = MOST_POINTS) -> Iterable[Point]:
    """Return at most ``most`` points, evenly chosen."""
    if len(points) <= most:
        return points
    return [points[number * len(points) // most] for number in range(most)]


def _said(run: Run, episode: Episode) -> str:
    score = episode.score
    reward = "" if run.by_metric else f", reward {score.reward:.4g}"
    return (
        f"{episode.agent}, policy {episode.episode + 1}: {said(run.metric, score.accuracy)}{reward}, {score.macs:,} MACs, "
        f"{score.params:,} parameters{'' if episode.feasible else ', above the budget'}"
    )
