"""Stable-Baselines3's DDPG, TD3 and SAC with two learning rates, a reward baseline, and random numbers of their own."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import gymnasium
import numpy as np
import numpy.typing as npt
import stable_baselines3
import torch
from stable_baselines3.common.buffers import ReplayBuffer
from stable_baselines3.common.logger import Logger
from stable_baselines3.common.off_policy_algorithm import OffPolicyAlgorithm
from stable_baselines3.common.type_aliases import ReplayBufferSamples
from stable_baselines3.common.vec_env import VecNormalize

from autoprune.envs import Trajectory


class EpisodeReplay(ReplayBuffer):
    """A replay buffer of whole episodes whose rewards are read relative to a moving baseline.

    The rewards stored are raw; baseline and scale are applied when a batch is drawn, so that old and new transitions are
    measured alike.

    Attributes:
        baseline: Subtracted from every reward.
        scale: What the difference is divided by.
    """

    baseline: float = 0.0
    scale: float = 1.0

    def add_episode(self, episode: Trajectory, reward: float) -> None:
        """Store a finished episode, its terminal reward shared by all its transitions.

        Args:
            episode: What was seen and what was applied.
            reward: The policy's reward.
        """
        last = len(episode.actions) - 1
        for step, action in enumerate(episode.actions):
            seen, then = episode.observations[step], episode.observations[step + 1]
            self.add(seen, then, action, np.array([reward]), np.array([step == last]), [{}])

    def _get_samples(self, batch_inds: npt.NDArray[np.int64], env: VecNormalize | None = None) -> ReplayBufferSamples:
        samples = super()._get_samples(batch_inds, env)
        return samples._replace(rewards=(samples.rewards - self.baseline) / self.scale)


class Learner(OffPolicyAlgorithm):
    """What the three learners have in common: actor and critic keep learning rates of their own, and learn from whole episodes.

    The originals reset both rates to one at every update.

    Args:
        env: The game; gives the spaces.
        actor_rate: The actor's learning rate.
        critic_rate: The critic's learning rate (and the entropy coefficient's).
        **options: Anything the algorithm takes.
    """

    def __init__(self, env: gymnasium.Env[Any, Any], *, actor_rate: float, critic_rate: float, **options: Any) -> None:
        self._actor_rate, self._critic_rate = actor_rate, critic_rate
        super().__init__(
            "MlpPolicy",
            env,
            learning_rate=critic_rate,
            replay_buffer_class=EpisodeReplay,
            device="cpu",  # Small networks on batches of 64: faster than any transfer.
            **options,
        )
        self._update_learning_rate(list(self.optimizers().values()))
        self.set_logger(Logger(folder=None, output_formats=[]))

    @property
    def replay(self) -> EpisodeReplay:
        """The replay buffer."""
        assert isinstance(self.replay_buffer, EpisodeReplay)
        return self.replay_buffer

    def optimizers(self) -> dict[str, torch.optim.Optimizer]:
        """Return the optimisers by what they change."""
        policy: Any = self.policy
        return {"actor": policy.actor.optimizer, "critic": policy.critic.optimizer}

    def act(self, observation: npt.NDArray[np.float32], *, deterministic: bool = True) -> float:
        """Return the actor's action in [-1, 1] for an observation of shape (11,), without noise if ``deterministic``."""
        action, _ = self.predict(observation, deterministic=deterministic)
        return float(action[0])

    def _update_learning_rate(self, optimizers: list[torch.optim.Optimizer] | torch.optim.Optimizer) -> None:
        for name, optimizer in self.optimizers().items():
            for group in optimizer.param_groups:
                group["lr"] = self._actor_rate if name == "actor" else self._critic_rate


class LearnDDPG(Learner, stable_baselines3.DDPG):
    """DDPG."""


class LearnTD3(Learner, stable_baselines3.TD3):
    """TD3: two critics of which the smaller counts, noise on the target's action, an actor that learns every other update."""


class LearnSAC(Learner, stable_baselines3.SAC):
    """SAC: two critics and a stochastic actor, paid for its entropy."""

    def optimizers(self) -> dict[str, torch.optim.Optimizer]:
        """Return the optimisers by what they change."""
        found = super().optimizers()
        return found if self.ent_coef_optimizer is None else {**found, "entropy": self.ent_coef_optimizer}


@contextmanager
def seeded(rng: np.random.Generator) -> Iterator[None]:
    """Seed torch's and NumPy's global generators, which Stable-Baselines3 draws from, and put them back afterwards.

    Args:
        rng: Where the seed is drawn from.
    """
    before = np.random.get_state()  # noqa: NPY002
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(int(rng.integers(2**63)))
        np.random.seed(int(rng.integers(2**32)))  # noqa: NPY002
        try:
            yield
        finally:
            np.random.set_state(before)  # noqa: NPY002
