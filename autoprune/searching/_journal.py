"""What the agents of a run proposed and how it scored: each policy is scored once and written down before it is told."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace

from autoprune.agents import Counts
from autoprune.runs import Episode, RunFolder
from autoprune.searching._driven import DrivenProblem
from autoprune.searching._recheck import check_episodes


class Journal:
    """The episodes of a run, in memory and in its folder.

    Policies that keep equally many channels everywhere are scored once, whoever proposes them: the score is a function of the
    counts.

    Args:
        problem: What scores policies.
        folder: Where the run is kept; a torn last line of its journal is cut off.
        proposers: Who proposes policies in this run, the run's own agent first.
        started: ``time.monotonic()`` when this session began.

    Attributes:
        proposers: The same.
        episodes: All episodes, in the order in which they were told.
        scores: The scores that are known.
        probed: What agents computed beside scores, in images through the dense network, by name.

    Raises:
        AutopruneError: if the journal is not one of this problem.
    """

    def __init__(self, problem: DrivenProblem, folder: RunFolder, proposers: Sequence[str], *, started: float) -> None:
        self._problem = problem
        self._folder = folder
        self._names = [group.name for group in problem.decisions]
        self.proposers = list(proposers)
        self.episodes = folder.read_episodes(repair=True)
        check_episodes(folder, self.episodes, problem, problem.dense, agents=self.proposers)
        self.scores = {self.counts(e): e.score for e in self.episodes if not e.reused}
        self.probed: dict[str, float] = {}
        self._proposed = {(e.agent, self.counts(e)) for e in self.episodes}
        self._began = started - max((e.elapsed_s for e in self.episodes), default=0.0)

    def of(self, name: str) -> list[Episode]:
        """Return the episodes of one agent, in order."""
        return [episode for episode in self.episodes if episode.agent == name]

    def counts(self, episode: Episode) -> Counts:
        """Return the channels that an episode's policy keeps, in the order of the problem's decisions."""
        return tuple(episode.counts[name] for name in self._names)

    def elapsed_s(self) -> float:
        """Return the wall time of all sessions of the run so far."""
        return time.monotonic() - self._began

    def add(self, name: str, number: int, counts: Counts) -> Episode:
        """Return what an agent's policy scored, which is then on disk; one whose score is known is not scored again.

        Args:
            name: The agent.
            number: Its episode.
            counts: The policy.

        Raises:
            AutopruneError: if the journal cannot be written.
        """
        repeated = (name, counts) in self._proposed
        self._proposed.add((name, counts))
        score = self.scores[counts] if counts in self.scores else self._problem.score(counts)
        self.scores[counts] = score
        episode = Episode(
            agent=name,
            episode=number,
            counts=dict(zip(self._names, counts, strict=True)),
            score=replace(score, seconds=0.0, cost=0.0) if repeated else score,
            feasible=self._problem.projector.fits(counts) and score.within(self._problem.budget, self._problem.dense),
            reused=repeated,
            elapsed_s=self.elapsed_s(),
        )
        self._folder.append(episode)
        self.episodes.append(episode)
        return episode


def dense_episode(problem: DrivenProblem, agent: str) -> Episode:
    """Return the policy that keeps every channel, as an episode of an agent that nobody proposed."""
    whole = {group.name: group.size for group in problem.decisions}
    return Episode(agent, -1, whole, problem.dense, True, True, 0.0)
