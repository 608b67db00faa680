"""What a comparison of agents says: means over seeds, best-so-far curves, and which differences are more than chance."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from autoprune.comparison._merit import merit, merit_of
from autoprune.evaluation import Agents, Difference, Metric, loss_name, loss_text, stacked
from autoprune.report import Row, images_of, metric_of, short_name
from autoprune.runs import RunFolder, distinct
from autoprune.support.answers import ByImage
from autoprune.support.files import write_atomic
from autoprune.support.tables import aligned

_ENOUGH = 10**12
"""Images that leave no chance: what is compared is not measured on images."""


def summarize(
    runs: Mapping[tuple[str, int], RunFolder], *, rules: Sequence[str] = (), tuned: str | None = None
) -> dict[str, Any]:
    """Return the comparison of finished runs as JSON-ready values.

    Args:
        runs: The runs by agent and seed, every agent with every seed.
        rules: Which agents are simple rules.
        tuned: Name of a fine-tuning that every run has, which is compared too.

    Raises:
        UsageError: if a run, or its fine-tuning, is not finished.
    """
    agents = list(dict.fromkeys(agent for agent, _ in runs))
    seeds = list(dict.fromkeys(seed for _, seed in runs))
    reports = {key: folder.read_report() for key, folder in runs.items()}
    report = reports[agents[0], seeds[0]]
    judged = merit_of(report)
    standing, best = _standing(agents, judged, *results(reports, agents, seeds))
    rows = []
    for agent in agents:
        own = [reports[agent, seed] for seed in seeds]
        finals = [one["final"] for one in own]
        curves = [curve(runs[agent, seed], one, agent) for seed, one in zip(seeds, own, strict=True)]
        rows.append(
            {
                **standing[agent],
                "rule": agent in rules,
                "accuracy": float(np.mean([final["accuracy"] for final in finals])),
                "search_accuracy": float(np.mean([final["search_accuracy"] for final in finals])),
                "loss": _mean([final["loss"] for final in finals]),
                "policies": float(np.mean([len(some["reward"]) for some in curves])),
                "cost": float(np.mean([some["cost"][-1] if some["cost"] else 0.0 for some in curves])),
                "images": _mean([some["images"][-1] if some["images"] else 0.0 for some in curves]),
                "curves": curves,
            }
        )
    return {
        "version": 1,
        "model": report["model"],
        "metric": metric_of(report).to_dict(),
        "merit": judged.to_dict(),
        "budget": report["budget"],
        "part": report["accuracy_part"],
        "seeds": seeds,
        "best": best,
        "dense": float(report["dense"]["accuracy"]),
        "rows": rows,
        **({} if tuned is None else {"finetuned": _tuned(reports, agents, seeds, tuned)}),
    }


def _standing(
    agents: Sequence[str],
    judged: Metric,
    better: Sequence[Sequence[float]],
    right: Sequence[ByImage | None],
    images: int | None,
) -> tuple[dict[str, dict[str, Any]], str]:
    """Return where each agent stands, and which is the best; the rest of the arguments as `results` returns them."""
    means = [float(np.mean(some)) for some in better]
    best = means.index(max(means))
    tested = Agents(better, right, images)
    standing = {}
    for place, (agent, some) in enumerate(zip(agents, better, strict=True)):
        standing[agent] = {
            "agent": agent,
            "merit": judged.sign * means[place],
            "merits": [judged.sign * value for value in some],
            "spread": float(np.std(some, ddof=1)) if len(some) > 1 else None,
            "behind": None if place == best else tested.difference(best, place).to_dict(),
        }
    return standing, agents[best]


def _tuned(
    reports: Mapping[tuple[str, int], Mapping[str, Any]], agents: Sequence[str], seeds: Sequence[int], name: str
) -> dict[str, Any]:
    """Return what is left of the differences after the runs' networks were fine-tuned; answers by image are not kept of these."""
    found = {
        key: next(result for result in report["finetuned"] if result["name"] == name) for key, report in reports.items()
    }
    metric = metric_of(next(iter(reports.values())))
    better = [[metric.sign * float(found[agent, seed]["accuracy"]) for seed in seeds] for agent in agents]
    standing, best = _standing(agents, metric, better, [None] * len(agents), results(reports, agents, seeds)[2])
    return {
        "name": name,
        "merit": metric.to_dict(),
        "epochs": found[best, seeds[0]]["epochs"],
        "best": best,
        "rows": list(standing.values()),
    }


