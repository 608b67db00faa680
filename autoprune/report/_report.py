"""The report of a run: one row per network, and the same as a table to read. Pure functions over plain data."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from statistics import median
from typing import Any

from autoprune.budget import Budget, Limit, amount, noun
from autoprune.errors import UsageError
from autoprune.evaluation import Score, standard_error
from autoprune.report._goals import drop_sentences, front_sentences
from autoprune.runs import Episode, RunConfig, distinct
from autoprune.support.answers import BoolArray, pack, unpack
from autoprune.support.reading import reading
from autoprune.support.text import aligned

REPORT_VERSION = 1


@dataclass(frozen=True)
class Row:
    """One line of the table.

    Attributes:
        name: "dense", or who proposed the policy.
        accuracy: Top-1 accuracy in [0, 1] on the report part (on the search part if there is no report part).
        accuracy_se: Standard error of ``accuracy``; None if the number of images is not known.
        search_accuracy: Top-1 accuracy in [0, 1] of the finished network on the search part.
        loss: Mean loss on the same part as ``accuracy``.
        search_reward: The reward of the finished network on the search part.
        macs: Multiply-adds of one image.
        params: Number of parameters.
        policies_scored: How many different policies were scored to find this one.
        score_cost: What scoring one of them cost, in dense passes over the search images (median); None for "dense".
        counts: Kept channels by group name.
        costs: What else the budget limits, by kind (latency in seconds as predicted).
        drop_se: Standard error of the difference of ``accuracy`` to the dense network's, paired image by image.
        measured: What it took on the target, where latency counts (see `autoprune.latency.Ratio`).
        images: What the search that found it computed, in images through the dense network: preparation and all its scores, also
            those taken over from others; None where it is not known.
        probe_images: What its player computed beside the scores, part of ``images``.
        right: Which of the images ``accuracy`` is measured on it got right (see `autoprune.support.answers`); None if unknown.
    """

    name: str
    accuracy: float
    accuracy_se: float | None
    search_accuracy: float
    loss: float | None
    search_reward: float | None
    macs: int
    params: int
    policies_scored: int
    score_cost: float | None
    counts: Mapping[str, int]
    costs: Mapping[str, float] = field(default_factory=dict)
    drop_se: float | None = None
    measured: Mapping[str, float] | None = None
    images: float | None = None
    probe_images: float = 0.0
    right: str | None = None

    def cost(self, kind: str) -> float:
        """Return one kind of cost (KeyError if it was not measured)."""
        return float({"macs": self.macs, "params": self.params, **self.costs}[kind])

    @property
    def answers(self) -> BoolArray | None:
        """Which of the images ``accuracy`` is measured on it got right, shape (N,); None if that is not known.

        Raises:
            UsageError: if they are damaged.
        """
        if self.right is None:
            return None
        found = unpack(self.right)
        if abs(float(found.mean()) - self.accuracy) > 1e-9:
            raise UsageError(
                f"The row '{self.name}' has accuracy {self.accuracy} but answers to {found.sum()} of {len(found)} images "
                "that are right: its file is damaged; restore it."
            )
        return found

    def to_dict(self) -> dict[str, Any]:
        """Return the row as JSON-ready values."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Row:
        """Return the row that ``to_dict`` wrote (or one of autoprune 0.1, which knew no other costs)."""
        with reading("A line of the table", "restore the run's files or run the search again"):
            found = cls(**{item.name: values[item.name] for item in fields(cls) if item.name in values})
        return found


def images_of(row: Row) -> int | None:
    """Return the number of images that a row's accuracy is measured on, None if it is not known."""
    if row.right is not None:
        found = row.answers
        return None if found is None else len(found)
    if not row.accuracy_se:  # of an accuracy of 0 or 1 it says nothing
        return None
    return round(row.accuracy * (1 - row.accuracy) / row.accuracy_se**2)


