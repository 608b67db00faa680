"""The rows of a report, one for each network, and the report itself, as plain data."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from statistics import median
from typing import Any

from autoprune.errors import UsageError
from autoprune.evaluation import Score, error_of
from autoprune.runs import Episode, RunConfig, distinct
from autoprune.support.answers import ByImage, pack, unpack
from autoprune.support.reading import reading

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
        probe_images: What its agent computed beside the scores, part of ``images``.
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
    def answers(self) -> ByImage | None:
        """Which of the images ``accuracy`` is measured on it got right, shape (N,); None if that is not known.

        Raises:
            UsageError: if they are damaged.
        """
        if self.right is None:
            return None
        found = unpack(self.right)
        if found.dtype == bool and abs(float(found.mean()) - self.accuracy) > 1e-9:
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
        """Return the row that ``to_dict`` wrote."""
        with reading("A line of the table", "restore the run's files or run the search again"):
            found = cls(**{item.name: values[item.name] for item in fields(cls)})
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
    right: ByImage | None = None,
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
    return Row(
        name=name,
        accuracy=shown.accuracy,
        accuracy_se=error_of(shown.accuracy, right, images, share=shown.metric.share),
        search_accuracy=search.accuracy,
        loss=shown.loss if math.isfinite(shown.loss) else None,
        search_reward=search.reward if math.isfinite(search.reward) else None,
        macs=search.macs,
        params=search.params,
        policies_scored=len(paid),
        score_cost=_score_cost(episodes),
        counts=dict(counts),
        costs=dict(search.costs),
        drop_se=shown.drop_se if math.isfinite(shown.drop_se) else None,
        measured=None if measured is None else dict(measured),
        images=effort if episodes and math.isfinite(effort) else None,
        probe_images=probe_images,
        right=None if right is None else pack(right),
    )


def scored_row(name: str, best: Episode, episodes: Sequence[Episode]) -> dict[str, Any]:
    """Return what an agent or rule found as it was scored, on the search part, before any final reconstruction.

    Args:
        name: Who proposed the policies.
        best: The best of them within the budget.
        episodes: All of them.
    """
    score = best.score
    return {
        "name": name,
        "accuracy": score.accuracy,
        "loss": score.loss if math.isfinite(score.loss) else None,
        "reward": score.reward if math.isfinite(score.reward) else None,
        "drop_se": score.drop_se if math.isfinite(score.drop_se) else None,
        "macs": score.macs,
        "params": score.params,
        "costs": dict(score.costs),
        "counts": dict(best.counts),
        "policies_scored": len(distinct(episodes)),
        "score_cost": _score_cost(episodes),
    }


def _score_cost(episodes: Sequence[Episode]) -> float | None:
    """Return what scoring one policy took, the median of those that were really scored; None if none was."""
    costs = [episode.score.cost for episode in episodes if not episode.reused]
    return median(costs) if costs else None


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
    scored: Sequence[Mapping[str, Any]] = (),
    stopped: Mapping[str, Any] | None = None,
    passes: Mapping[str, float] | None = None,
    dense_seconds: float | None = None,
) -> dict[str, Any]:
    """Return the report as JSON-ready values.

    Args:
        config: The run's configuration.
        rows: Of what was finished: the dense network first.
        episodes: Everything that was scored.
        held_out: Whether ``accuracy`` is measured on a part that the search never saw.
        wall_s: Wall time of all sessions of the run.
        version: autoprune's version.
        notes: What the user should know about how the problem was set up.
        front: The front that was asked for: ``kind``, ``dense``, ``points`` (rows with their ``cost``) and ``areas`` by agent.
        exported: Whose policy is the run's result; by default the agent's.
        drop: Where a drop of accuracy was the budget, what decided: of the result (the dense network where no smaller one was
            confirmed) and of the first that failed, the counts of `autoprune.budget.Drop`.
        scored: The best of each agent and rule as it was scored (`scored_row`), finished or not.
        stopped: Why the search ended before its agent had proposed all it may; None if it did not.
        passes: What the run took, in dense passes over the search images, by what for.
        dense_seconds: What one such pass took, by the clock of `Score.seconds`.
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
        "metric": config.measure.to_dict(),
        "accuracy_part": "report" if held_out else "search",
        "policies_scored": final.policies_scored,
        "policies_scored_in_all": len(distinct(episodes)),
        **({"policies_stopped": sum(e.score.share < 1 for e in fresh)} if config.race else {}),
        "score_cost": final.score_cost,
        "total_cost": sum(episode.score.cost for episode in fresh),
        "wall_s": wall_s,
        "dense_seconds": dense_seconds,
        "macs_ratio": final.macs / dense.macs,
        "scored": [dict(found) for found in scored],
        "stopped": None if stopped is None else dict(stopped),
        "passes": dict(passes or {}),
        "notes": list(notes),
        "dense": dense.to_dict(),
        "final": final.to_dict(),
        "rows": [row.to_dict() for row in rows],
        **({} if front is None else {"front": dict(front)}),
        **({} if drop is None else {"drop": dict(drop)}),
    }