def results(
    reports: Mapping[tuple[str, int], Mapping[str, Any]], agents: Sequence[str], seeds: Sequence[int]
) -> tuple[list[list[float]], list[ByImage | None], int | None]:
    """Return what differences are tested on: results (agents, seeds), answers (seeds, N) by agent, the number of images.

    Of a metric that is to be small both are with their signs changed, so that larger is better. Where runs are compared by
    something else than the metric (see `merit_of`) other images would not change it: only seeds count.

    Args:
        reports: The runs' reports by agent and seed.
        agents: The agents, in this order.
        seeds: The seeds, in this order.

    Raises:
        UsageError: if answers by image are damaged.
    """
    first = next(iter(reports.values()))
    judged = merit_of(first)
    better = [[judged.sign * merit(reports[agent, seed]) for seed in seeds] for agent in agents]
    if judged != metric_of(first):
        return better, [None] * len(agents), _ENOUGH
    finals = {key: Row.from_dict(report["final"]) for key, report in reports.items()}
    sizes = {images_of(row) for row in finals.values()}
    answers = [stacked([finals[agent, seed].answers for seed in seeds]) for agent in agents]
    return (
        better,
        [None if some is None else judged.sign * some for some in answers],
        sizes.pop() if len(sizes) == 1 else None,
    )


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return float(np.mean(known)) if len(known) == len(values) else None


def curve(folder: RunFolder, report: Mapping[str, Any], agent: str) -> dict[str, list[float]]:
    """Return an agent's best reward and least loss within the budget so far, and what it spent, after each new policy.

    Spent are dense passes by the clock ("cost") and images through the dense network by multiply-adds ("images"), those
    included that the agent computed beside its scores.

    A policy that was scored before for another agent is charged with what it cost then.
    """
    episodes = folder.read_episodes()
    names = sorted(episodes[0].counts) if episodes else []
    charged = {tuple(e.counts[n] for n in names): e.score for e in reversed(episodes) if not e.reused}
    probed = next((row["probe_images"] for row in report["rows"] if row["name"] == agent), 0.0)
    best, least, spent, through = -math.inf, math.inf, 0.0, float(probed)
    found: dict[str, list[float]] = {"reward": [], "loss": [], "cost": [], "images": []}
    for episode in distinct(e for e in episodes if e.agent == agent):
        score = charged[tuple(episode.counts[name] for name in names)]
        spent, through = spent + score.cost, through + score.images
        if episode.feasible:
            best, least = max(best, episode.score.reward), min(least, episode.score.loss)
        for key, value in (("reward", best), ("loss", least), ("cost", spent), ("images", through)):
            found[key].append(value)
    return found


def table(found: Mapping[str, Any]) -> str:
    """Return the comparison as an aligned text table."""
    tuned, metric, judged = found.get("finetuned"), metric_of(found), _judged(found)
    after = {} if tuned is None else {row["agent"]: _measured(row, metric) for row in tuned["rows"]}
    own = judged == metric
    head = (
        "",
        *(() if own else (judged.name,)),
        f"{found['part']} {short_name(metric)}",
        f"search {short_name(metric)}",
        loss_name(metric),
        "behind the best",
        "p",
        "policies",
        "dense passes",
        "dense images",
        *(() if tuned is None else ("fine-tuned", "behind", "p")),
    )
    lines = []
    for row in sorted(found["rows"], key=lambda row: -judged.sign * row["merit"]):
        value, behind, p = _measured(row, judged)
        lines.append(
            (
                row["agent"],
                value,
                *(() if own else (metric.text(row["accuracy"]),)),
                metric.text(row["search_accuracy"]),
                "-" if row["loss"] is None else loss_text(metric, row["loss"]),
                behind,
                p,
                f"{row['policies']:.0f}",
                f"{row['cost']:.0f}",
                "-" if row["images"] is None or not math.isfinite(row["images"]) else f"{row['images']:,.0f}",
                *after.get(row["agent"], ()),
            )
        )
    return aligned(head, lines)


def _judged(found: Mapping[str, Any]) -> Metric:
    return Metric.from_dict(found["merit"])


