"""What DDPG learns with: an actor and a critic with their optimisers, and the scale that rewards are read on."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from autoprune.agents._checks import check_number, check_switch
from autoprune.support.packages import require

if TYPE_CHECKING:
    import gymnasium

    from autoprune.agents._sb3 import EpisodeReplay, Learner


@dataclass(frozen=True)
class ActorCritic:
    """The networks and how they are updated; the numbers are those of AMC's published code.

    Attributes:
        hidden: Width of the two hidden layers of each network.
        tau: Rate of the soft updates of the target networks.
        gamma: Discount.
        batch_size: Transitions per update.
        actor_rate: The actor's learning rate.
        critic_rate: The critic's learning rate.
        updates: Updates after every episode; by default one per decision, at least 30, for ``amc`` one per decision.

    Raises:
        UsageError: if a value is out of its range.
    """

    hidden: int = 300
    tau: float = 0.01
    gamma: float = 1.0
    batch_size: int = 64
    actor_rate: float = 1e-4
    critic_rate: float = 1e-3
    updates: int | None = None

    def __post_init__(self) -> None:
        for name in ("hidden", "batch_size") if self.updates is None else ("hidden", "batch_size", "updates"):
            check_number("ddpg", name, getattr(self, name), low=1, whole=True)
        for name in ("tau", "gamma"):
            check_number("ddpg", name, getattr(self, name), high=1)
        for name in ("actor_rate", "critic_rate"):
            check_number("ddpg", name, getattr(self, name))

    def over(self, decisions: int, *, published: bool = False) -> ActorCritic:
        """Return the same with the number of updates filled in.

        Args:
            decisions: Steps of an episode.
            published: Whether it is filled in as in the paper and its code.
        """
        usual = decisions if published else max(decisions, 30)
        return replace(self, updates=usual if self.updates is None else self.updates)

    def build(self, env: gymnasium.Env[Any, Any], algorithm: str, *, transitions: int) -> Learner:
        """Return new networks with an empty replay, from torch's global random numbers.

        Args:
            env: The game; only its spaces matter.
            algorithm: A class of ``autoprune.agents._sb3``.
            transitions: How many the replay has to hold.
        """
        require("The agent needs", "gymnasium", "stable_baselines3")
        from autoprune.agents import _sb3  # slow to import, and only the learners need it

        learner: type[Learner] = getattr(_sb3, algorithm)
        return learner(
            env,
            actor_rate=self.actor_rate,
            critic_rate=self.critic_rate,
            buffer_size=transitions,
            batch_size=self.batch_size,
            tau=self.tau,
            gamma=self.gamma,
            policy_kwargs={"net_arch": [self.hidden, self.hidden]},
        )

    def update(self, model: Learner) -> None:
        """Update networks and their targets after an episode, with batches from the replay."""
        assert self.updates is not None, "filled in by `over`"
        model.train(self.updates, self.batch_size)


@dataclass(frozen=True)
class RewardScale:
    """Rewards are read relative to a moving average (AMC's baseline), and in units of their deviation in the replay.

    Attributes:
        baseline_rate: Weight of the newest reward in the moving average; the first ones are averaged evenly.
        scaled: Whether rewards are divided by their standard deviation, so that their unit does not matter. By default true, for
            ``amc`` false.

    Raises:
        UsageError: if a value is out of its range.
    """

    baseline_rate: float = 0.05
    scaled: bool | None = None

    def __post_init__(self) -> None:
        check_number("ddpg", "baseline_rate", self.baseline_rate, high=1)
        if self.scaled is not None:
            check_switch("ddpg", "scaled", self.scaled)

    def over(self, *, published: bool = False) -> RewardScale:
        """Return the same with ``scaled`` filled in, ``published`` as in the paper and its code."""
        return replace(self, scaled=not published if self.scaled is None else self.scaled)

    def update(self, replay: EpisodeReplay, reward: float, told: int) -> None:
        """Move a replay's baseline and scale after an episode was stored in it.

        Args:
            replay: The replay.
            reward: The episode's reward.
            told: How many episodes were stored, this one among them.
        """
        replay.baseline += max(self.baseline_rate, 1 / told) * (reward - replay.baseline)
        if self.scaled:
            replay.scale = max(float(replay.rewards[: replay.size()].std()), 1e-6)
