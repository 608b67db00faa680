"""How DDPG explores: a warm-up of policies that the actor has no say in, then its own ratios with noise that decays.

He et al. (ECCV 2018, section 3.3) draw the keep ratio from a normal distribution around the actor's, truncated to what a layer
may keep; its deviation is constant during the warm-up and decays after every episode from then on.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from autoprune.agents._base import Counts
from autoprune.agents._checks import check_number, check_switch
from autoprune.agents._start import first_policies
from autoprune.envs import ProblemLike
from autoprune.support.packages import lazy

special = lazy("scipy.special", "The agent needs")

_LAST_NOISE = 0.1
"""What is left of the noise in the end, as a share of the first, where the decay is chosen here."""


@dataclass(frozen=True)
class Exploration:
    """Warm-up and noise. What is None depends on how many policies will be scored: `over` fills it in.

    Attributes:
        warmup: Random policies before the actor takes over; by default a quarter of the episodes, at most 100.
        start: What the first policies of the warm-up are instead of random ones: "nothing", those of the three "rules", or of the
            "statistics".
        on_budget: Whether the warm-up's policies are random on the budget; else random ratios go the actor's way. By default
            true, for ``amc`` false.
        sigma: Standard deviation of the noise after the warm-up, in keep ratio.
        decay: What it is multiplied by after every episode. By default such that a tenth of it is left at the end, but no
            faster than the paper's 0.95.

    Raises:
        UsageError: if a value is out of its range.

    Example:
        >>> noise = Exploration(warmup=10, sigma=0.5, decay=0.5).over(20)
        >>> noise.sigma_of(10), noise.sigma_of(12)
        (0.5, 0.125)
    """

    warmup: int | None = None
    start: str = "nothing"
    on_budget: bool | None = None
    sigma: float = 0.5
    decay: float | None = None

    def __post_init__(self) -> None:
        check_number("ddpg", "sigma", self.sigma)
        if self.warmup is not None:
            check_number("ddpg", "warmup", self.warmup, whole=True)
        if self.decay is not None:
            check_number("ddpg", "decay", self.decay, high=1)
        if self.on_budget is not None:
            check_switch("ddpg", "on_budget", self.on_budget)

    def over(self, episodes: int, *, published: bool = False) -> Exploration:
        """Return the same with all that is None filled in.

        Args:
            episodes: How many policies will be scored.
            published: Whether it is filled in as in the paper and its code.
        """
        warmup = max(1, min(100, episodes // 4)) if self.warmup is None else self.warmup
        slow = _LAST_NOISE ** (1 / max(episodes - warmup, 1))
        return replace(
            self,
            warmup=warmup,
            on_budget=not published if self.on_budget is None else self.on_budget,
            decay=(0.95 if published else max(0.95, slow)) if self.decay is None else self.decay,
        )

    def is_warm_up(self, episode: int) -> bool:
        """Return whether the actor has no say yet."""
        assert self.warmup is not None, "filled in by `over`"
        return episode < self.warmup

    def sigma_of(self, episode: int) -> float:
        """Return the standard deviation of an episode's noise, in keep ratio."""
        assert self.warmup is not None, "filled in by `over`"
        assert self.decay is not None, "filled in by `over`"
        return self.sigma * self.decay ** (episode - self.warmup)

    def first(self, problem: ProblemLike) -> list[Counts]:
        """Return the policies that the warm-up begins with.

        Raises:
            UsageError: if ``start`` is none of its values.
        """
        return first_policies(problem, self.start, agent="the ddpg agent")

    def noisy(self, rng: np.random.Generator, mean: float, episode: int, low: float, high: float = 1.0) -> float:
        """Return a keep ratio from ``low`` to ``high``: ``mean`` with an episode's noise."""
        return truncated_normal(rng, mean, self.sigma_of(episode), low, high)


def truncated_normal(rng: np.random.Generator, mean: float, sigma: float, low: float, high: float) -> float:
    """Draw from a normal distribution cut off at both ends, by inverting its distribution function.

    Args:
        rng: The random numbers.
        mean: Mean before the cut; one outside is moved to the nearest end.
        sigma: Standard deviation before the cut, 0 for no noise.
        low: The smallest value.
        high: The largest value.
    """
    mean = min(max(mean, low), high)
    uniform = rng.random()
    if sigma <= 0.0 or low >= high:
        return mean
    below, above = special.ndtr((low - mean) / sigma), special.ndtr((high - mean) / sigma)
    drawn = mean + sigma * float(special.ndtri(below + uniform * (above - below)))
    return min(max(drawn, low), high)
