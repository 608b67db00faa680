"""The search itself: an agent and the simple rules propose policies, the problem scores them, the best are finished."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Protocol

from torch import nn

from autoprune.agents import Agent, make_agent
from autoprune.config import RunConfig
from autoprune.envs import ProblemLike
from autoprune.errors import AutopruneError
from autoprune.files import save_safetensors_atomic, write_json_atomic
from autoprune.graph import IntArray
from autoprune.policy import Policy
from autoprune.progress import Progress
from autoprune.report import Row, build_report, make_row
from autoprune.run import Episode, RunFolder
from autoprune.score import Score

RULES = ("uniform", "shallow", "deep")
Counts = tuple[int, ...]


class Finished(Protocol):
    """A finished network, see ``autoprune.problem.Finished``."""

    @property
    def model(self) -> nn.Module:
        """The small network."""

    @property
    def kept(self) -> Mapping[str, IntArray]:
        """Channels kept by group name."""

    @property
    def search(self) -> Score:
        """Its score on the search part."""

    @property
    def report(self) -> Score | None:
        """Its score on the report part."""


class DrivenProblem(ProblemLike, Protocol):
    """What the driver needs of a problem, see ``autoprune.problem.Problem``."""

    @property
    def notes(self) -> Sequence[str]:
        """What the user should know about how the problem was set up."""

    @property
    def dense_report(self) -> Score | None:
        """The dense network's score on the report part."""

    def finish(self, counts: Sequence[int], /) -> Finished:
        """Return the network of a policy with the best refit."""


