"""What every agent must do, as tests to inherit."""

from __future__ import annotations

import random
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch

from autoprune.agents import Agent, Counts, Told, make_agent
from autoprune.envs import ProblemLike
from autoprune.testing._toy import ToyProblem


class AgentContract:
    """Tests of one agent on a toy problem; subclass it in a file pytest collects, and set ``agent``.

    ::

        class TestMine(autoprune.testing.AgentContract):
            agent = MyAgent

    Attributes:
        agent: The agent's class or registered name.
        options: Keywords it is built with.
        episodes: How many policies are scored in each test.
        probes: Whether it may propose policies above the budget to measure something. It must end on one that meets it.
        fills: Whether every policy within an exact budget uses all of it, to within one step of every group.
    """

    agent: ClassVar[str | type[Agent]]
    options: ClassVar[Mapping[str, Any]] = {}
    episodes: ClassVar[int] = 12
    probes: ClassVar[bool] = False
    fills: ClassVar[bool] = True

    def make_problem(self) -> ProblemLike:
        """Return a new problem, the same every time."""
        return ToyProblem()

    def make(self, problem: ProblemLike, seed: int = 3) -> Agent:
        """Return a new agent."""
        return make_agent(self.agent, problem, seed=seed, episodes=self.episodes, **self.options)

    def run(self, agent: Agent, start: int = 0, folder: Path | None = None, saved: int | None = None) -> list[Told]:
        """Play the episodes from ``start`` on and return them.

        Args:
            agent: The agent.
            start: The first episode.
            folder: Where the agent saves after every episode; None not to.
            saved: The last episode after which it saves; None for all.
        """
        judge = self.make_problem()
        told: list[Told] = []
        for episode in range(start, self.episodes):
            counts = agent.ask(episode)
            if counts is None:
                break
            told.append((episode, counts, judge.score(counts)))
            agent.tell(*told[-1])
            if folder is not None and (saved is None or episode <= saved):
                agent.save(folder)
        return told

    def test_every_policy_takes_allowed_counts(self) -> None:
        """One allowed count per decision, as plain integers in a tuple."""
        problem = self.make_problem()
        told = self.run(self.make(problem))
        assert told, "the agent proposes nothing"
        for _, counts, _ in told:
            assert type(counts) is tuple
            assert all(type(count) is int for count in counts)
            assert len(counts) == len(problem.decisions)
            assert all(count in levels for count, levels in zip(counts, problem.levels, strict=True))

    def test_policies_meet_the_budget(self) -> None:
        """All of them, or with probes the last one; an exact budget is used up."""
        problem = self.make_problem()
        told = self.run(self.make(problem))
        for _, counts, _ in told[-1:] if self.probes else told:
            assert problem.projector.fits(counts)
            if self.fills and problem.budget.mode == "exact":
                assert not _can_grow(problem, counts)

    def test_same_seed_same_policies(self) -> None:
        """Two agents of one seed and history are the same agent."""
        assert _policies(self.run(self.make(self.make_problem()))) == _policies(
            self.run(self.make(self.make_problem()))
        )

    def test_asking_again_changes_nothing(self) -> None:
        """``ask`` has no effect on what comes after."""
        twice = self.make(self.make_problem())
        for episode, counts, score in self.run(self.make(self.make_problem())):
            assert twice.ask(episode) == counts
            assert twice.ask(episode) == counts
            twice.tell(episode, counts, score)

    def test_asked_ahead_it_proposes_the_same(self) -> None:
        """Wherever ``ready`` says that no more scores are needed."""
        whole = self.run(self.make(self.make_problem()))
        agent = self.make(self.make_problem())
        asked: list[Counts | None] = []
        for told in range(len(whole) + 1):
            while len(asked) < self.episodes and agent.ready(len(asked), told):
                asked.append(agent.ask(len(asked)))
            if told < len(whole):
                agent.tell(*whole[told])
        assert [counts for counts in asked if counts is not None] == _policies(whole)

    def test_none_is_final(self) -> None:
        """An agent with nothing left to propose has nothing left in any later episode."""
        agent = self.make(self.make_problem())
        played = len(self.run(agent))
        if played < self.episodes:
            assert [agent.ask(episode) for episode in range(played, played + 3)] == [None] * 3

    def test_restored_goes_on_as_if_never_stopped(self, tmp_path: Path) -> None:
        """Whatever the episode after which it stopped, its state saved."""
        whole = self.run(self.make(self.make_problem()))
        for stop in range(len(whole) + 1):
            folder = tmp_path / f"{stop}"
            folder.mkdir()
            self._replay(whole[:stop], folder, saved=stop)
            assert _policies(self._go_on(folder, whole, stop)) == _policies(whole[stop:]), f"stopped after {stop}"

    def test_restored_from_a_state_that_lags_behind(self, tmp_path: Path) -> None:
        """Killed after the episode was recorded and before the agent saved: the history is ahead of the state."""
        whole = self.run(self.make(self.make_problem()))
        for behind in range(min(3, len(whole)) + 1):
            stop = max(len(whole) - 2, behind)
            folder = tmp_path / f"{behind}"
            folder.mkdir()
            self._replay(whole[:stop], folder, saved=stop - behind)
            assert _policies(self._go_on(folder, whole, stop)) == _policies(whole[stop:]), f"{behind} behind"

    def test_scores_nothing_itself(self) -> None:
        """Policies cost their price in the driver, where they are counted."""
        problem = self.make_problem()
        self.run(self.make(problem))
        assert getattr(problem, "scored", 0) == 0

    def test_leaves_global_random_numbers_alone(self) -> None:
        """Neither torch's, NumPy's nor Python's generator moves."""
        before = _global_generators()
        self.run(self.make(self.make_problem()))
        assert _global_generators() == before

    def _replay(self, told: list[Told], folder: Path, saved: int) -> None:
        """Let a new agent play ``told``, saving up to ``saved`` episodes, then forget it."""
        agent = self.make(self.make_problem())
        for number, (episode, counts, score) in enumerate(told, start=1):
            agent.ask(episode)
            agent.tell(episode, counts, score)
            if number <= saved:
                agent.save(folder)

    def _go_on(self, folder: Path, whole: list[Told], stop: int) -> list[Told]:
        agent = self.make(self.make_problem())
        agent.restore(folder, whole[:stop])
        return self.run(agent, stop, folder)


def _global_generators() -> list[str]:
    """Return the states of Python's, NumPy's and torch's generators."""
    numpy_state = np.random.get_state(legacy=False)["state"]  # noqa: NPY002
    numpy_text = f"{numpy_state['pos']} {numpy_state['key'].tolist()}"
    return [str(random.getstate()), numpy_text, str(torch.get_rng_state().tolist())]


def _policies(told: list[Told]) -> list[Counts]:
    return [counts for _, counts, _ in told]


def _can_grow(problem: ProblemLike, counts: Counts) -> bool:
    """Return whether some group can go up one level within the budget."""
    for index, levels in enumerate(problem.levels):
        above = [level for level in levels if level > counts[index]]
        raised = [*counts[:index], above[0], *counts[index + 1 :]] if above else None
        if raised and problem.projector.fits(raised):
            return True
    return False
