"""What an agent is: something that proposes policies and is told how they scored."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import ClassVar

import numpy as np

from autoprune.envs import ProblemLike
from autoprune.evaluation import Score
from autoprune.registry import Registry

Counts = tuple[int, ...]
Told = tuple[int, Counts, Score]
"""One finished episode: its number, the policy scored and its score."""


class Agent(ABC):
    """Proposes policies, one per episode, and learns from their scores.

    The driver calls ``ask(0)``, scores the policy, calls ``tell(0, ...)``, then ``save``, then ``ask(1)`` and so on.
    Every random number comes from ``self.rng(episode)``, so that an agent restored after any episode goes on exactly as
    if it had never stopped.

    Args:
        problem: What is pruned. An agent may ask it for costs and projections, never for scores.
        seed: Where all its random numbers come from.
        episodes: How many policies will be scored at most; schedules are stretched over them.
    """

    needs_budget: ClassVar[bool] = False
    """Whether it works at a fixed budget only, because no reward leads it to a smaller network."""
    one_policy: ClassVar[bool] = False
    """Whether it proposes one policy for a budget, after probes that have nothing to do with the budget."""
    parts: ClassVar[Mapping[str, type]] = {}
    """Arguments that are made of options: a dataclass for each, whose fields are options of the agent (`make_agent`)."""
    probes: int = 0
    """How many of its first policies are such probes."""

    def __init__(self, problem: ProblemLike, *, seed: int = 0, episodes: int = 100) -> None:
        self.problem = problem
        self.seed = seed
        self.episodes = episodes

    @property
    def images(self) -> float:
        """What it computes beside the scores, in images through the dense network."""
        return 0.0

    @abstractmethod
    def ask(self, episode: int) -> Counts | None:
        """Return the counts to score next, one per decision, or None when there is nothing more to propose.

        Args:
            episode: The episode's number, from 0. Asking twice for the same one gives the same answer.
        """

    def ready(self, episode: int, told: int) -> bool:
        """Return whether ``ask(episode)`` depends on no scores but those of the first ``told`` episodes.

        Only where it does not are several policies of one agent scored at the same time, so that the number of workers never
        changes what an agent proposes. It is still told of all episodes in order.
        """
        return episode <= told

    def tell(self, episode: int, counts: Counts, score: Score) -> None:  # noqa: B027  (nothing to learn by default)
        """Learn that ``counts``, proposed for ``episode``, got ``score``."""

    def expected_gain(self) -> float | None:
        """Return by how much what it proposed last is expected to be better than the best so far; None if it cannot tell.

        In the metric's own unit. The driver ends a search where that is below the noise.
        """
        return None

    def save(self, folder: Path) -> None:  # noqa: B027  (nothing to save by default)
        """Save what cannot be recomputed from the history cheaply into ``folder``, atomically."""

    def restore(self, folder: Path, history: Iterable[Told]) -> None:
        """Become the agent that was told ``history``.

        Args:
            folder: Where ``save`` last wrote; it may hold the state after any of the episodes told, or nothing.
            history: Every finished episode, in order.
        """
        for episode, counts, score in history:
            self.tell(episode, counts, score)

    def rng(self, episode: int, stream: int = 0) -> np.random.Generator:
        """Return the random numbers of one episode; ``stream`` separates several uses in one."""
        return np.random.default_rng([self.seed, episode, stream])


agents: Registry[type[Agent]] = Registry("agent", "autoprune.agents")
