"""What the Optuna agents have in common: one float parameter ``keep.<group name>`` per decision, rules first."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, ClassVar

from autoprune.agents._base import Agent, Counts
from autoprune.agents._history import informative
from autoprune.agents._random import fresh_policy
from autoprune.agents._start import first_policies
from autoprune.envs import ProblemLike
from autoprune.errors import UsageError
from autoprune.evaluation import Score
from autoprune.support.packages import require

PROPOSALS = 8
"""How often a sampler is asked for a policy that was not scored yet, before one is drawn at random."""


class OptunaAgent(Agent):
    """A sampler proposes keep ratios, the projector moves them onto the budget.

    Args:
        problem: What is pruned.
        seed: Seed of the sampler.
        episodes: How many policies will be scored.
        start: What the first policies are: those of the three "rules", of the "statistics", or "nothing".

    Raises:
        UsageError: if ``start`` is unknown.
    """

    packages: ClassVar[tuple[str, ...]] = ("optuna",)
    """What the sampler needs."""

    def __init__(self, problem: ProblemLike, *, seed: int = 0, episodes: int = 100, start: str = "rules") -> None:
        super().__init__(problem, seed=seed, episodes=episodes)
        require(f"{self._name.capitalize()} needs", *self.packages)
        import optuna

        self._optuna = optuna
        self._first = first_policies(problem, start, agent=self._name)
        self._space = {
            f"keep.{group.name}": optuna.distributions.FloatDistribution(
                levels[0] / group.size, levels[-1] / group.size
            )
            for group, levels in zip(problem.decisions, problem.levels, strict=True)
        }

    @property
    def _name(self) -> str:
        return f"the {type(self).__name__.lower()} agent"

    def _whole(self, low: int = 1, **values: object) -> None:
        """Check whole numbers.

        Raises:
            UsageError: if one is none, or below ``low``.
        """
        for name, value in values.items():
            if isinstance(value, bool) or not isinstance(value, int) or value < low:
                raise UsageError(
                    f"The value of '{name}' is {value!r}, but {self._name} needs a whole number of at least {low}."
                )

    def _applied(self, trial: Any) -> Counts:
        """Return the policy that a trial's parameters lead to."""
        return tuple(self.problem.projector.project([trial.params[name] for name in self._space]))

    def _trial(self, counts: Counts, score: Score) -> Any:
        """Return a finished trial of the keep ratios that were applied."""
        ratios = [count / group.size for count, group in zip(counts, self.problem.decisions, strict=True)]
        return self._optuna.trial.create_trial(
            params=dict(zip(self._space, ratios, strict=True)), distributions=dict(self._space), value=score.reward
        )

    @contextmanager
    def _quietly(self) -> Iterator[None]:
        """Keep Optuna from logging, and leave its logging as the user set it."""
        verbosity = self._optuna.logging.get_verbosity()
        self._optuna.logging.set_verbosity(self._optuna.logging.ERROR)
        try:
            yield
        finally:
            self._optuna.logging.set_verbosity(verbosity)


class FromHistory(OptunaAgent):
    """One whose study is made anew from the history for every proposal, so that it is a function of that alone.

    A policy that was scored already is proposed anew, and of a long history only a part is told (`informative`).
    """

    startup: int
    """Policies that are drawn at random before the sampler takes over."""

    packages: ClassVar[tuple[str, ...]] = ("optuna",)
    """What the sampler needs."""

    def __init__(self, problem: ProblemLike, *, seed: int = 0, episodes: int = 100, start: str = "rules") -> None:
        super().__init__(problem, seed=seed, episodes=episodes, start=start)
        self._trials: list[Any] = []
        self._known: set[Counts] = set()
        self._ended = False

    @abstractmethod
    def _sampler(self, seed: int, startup: int) -> Any:
        """Return a new sampler that draws at random as long as there are fewer than ``startup`` trials."""

    def ask(self, episode: int) -> Counts | None:
        """Return what it starts with at first, then the projection of what the sampler proposes; None when all are scored."""
        if episode < len(self._first):
            return self._first[episode]
        if self._ended:
            return None
        study = self._study(episode)
        proposed = (self._applied(study.ask(dict(self._space))) for _ in range(PROPOSALS))
        new = next((counts for counts in proposed if counts not in self._known), None)
        if new is None:
            new = fresh_policy(self.problem, self.rng(episode, stream=1), self._known)
        self._ended = new is None
        return new

    def tell(self, episode: int, counts: Counts, score: Score) -> None:
        """Add the applied keep ratios and the reward to the history the study is built from."""
        self._trials.append(self._trial(counts, score))
        self._known.add(counts)

    def _study(self, episode: int) -> Any:
        """Return a study that holds the history, its sampler seeded for one episode."""
        with self._quietly():
            seed = int(self.rng(episode).integers(2**31))
            sampler = self._sampler(seed, self.startup if len(self._trials) < self.startup else 0)
            study = self._optuna.create_study(direction="maximize", sampler=sampler)
            fitted = informative([-trial.value for trial in self._trials])
            study.add_trials([self._trials[place] for place in fitted])
        return study