def make_row(
    name: str,
    *,
    search: Score,
    report: Score | None,
    images: int | None,
    episodes: Sequence[Episode],
    counts: Mapping[str, int],
    measured: Mapping[str, float] | None = None,
    setup_images: float = math.nan,
    probe_images: float = 0.0,
    right: BoolArray | None = None,
) -> Row:
    """Put a finished network's numbers into a row.

    Args:
        name: "dense", or who proposed the policy.
        search: Its score on the search part.
        report: Its score on the report part; None if there is none.
        images: Number of images of the part that ``accuracy`` is measured on, if known; ``right`` tells it too.
        episodes: What was scored to find it.
        counts: Kept channels by group name.
        measured: What it took on the target.
        setup_images: What preparing the search computed, in images through the dense network.
        probe_images: What who proposed the policies computed beside their scores.
        right: Which images of the part that ``accuracy`` is measured on it got right, if known.
    """
    paid = distinct(episodes)
    images = images if right is None else len(right)
    effort = setup_images + probe_images + sum(episode.score.images for episode in paid)
    shown = report or search
    costs = [episode.score.cost for episode in episodes if not episode.reused]
    return Row(
        name=name,
        accuracy=shown.accuracy,
        accuracy_se=standard_error(shown.accuracy, images),
        search_accuracy=search.accuracy,
        loss=shown.loss if math.isfinite(shown.loss) else None,
        search_reward=search.reward if math.isfinite(search.reward) else None,
        macs=search.macs,
        params=search.params,
        policies_scored=len(paid),
        score_cost=median(costs) if costs else None,
        counts=dict(counts),
        costs=dict(search.costs),
        drop_se=shown.drop_se if math.isfinite(shown.drop_se) else None,
        measured=None if measured is None else dict(measured),
        images=effort if episodes and math.isfinite(effort) else None,
        probe_images=probe_images,
        right=None if right is None else pack(right),
    )


