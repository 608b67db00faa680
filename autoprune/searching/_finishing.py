"""Finished networks: policies after the final reconstruction, which of them is a run's result, and their rows in its table."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import chain
from typing import Any

from autoprune.agents import Counts
from autoprune.decisions import entries_of
from autoprune.evaluation import Score
from autoprune.graph import IntArray
from autoprune.latency import Ratio
from autoprune.problem import Finished as FinishedNetwork
from autoprune.problem import excess, measured_values, met
from autoprune.report import Progress, Row, make_row
from autoprune.runs import Episode, RunConfig, RunFolder
from autoprune.searching._driven import DrivenProblem, Finished
from autoprune.searching._journal import Journal
from autoprune.searching._kept import read_kept, write_kept
from autoprune.support.files import write_text_atomic
from autoprune.support.tensors import save_safetensors_atomic
from autoprune.surgery import LOADER, Policy

MOST_TIGHTENED = 4
"""How often a network that is slower than predicted is made smaller."""


class Finishing:
    """Finishes policies of a run: each once, kept in the run's folder until the run ends.

    Args:
        problem: What refits, reports and times networks.
        journal: What was scored.
        config: The run's configuration: budget, seed, and how many policies are finished.
        folder: Where the run is kept.
        model_spec: How the policy file names the model.
        progress: Receives what happens.
    """

    def __init__(
        self,
        problem: DrivenProblem,
        journal: Journal,
        *,
        config: RunConfig,
        folder: RunFolder,
        model_spec: Mapping[str, Any],
        progress: Progress,
    ) -> None:
        self.problem = problem
        self.journal = journal
        self.config = config
        self.folder = folder
        self.progress = progress
        self._model_spec = model_spec

    def finished(self, episode: Episode) -> Finished:
        """Return the network of an episode's policy after the final reconstruction."""
        return self._finished(self.journal.counts(episode))

    def _finished(self, counts: Counts) -> Finished:
        folder = self.folder.finished_folder
        stored = read_kept(folder, counts, self.problem.dense.metric)
        if stored is not None:
            model = self.problem.rebuilt(stored.kept, stored.state)
            return FinishedNetwork(model, stored.kept, stored.search, stored.report, stored.right, stored.drop)
        found = self.problem.finish(counts)
        self.folder.check_in_place()
        write_kept(folder, counts, found)
        return found

    def best(self, ranked: Sequence[Episode]) -> tuple[Episode, Finished, Ratio | None]:
        """Return which of an agent's policies is the best once finished and timed, its network, and its time if latency counts.

        Args:
            ranked: Policies within the budget, the best by their scores first. At a fixed budget the first few are finished and
                compared by their scores then; of all the first that is fast enough and within the drop of accuracy is taken.
        """
        budget, dense = self.problem.budget, self.problem.dense
        first: list[tuple[Episode, Finished]] = []
        if budget.minimize is None:
            first = [(episode, self.finished(episode)) for episode in ranked[: self.config.finish_policies]]
            first.sort(key=lambda pair: (-pair[1].search.reward, _finite(pair[1].search.loss)))
        elif budget.max_drop is None:
            ranked = ranked[:1]
        others = ((episode, self.finished(episode)) for episode in ranked[len(first) : self.config.most_tried])
        slow: list[tuple[Episode, Finished, Ratio]] = []
        for episode, found in chain(first, others):
            if not found.search.within(budget, dense):
                continue
            measured = self.problem.timed(found.model)
            if measured is None or met(budget, measured):
                return episode, found, measured
            slow.append((episode, found, measured))
        if slow:  # each was predicted to be fast enough, and none was
            return self._tightened(slow)
        found = self.finished(ranked[-1])
        return ranked[-1], found, self.problem.timed(found.model)

    def _tightened(self, slow: list[tuple[Episode, Finished, Ratio]]) -> tuple[Episode, Finished, Ratio]:
        """Shrink the best of networks that are slower than predicted until it is measured to be fast enough.

        Where the smallest network is too slow as well, the fastest that was measured is returned; the report says so.
        """
        budget, groups = self.problem.budget, self.problem.decisions
        episode, _, measured = slow[0]
        factor = 1.0
        for _ in range(MOST_TIGHTENED):
            factor /= excess(budget, measured)
            projector = self.problem.at(budget.tightened("latency", factor)).projector
            if not projector.fits([levels[0] for levels in self.problem.levels]):
                break
            self.progress.stage("The network is slower than predicted: shrinking it")
            ratios = [count / group.size for count, group in zip(self.journal.counts(episode), groups, strict=True)]
            counts = tuple(projector.project(ratios))
            found = self._finished(counts)
            measured = self.problem.timed(found.model) or measured
            named = {group.name: count for group, count in zip(groups, counts, strict=True)}
            slow.append((replace(episode, counts=named, score=found.search), found, measured))
            if met(budget, measured):
                return slow[-1]
        return min(slow, key=lambda entry: entry[2].ratio)

    def export(self, name: str, finished: Finished) -> None:
        """Make a finished network of an agent's the run's result."""
        self.folder.check_in_place()
        save_safetensors_atomic(self.folder.model_path, finished.model.state_dict())
        write_text_atomic(self.folder.path / LOADER, self.problem.loader(finished.model))
        self.policy(name, finished.kept, finished.search).save(self.folder.policy_path)

    def policy(self, name: str, kept: Mapping[str, IntArray], score: Score) -> Policy:
        """Return the policy file's content for a finished network of an agent's."""
        dense = self.problem.dense
        return Policy(
            groups=entries_of(self.problem.decisions, kept),
            model=self._model_spec,
            budget=self.config.budget.to_dict(),
            achieved={
                "macs": score.macs,
                "params": score.params,
                "dense_macs": dense.macs,
                "dense_params": dense.params,
                "ratio": score.macs / dense.macs,
            },
            score={"accuracy": score.accuracy, "loss": score.loss, "reward": score.reward},
            seed=self.config.seed,
            agent=name,
        )

    def row(self, name: str, episode: Episode, finished: Finished, measured: Ratio | None = None) -> Row:
        """Return the line of the table for a finished policy; ``measured`` is its time, where latency counts."""
        return make_row(
            name,
            search=finished.search,
            report=finished.report,
            images=self.problem.report_images,
            episodes=self.journal.of(name),
            counts=episode.counts,
            measured=None if measured is None else measured_values(measured),
            right=finished.right,
            setup_images=self.problem.setup_images,
            probe_images=self.journal.probed.get(name, 0.0),
        )

    def dense_row(self) -> Row:
        """Return the dense network's line of the table."""
        return make_row(
            "dense",
            search=self.problem.dense,
            report=self.problem.dense_report,
            images=self.problem.report_images,
            episodes=(),
            counts={group.name: group.size for group in self.problem.decisions},
            right=self.problem.dense_right,
        )


def _finite(loss: float) -> float:
    return loss if math.isfinite(loss) else math.inf