def _measured(row: Mapping[str, Any], metric: Metric) -> tuple[str, str, str]:
    """Return what it is compared by, what it lacks to the best, and how likely that is by chance, as cells."""
    behind = row["behind"]
    return (
        metric.with_error(row["merit"], row["spread"]),
        "-" if behind is None else metric.with_error(behind["mean"], behind["half_width"]),
        "-" if behind is None or behind["p"] is None else f"{behind['p']:.3f}",
    )


def sentences(found: Mapping[str, Any]) -> list[str]:
    """Return who is first, from whom no difference is shown, and by how much it is above ``uniform`` and ``random``."""
    seeds = len(found["seeds"])
    metric = _judged(found)
    first, gaps, level = _first(found, seeds, metric)
    if any(row["rule"] for row in found["rows"] if row["agent"] == found["best"]):
        first = f"A simple rule: {first}; searching did not pay here"
    out = [f"{first}."]
    if seeds < 2:
        out.append(
            "What other seeds would have given is not known, so no difference between agents is shown; give --seeds 4."
        )
    elif level:
        out.append(f"No difference is shown between {found['best']} and {', '.join(level)}.")
    for name in ("uniform", "random"):
        if name in gaps:
            gap = gaps[name]
            out.append(
                f"It is {gap.text(metric)} {'above' if metric.maximize else 'below'} {name}"
                + (f" ({gap.verdict})." if seeds > 1 else ".")
            )
    if "finetuned" in found:
        tuned = found["finetuned"]
        then, _, still = _first(tuned, seeds, _judged(tuned))
        none = f"; no difference is shown between it and {', '.join(still)}" if still and seeds > 1 else ""
        out.append(f"After fine-tuning ({tuned['name']}, {tuned['epochs']} epochs) {then}{none}.")
    if seeds > 1:
        paired = all(gap.paired for gap in gaps.values())
        out.append(
            f"± in the first column: standard deviation over seeds; behind the best: 95 % intervals for other seeds and other "
            f"images, which hold for all pairs of {len(found['rows'])} agents at once, as do the p-values"
            + (
                ", by image."
                if paired
                else "; answers by image are not known, so images count as independent, which is wider."
            )
        )
    return out


def _first(found: Mapping[str, Any], seeds: int, metric: Metric) -> tuple[str, dict[str, Difference], list[str]]:
    """Return who is best, how far the others are behind, and from which of them no difference is shown."""
    rows = {row["agent"]: row for row in found["rows"]}
    gaps = {name: Difference.from_dict(row["behind"]) for name, row in rows.items() if row["behind"] is not None}
    level = [name for name, gap in gaps.items() if not gap.shown]
    of = f"the mean of {seeds} seeds" if seeds > 1 else "one seed"
    value = metric.text(rows[found["best"]]["merit"])
    first = f"has the {'highest' if metric.maximize else 'lowest'} {metric.name}" if level else "wins"
    return f"{found['best']} {first}, {value} ({of})", gaps, level


def draw(found: Mapping[str, Any], path: Path) -> None:
    """Draw best-so-far curves with their spread over seeds, against policies and against cost; needs matplotlib.

    Raises:
        UsageError: if matplotlib is missing or the ending is not known.
    """
    from autoprune.report import check_path

    check_path(path)
    from matplotlib.figure import Figure

    figure = Figure(figsize=(11, 4.2), dpi=110, layout="constrained")
    left, right = figure.subplots(1, 2, sharey=True)
    for place, row in enumerate(found["rows"]):
        curves = [some for some in row["curves"] if some["reward"]]
        if not curves:
            continue
        length = min(len(some["reward"]) for some in curves)
        # What is not finite is None in a file.
        values = np.array([some["reward"][:length] for some in curves], dtype=np.float64)
        values[~np.isfinite(values)] = np.nan
        costs = np.mean([some["cost"][:length] for some in curves], axis=0)
        for axes, x in ((left, np.arange(1, length + 1)), (right, costs)):
            axes.plot(
                x,
                values.mean(axis=0),
                color=f"C{place % 10}",
                linestyle="-" if place < 10 else "--",
                label=row["agent"],
                marker="o" if length == 1 else None,
            )
            axes.fill_between(
                x, values.min(axis=0), values.max(axis=0), color=f"C{place % 10}", alpha=0.15, linewidth=0
            )
    left.set_xlabel("policies")
    right.set_xlabel("dense passes")
    left.set_ylabel("best reward so far (search part)")
    left.legend(fontsize=8)
    write_atomic(path, lambda temporary: figure.savefig(temporary, format=path.suffix[1:].lower()))
