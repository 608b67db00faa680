"""Finished networks: policies after the final reconstruction, which of them is a run's result, and their rows in its table."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import chain
from typing import Any

from torch import nn

from autoprune.agents import Counts
from autoprune.decisions import entries_of
from autoprune.evaluation import Score
from autoprune.graph import IntArray
from autoprune.latency import Ratio
from autoprune.problem import Finished as FinishedNetwork
from autoprune.problem import excess, measured_values, met
from autoprune.report import Progress, Row, make_row
from autoprune.runs import Episode, RunConfig, RunFolder, write_best
from autoprune.searching._driven import DrivenProblem, Finished
from autoprune.searching._journal import Journal
from autoprune.searching._kept import read_kept, write_kept
from autoprune.support.files import write_text_atomic
from autoprune.support.tensors import save_safetensors_atomic
from autoprune.surgery import LOADER, Policy

MOST_TIGHTENED = 4
"""How often a network that is slower than predicted is made smaller."""

FINISH_PASSES = 12.0
"""About how many dense passes over the search images a final reconstruction takes; for the time left alone."""


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
        self._done: dict[Counts, Finished] = {}
        self._paid: dict[Counts, float] = {}

    @property
    def cost(self) -> float:
        """What the final reconstructions took, in dense passes over the search images."""
        return sum({**self._paid, **{counts: found.search.cost for counts, found in self._done.items()}}.values())

    @property
    def _usual(self) -> float:
        """About how many dense passes the next one takes: as many as those before."""
        costs = [found.search.cost for found in self._done.values() if math.isfinite(found.search.cost)]
        return sum(costs) / len(costs) if costs else FINISH_PASSES

    def paid(self, episode: Episode, cost: float) -> None:
        """Count what finishing a policy took in an earlier session, where its network is not read again."""
        self._paid[self.journal.counts(episode)] = cost

    def finished(self, episode: Episode) -> Finished:
        """Return the network of an episode's policy after the final reconstruction."""
        return self._finished(self.journal.counts(episode))

    def _finished(self, counts: Counts) -> Finished:
        found = self._known(counts)
        if found is None:
            text = f"Final reconstruction {len(self._done) + 1}: {self._finder(counts)}'s policy"
            self.progress.step(text, self._usual)
            found = self._done[counts] = self.problem.finish(counts)
            self.folder.check_in_place()
            write_kept(self.folder.finished_folder, counts, found)
            if self.problem.budget.minimize is None and found is min(self._done.values(), key=_by_reward):
                self._keep_best(
                    found.model, found.kept, found.search, self._finder(counts), "after the final reconstruction"
                )
        return found

    def keep_best(self, episode: Episode) -> None:
        """Keep the network of a policy that was just scored as the best so far."""
        model, kept = self.problem.as_scored(self.journal.counts(episode))
        self._keep_best(model, kept, episode.score, episode.agent, "as scored, before any final reconstruction")

    def _keep_best(self, model: nn.Module, kept: Mapping[str, IntArray], score: Score, agent: str, how: str) -> None:
        metric = score.metric
        what = f"{agent}'s best, {how} ({metric.name} {metric.text(score.accuracy)}{metric.unit} on the search part)"
        loader = self.problem.loader(model)
        write_best(self.folder, model, self.policy(agent, kept, score), loader=loader, what=what)

    def _finder(self, counts: Counts) -> str:
        """Return who proposed a policy first; the run's own agent where nobody did, as it was tightened."""
        names = (episode.agent for episode in self.journal.episodes if self.journal.counts(episode) == counts)
        return next(names, self.config.agent)

    def _known(self, counts: Counts) -> Finished | None:
        """Return a network that was finished before, maybe in an earlier session; None if there is none."""
        if counts not in self._done:
            stored = read_kept(self.folder.finished_folder, counts, self.problem.dense.metric)
            if stored is None:
                return None
            model = self.problem.rebuilt(stored.kept, stored.state)
            scores = stored.search, stored.report, stored.right, stored.drop
            self._done[counts] = FinishedNetwork(model, stored.kept, *scores)
        return self._done[counts]

    def best(self, order: Sequence[Episode], first: int) -> tuple[Episode, Finished, Ratio | None]:
        """Return which of some policies is the best once finished and timed, its network, and its time if latency counts.

        Args:
            order: Policies within the budget, in the order in which they are to be finished.
            first: How many are finished in any case and compared by their scores then; the others one by one, up to the first
                that is fast enough, where none of these is.
        """
        budget, dense = self.problem.budget, self.problem.dense
        chosen = [(episode, self.finished(episode)) for episode in order[:first]]
        chosen.sort(key=lambda pair: _by_reward(pair[1]))
        others = ((episode, self.finished(episode)) for episode in order[first : self.config.most_tried])
        slow: list[tuple[Episode, Finished, Ratio]] = []
        for episode, found in chain(chosen, others):
            if not found.search.within(budget, dense):
                continue
            measured = self._timed(found)
            if measured is None or met(budget, measured):
                return episode, found, measured
            slow.append((episode, found, measured))
        if slow:  # each was predicted to be fast enough, and none was
            return self._tightened(slow)
        found = self.finished(order[-1])
        return order[-1], found, self._timed(found)

    def _timed(self, found: Finished) -> Ratio | None:
        """Return what a finished network takes on the target; None where latency does not count."""
        if self.problem.budget.limit("latency") is not None:
            self.progress.step("Measuring the finished network on the target", 0.0)
        return self.problem.timed(found.model)

    def rows(self, names: Sequence[str]) -> dict[str, Row]:
        """Return the rows of those of whose policies one is finished, each of the best that is; without times."""
        rows = {}
        for name in names:
            tried = {self.journal.counts(episode): episode for episode in reversed(self.journal.of(name))}
            done = [(tried[counts], found) for counts in tried if (found := self._known(counts)) is not None]
            if done:
                episode, found = min(done, key=lambda pair: _by_reward(pair[1]))
                rows[name] = self.row(name, episode, found)
        return rows

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
            measured = self._timed(found) or measured
            named = {group.name: count for group, count in zip(groups, counts, strict=True)}
            slow.append((replace(episode, counts=named, score=found.search), found, measured))
            if met(budget, measured):
                return slow[-1]
        return min(slow, key=lambda entry: entry[2].ratio)

    def export(self, name: str, finished: Finished) -> None:
        """Make a finished network of an agent's the run's result."""
        self.folder.check_in_place()
        self.folder.remove_report()
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


def _by_reward(found: Finished) -> tuple[float, float]:
    """Return what finished networks are sorted by: the reward, then the loss."""
    return -found.search.reward, _finite(found.search.loss)


def _finite(loss: float) -> float:
    return loss if math.isfinite(loss) else math.inf