def build_report(
    config: RunConfig,
    rows: Sequence[Row],
    *,
    episodes: Sequence[Episode],
    held_out: bool,
    wall_s: float,
    version: str,
    notes: Sequence[str] = (),
    front: Mapping[str, Any] | None = None,
    exported: str | None = None,
    drop: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Return the report as JSON-ready values.

    Args:
        config: The run's configuration.
        rows: The dense network first, the run's own agent among the others.
        episodes: Everything that was scored.
        held_out: Whether ``accuracy`` is measured on a part that the search never saw.
        wall_s: Wall time of all sessions of the run.
        version: autoprune's version.
        notes: What the user should know about how the problem was set up.
        front: The front that was asked for: ``kind``, ``dense``, ``points`` (rows with their ``cost``) and ``areas`` by player.
        exported: Whose policy is the run's result; by default the agent's.
        drop: Where a drop of accuracy was the budget, what decided: of the result (the dense network where no smaller one was
            confirmed) and of the first that failed, the counts of `autoprune.budget.Drop`.
    """
    exported = exported or config.agent
    dense, final = rows[0], next(row for row in rows if row.name == exported)
    fresh = distinct(episodes)
    return {
        "version": REPORT_VERSION,
        "autoprune": version,
        "model": config.model,
        "data": config.data,
        "budget": config.budget.to_dict(),
        "agent": config.agent,
        "exported": exported,
        "seed": config.seed,
        "reward": config.reward,
        "select": config.select,
        "score": config.score,
        "accuracy_part": "report" if held_out else "search",
        "policies_scored": final.policies_scored,
        "policies_scored_in_all": len(distinct(episodes)),
        **({"policies_stopped": sum(e.score.share < 1 for e in fresh)} if config.race else {}),
        "score_cost": final.score_cost,
        "total_cost": sum(episode.score.cost for episode in fresh),
        "wall_s": wall_s,
        "macs_ratio": final.macs / dense.macs,
        "notes": list(notes),
        "dense": dense.to_dict(),
        "final": final.to_dict(),
        "rows": [row.to_dict() for row in rows],
        **({} if front is None else {"front": dict(front)}),
        **({} if drop is None else {"drop": dict(drop)}),
    }


def table(report: Mapping[str, Any]) -> str:
    """Return the report's rows as an aligned text table."""
    dense = report["dense"]
    head = (
        "",
        "MACs",
        "ratio",
        "params",
        "ratio",
        "search acc",
        f"{report['accuracy_part']} acc",
        "loss",
        "policies",
        "cost",
        "images",
        *(kind for kind in dense.get("costs", {}) if kind != "latency"),
        *(("predicted", "measured") if "latency" in dense.get("costs", {}) else ()),
    )
    lines: list[tuple[str, ...]] = []
    for row in report["rows"]:
        own = " *" if row["name"] == report.get("exported", report["agent"]) else ""
        several = " best" if row["policies_scored"] > 1 else ""
        cost = "-" if row["score_cost"] is None else f"{row['score_cost']:.2f}"
        policies = str(row["policies_scored"] or "-")
        effort = "-" if row.get("images") is None else f"{row['images'] / 1e3:,.1f}k"
        lines.append((f"{row['name']}{several}{own}", *_cells(row, dense), policies, cost, effort, *_costs(row, dense)))
    lines += [
        (f"+ {found['name']}, {found['epochs_done']} ep", *_cells(found, dense), *(["-"] * (len(head) - 8)))
        for found in report.get("finetuned", ())
    ]
    return aligned(head, lines)


def _cells(found: Mapping[str, Any], dense: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the cells that a row and a fine-tuning have in common: size, accuracies, loss."""
    return (
        f"{found['macs']:,}",
        f"{found['macs'] / dense['macs']:.3f}",
        f"{found['params']:,}",
        f"{found['params'] / dense['params']:.3f}",
        f"{100 * found['search_accuracy']:.2f}",
        _with_error(found),
        "-" if found["loss"] is None else f"{found['loss']:.4f}",
    )


def _costs(row: Mapping[str, Any], dense: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the cells of the further costs: amounts with their share of the dense network's; latency predicted, measured."""
    cells = [
        f"{amount(kind, value)} ({value / dense['costs'][kind]:.3f})"
        for kind, value in row.get("costs", {}).items()
        if kind != "latency"
    ]
    if "latency" in row.get("costs", {}):
        value = row["costs"]["latency"]
        cells.append(f"{amount('latency', value)} ({value / dense['costs']['latency']:.3f})")
        cells.append(_measured(row))
    return tuple(cells)


def _measured(row: Mapping[str, Any]) -> str:
    found = row["measured"]
    return "-" if found is None else f"{amount('latency', found['seconds'])} ({found['ratio']:.3f})"


def limit_sentences(report: Mapping[str, Any]) -> list[str]:
    """Return for each limit other than one ratio of MACs: what was asked for, what came out, and whether it is met."""
    final, dense = report["final"], report["dense"]
    budget = Budget.from_dict(report["budget"])
    out = []
    for limit in budget.limits:
        value, whole = (Row.from_dict(row).cost(limit.kind) for row in (final, dense))
        if len(budget.limits) == 1 and limit.kind == "macs":
            continue

        def said(cost: float, share: float, limit: Limit = limit) -> str:
            return f"{share:.4f}" if limit.unit == "ratio" else amount(limit.kind, cost)

        asked = said(limit.value, limit.value)
        text = f"{noun(limit.kind)}: budget {asked}, "
        found = final.get("measured") if limit.kind == "latency" else None
        if found is None:
            out.append(f"{text}used {said(value, value / whole)}.")
            continue
        share = found["ratio"] if limit.unit == "ratio" else found["seconds"]
        verdict = (
            "met"
            if share <= limit.value
            else "met as far as can be measured"
            if share * (1 - found["known"]) <= limit.value
            else "NOT met: measured above the budget; profile again on a quiet machine, or ask for a little less"
        )
        out.append(
            f"{text}predicted {said(value, value / whole)}, measured {said(found['seconds'], found['ratio'])} "
            f"± {100 * found['known']:.1f} % against the dense network in turn: {verdict}."
        )
    return out


def _with_error(found: Mapping[str, Any]) -> str:
    """Return an accuracy in percent with its standard error, if that is known."""
    error = "" if found["accuracy_se"] is None else f" ± {100 * found['accuracy_se']:.2f}"
    return f"{100 * found['accuracy']:.2f}{error}"


def finetuned_sentence(found: Mapping[str, Any]) -> str:
    """Return what is to be said about a fine-tuning: how, how long, and which epoch was kept.

    Args:
        found: As in its ``result.json``.
    """
    start = "trained from random weights" if found["from_scratch"] else "fine-tuned"
    how = " with distillation from the dense network" if found["distilled"] else ""
    last = " (the last)" if found["best_epoch"] == found["epochs_done"] else ""
    return (
        f"{found['name']}: {start}{how} for {found['epochs_done']} epochs in {found['wall_s']:.0f} s; kept is epoch "
        f"{found['best_epoch']}{last}, best on the search part ({100 * found['search_accuracy']:.2f}); "
        f"accuracy {_with_error(found)}."
    )


def sentences(report: Mapping[str, Any]) -> list[str]:
    """Return what is to be said below the table: what was exported, what speaks against it, what the run cost."""
    agent, final, dense = report.get("exported", report["agent"]), report["final"], report["dense"]
    budget = Budget.from_dict(report["budget"])
    if budget.max_drop is not None:
        out = drop_sentences(report, budget)
        return [*out, *limit_sentences(report), *report["notes"], *_cost_sentences(report)]
    if budget.minimize is not None:
        return [*front_sentences(report), *report["notes"], *_cost_sentences(report)]
    out = [
        f"* exported, at {final['macs'] / dense['macs']:.3f} of the MACs: the policy of {agent} with the best reward on the "
        "search part, within the budget.",
        *limit_sentences(report),
    ]
    rivals = [row for row in report["rows"] if row["name"] not in ("dense", agent)]
    better = [row for row in rivals if _merit(row) > _merit(final)]
    if better:
        best = max(better, key=_merit)
        if report["reward"] == "accuracy" or best["search_reward"] is None or final["search_reward"] is None:
            by = f"{100 * best['search_accuracy']:.2f} against {100 * final['search_accuracy']:.2f}"
        else:
            by = f"reward {best['search_reward']:.4g} against {final['search_reward']:.4g}"
        out.append(
            f"Note: {best['name']} did better than {agent} on the search part ({by}); "
            f"get its network with --agent {best['name']}"
            + (f", or give {agent} more --episodes." if final["policies_scored"] > 1 else ".")
        )
    return [*out, *report["notes"], *_cost_sentences(report)]


def front_table(report: Mapping[str, Any]) -> str:
    """Return the points of a front as an aligned text table."""
    found = report["front"]
    kind = found["kind"]
    lines = [
        (
            f"{row['name']}{' *' if row['counts'] == report['final']['counts'] else ''}",
            amount(kind, row["cost"]),
            f"{row['cost'] / found['dense']:.3f}",
            f"{100 * row['search_accuracy']:.2f}",
            _with_error(row),
            *((_measured(row),) if kind == "latency" else ()),
        )
        for row in found["points"]
    ]
    head = ("", noun(kind), "ratio", "search acc", f"{report['accuracy_part']} acc")
    return aligned((*head, "measured") if kind == "latency" else head, lines)


def _cost_sentences(report: Mapping[str, Any]) -> list[str]:
    agent, final = report["agent"], report["final"]
    out = []
    if report["accuracy_part"] == "search":
        out.append("No report part was given: the accuracies are those the search maximised, so they flatter.")
    out += [finetuned_sentence(found) for found in report.get("finetuned", ())]
    own = next((row for row in report["rows"] if row["name"] == agent), final)
    count, cost = own["policies_scored"], own["score_cost"]
    each = "" if cost is None else f", {cost:.2f} dense passes" + (" each" if count > 1 else "")
    out.append(
        f"{agent} had {count} {'policies' if count > 1 else 'policy'} scored{each}. The whole run, with the simple rules' "
        f"rows, scored {report['policies_scored_in_all']}: {report['total_cost']:.0f} dense passes, {report['wall_s']:.0f} s."
        + (
            ""
            if own.get("images") is None
            else f" In multiply-adds {agent}'s search took as much as {own['images']:,.0f} dense images."
        )
    )
    if "policies_stopped" in report:
        out.append(
            f"The race stopped {report['policies_stopped']} of them after a part of the search images, clearly worse there than "
            "the best simple rule; their accuracy and loss are estimates."
            if report["policies_stopped"]
            else "The race stopped none of them: none was clearly worse than the best simple rule."
        )
    return out


def _merit(row: Mapping[str, Any]) -> float:
    """Return what the search maximises of a finished network: its reward on the search part."""
    reward = row["search_reward"]
    return float(row["search_accuracy"] if reward is None else reward)