class Driver:
    """Runs one search in one folder, from wherever an earlier session of it got to.

    Policies that keep equally many channels everywhere are scored once, whoever proposes them: the score is a function
    of the counts. The policy of a row is the one with the highest reward among those within the budget, of
    equals the one with the least loss.

    Args:
        problem: What is pruned and how it is scored.
        config: The run's configuration; only agent, options, episodes and seed are read here.
        folder: Where the run is kept; locked by the caller.
        model_spec: How the policy file names the model.
        progress: Receives what happens.
        report_images: Number of images that ``problem`` reports accuracy on, if known.
        held_out: Whether these are images that the search does not score policies on.
        started: ``time.monotonic()`` when this session began.
        agent: The agent's class, where the configuration's name for it cannot be imported.
    """

    def __init__(
        self,
        problem: DrivenProblem,
        *,
        config: RunConfig,
        folder: RunFolder,
        model_spec: Mapping[str, Any],
        progress: Progress,
        report_images: int | None,
        held_out: bool,
        started: float,
        agent: str | type[Agent] | None = None,
    ) -> None:
        self._problem = problem
        self._config = config
        self._folder = folder
        self._model_spec = model_spec
        self._progress = progress
        self._agent = agent if agent is not None else config.agent
        self._images = report_images
        self._held_out = held_out
        self._names = [group.name for group in problem.decisions]
        self._episodes = folder.read_episodes(repair=True)
        self._scores = {self._counts(e): e.score for e in self._episodes if not e.reused}
        self._began = started - max((e.elapsed_s for e in self._episodes), default=0.0)

    def run(self, version: str) -> dict[str, Any]:
        """Do what is left to do and return the report, which is then on disk too.

        Args:
            version: autoprune's version, for the report.

        Raises:
            AutopruneError: if the agent proposes no policy within the budget.
        """
        own = self._config.agent
        for note in self._problem.notes:
            self._progress.stage(note)
        players = [own, *(name for name in (*RULES, "random") if name != own)]
        total = 2 * self._config.episodes + len(RULES) - (own in RULES) - (own == "random") * self._config.episodes
        self._progress.begin(total, len(self._episodes))
        rows = {name: row for name in players if (row := self._play(name)) is not None}
        order = [name for name in (*RULES, "random") if name in rows and name != own]
        report = build_report(
            self._config,
            [self._dense_row(), *(rows[name] for name in order), rows[own]],
            episodes=self._episodes,
            held_out=self._held_out,
            wall_s=self._elapsed(),
            version=version,
            notes=self._problem.notes,
        )
        write_json_atomic(self._folder.report_path, report)
        return report

    def _play(self, name: str) -> Row | None:
        """Let one agent propose all its policies, and finish the best; None if none is within the budget."""
        kept = self._folder.read_row(name)
        if kept is not None:
            return Row.from_dict(kept)
        best = self._search(name)
        if best is None:
            if name != self._config.agent:
                return None
            raise AutopruneError(
                f"The agent '{name}' proposed no policy within the budget in {len(self._of(name))} episodes; "
                "give it more --episodes or use another --agent."
            )
        row = self._finish(name, best)
        self._folder.write_row(name, row.to_dict())
        self._progress.finished(row)
        return row

    def _search(self, name: str) -> Episode | None:
        """Return the agent's best policy within the budget, after all its episodes."""
        own = name == self._config.agent
        episodes = self._config.episodes if own else 1 if name in RULES else len(self._of(self._config.agent))
        options = self._config.agent_options if own else {}
        agent = make_agent(
            self._agent if own else name, self._problem, seed=self._config.seed, episodes=episodes, **options
        )
        folder = self._folder.agent_folder(name)
        history = self._of(name)
        best = _best(history)
        if history:
            agent.restore(folder, [(e.episode, self._counts(e), e.score) for e in history])
        for number in range(len(history), episodes):
            counts = agent.ask(number)
            if counts is None:
                break
            episode = self._score(name, number, tuple(int(count) for count in counts))
            best = _best([e for e in (best, episode) if e is not None])
            self._progress.scored(episode, best)
            agent.tell(number, self._counts(episode), episode.score)
            agent.save(folder)
        return best

    def _score(self, name: str, number: int, counts: Counts) -> Episode:
        known = self._scores.get(counts)
        score = self._problem.score(counts) if known is None else replace(known, seconds=0.0, cost=0.0)
        self._scores.setdefault(counts, score)
        episode = Episode(
            agent=name,
            episode=number,
            counts=dict(zip(self._names, counts, strict=True)),
            score=score,
            feasible=self._problem.projector.fits(counts),
            reused=known is not None,
            elapsed_s=self._elapsed(),
        )
        self._folder.append(episode)
        self._episodes.append(episode)
        return episode

    def _finish(self, name: str, best: Episode) -> Row:
        self._progress.stage(f"Finishing {name}'s best network")
        finished = self._problem.finish(self._counts(best))
        if name == self._config.agent:
            policy = self._policy(name, finished.kept, finished.search)
            save_safetensors_atomic(self._folder.model_path, finished.model.state_dict())
            policy.save(self._folder.policy_path)
        return make_row(
            name,
            search=finished.search,
            report=finished.report,
            images=self._images,
            episodes=self._of(name),
            counts=best.counts,
            equal_cost=next(e.score.cost for e in self._episodes if not e.reused and e.counts == best.counts),
        )

    def _policy(self, name: str, kept: Mapping[str, IntArray], score: Score) -> Policy:
        dense = self._problem.dense
        return Policy(
            groups=Policy.groups_of(self._problem.decisions, kept),
            model=self._model_spec,
            budget=self._config.budget.to_dict(),
            achieved={
                "macs": score.macs,
                "params": score.params,
                "dense_macs": dense.macs,
                "dense_params": dense.params,
                "ratio": score.macs / dense.macs,
            },
            score={"accuracy": score.accuracy, "loss": score.loss, "reward": score.reward},
            seed=self._config.seed,
            agent=name,
        )

    def _dense_row(self) -> Row:
        return make_row(
            "dense",
            search=self._problem.dense,
            report=self._problem.dense_report,
            images=self._images,
            episodes=(),
            counts={group.name: group.size for group in self._problem.decisions},
        )

    def _of(self, name: str) -> list[Episode]:
        return [episode for episode in self._episodes if episode.agent == name]

    def _counts(self, episode: Episode) -> Counts:
        try:
            return tuple(episode.counts[name] for name in self._names)
        except KeyError as error:
            raise AutopruneError(
                f"The journal '{self._folder.episodes_path}' has no count for group {error}; it is not this model's."
            ) from error

    def _elapsed(self) -> float:
        return time.monotonic() - self._began


def _best(episodes: Sequence[Episode]) -> Episode | None:
    """Return the episode of the highest reward among those within the budget; of equals the least loss, then the first."""
    return max(
        (e for e in episodes if e.feasible), key=lambda e: (e.score.reward, -_finite(e.score.loss)), default=None
    )


def _finite(loss: float) -> float:
    return loss if math.isfinite(loss) else math.inf
