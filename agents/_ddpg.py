"""DDPG (Lillicrap et al., ICLR 2016) as AMC uses it (He et al., ECCV 2018, section 3.3), on Stable-Baselines3.

From the paper and its published code: the features, two hidden layers of 300, soft updates of 0.01, no discount, batches of
64, learning rates of 1e-4 and 1e-3, warm-up episodes of random actions, truncated-normal noise around the actor's action
that decays per episode, the terminal reward shared by all transitions, and a moving-average baseline.

Departures, each of which the agent ``amc`` takes back and an option switches. Where a figure is given it is the mean accuracy of
the last ten of 60 episodes on four toy problems (seeds 0 to 3), where the best policies have 0.933 on average and random ones
0.859:

- The keep ratios that the actor asks for are projected onto the budget *together*. The paper clamps them one after the
  other, so that early layers take what they want and the last ones are crushed: 0.881 against 0.928.
- At least 30 updates an episode instead of one per decision, which is little in a short game: 0.920 against 0.928.
- What is learned from is the applied policy, walked through again, not what was asked for.
- Rewards are divided by their standard deviation in the replay, so that their unit does not matter (no difference there).
- The noise decays more slowly the more episodes there are, so that late episodes still explore.
- Warm-up policies are random on the budget as the ``random`` agent's are. With ``start`` the first are those of the simple rules,
  or of the statistics.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from autoprune.agents._base import Agent, Counts, Told, agents
from autoprune.agents._checks import check_switch
from autoprune.agents._ddpg_exploration import Exploration
from autoprune.agents._ddpg_learning import ActorCritic, RewardScale
from autoprune.agents._random import random_policy
from autoprune.envs import Features, ProblemLike, Walk, to_action, to_ratio, trajectory
from autoprune.evaluation import Score
from autoprune.support.packages import require

_PLAY, _LEARN, _BUILD = 0, 1, 2  # streams of an episode's random numbers


@agents.register("ddpg")
class DDPG(Agent):
    """An actor and a critic that choose one keep ratio after another (`autoprune.envs`).

    Its options are the fields of its three parts, and the last two arguments: ``--agent-option sigma=0.3``.

    Args:
        problem: What is pruned.
        seed: Seed of networks, noise and batches.
        episodes: How many policies will be scored; stretches warm-up and noise.
        exploration: Warm-up and noise.
        actor_critic: The networks and how they are updated.
        rewards: What rewards are measured by.
        together: Whether the ratios are projected onto the budget together; else each is lowered, in turn, to what can still
            meet the budget, and what is left of it is left (the paper's algorithm 1). By default true, for ``amc`` false.
        applied: Whether what is learned from are the applied ratios; else those that were asked for. Likewise.

    Attributes:
        options: All options by name, those filled in that were None.

    Raises:
        UsageError: if a value is out of its range.
    """

    parts: ClassVar[Mapping[str, type]] = {
        "exploration": Exploration,
        "actor_critic": ActorCritic,
        "rewards": RewardScale,
    }
    learner: ClassVar[str] = "LearnDDPG"
    """What learns, of ``autoprune.agents._sb3``."""
    published: ClassVar[bool] = False
    """Whether what is not said otherwise is as in the paper and its code."""

    def __init__(
        self,
        problem: ProblemLike,
        *,
        seed: int = 0,
        episodes: int = 100,
        exploration: Exploration | None = None,
        actor_critic: ActorCritic | None = None,
        rewards: RewardScale | None = None,
        together: bool | None = None,
        applied: bool | None = None,
    ) -> None:
        super().__init__(problem, seed=seed, episodes=episodes)
        published = self.published
        self.exploration = (exploration or Exploration()).over(episodes, published=published)
        self.actor_critic = (actor_critic or ActorCritic()).over(len(problem.decisions), published=published)
        self.rewards = (rewards or RewardScale()).over(published=published)
        self.together = not published if together is None else together
        self.applied = not published if applied is None else applied
        for name in ("together", "applied"):
            check_switch("ddpg", name, getattr(self, name))
        self.options: dict[str, Any] = {
            **asdict(self.exploration),
            **asdict(self.actor_critic),
            **asdict(self.rewards),
            "together": self.together,
            "applied": self.applied,
        }
        self._first = self.exploration.first(problem)
        self._asked: tuple[int, list[float]] | None = None
        self._identity: dict[str, Any] = {
            **({} if self.learner == "LearnDDPG" else {"learner": self.learner}),
            "seed": seed,
            "episodes": episodes,
            "sizes": [group.size for group in problem.decisions],
            "options": self.options,
        }

        require("The agent needs", "gymnasium", "stable_baselines3")
        from autoprune.agents import _sb3  # slow to import, and only the learners need it
        from autoprune.envs import ChannelPruningEnv

        self._seeded = _sb3.seeded
        self._features = Features(problem)
        with self._seeded(self.rng(0, _BUILD)):
            self._model = self.actor_critic.build(
                ChannelPruningEnv(problem), self.learner, transitions=episodes * len(problem.decisions)
            )
        self._told = 0
        self._digest = ""

    def ask(self, episode: int) -> Counts:
        """Return a random policy during the warm-up, then what the actor asks for, with noise, within the budget."""
        rng = self.rng(episode, _PLAY)
        warm = self.exploration.is_warm_up(episode)
        if warm and (self.exploration.on_budget or episode < len(self._first)):
            counts = self._first[episode] if episode < len(self._first) else random_policy(self.problem, rng)
            sizes = [group.size for group in self.problem.decisions]
            self._asked = (episode, [count / size for count, size in zip(counts, sizes, strict=True)])
            return counts
        walk = Walk(self.problem, self._features, raises=self.together)
        ratios = []
        for levels, group in zip(self.problem.levels, self.problem.decisions, strict=True):
            low, high = levels[0] / group.size, levels[-1] / group.size
            ratios.append(
                float(rng.uniform(low, high)) if warm else self._play(walk.observe(), rng, episode, (low, high))
            )
            walk.step(ratios[-1])
        self._asked = (episode, ratios)
        return tuple(self.problem.projector.project(ratios)) if self.together else tuple(walk.prefix)

    def _play(
        self,
        observation: npt.NDArray[np.float32],
        rng: np.random.Generator,
        episode: int,
        within: tuple[float, float],
    ) -> float:
        """Return the keep ratio for an observation: the actor's, with noise, from the least to the most allowed."""
        return self.exploration.noisy(rng, to_ratio(self._model.act(observation)), episode, *within)

    def tell(self, episode: int, counts: Counts, score: Score) -> None:
        """Store the policy's transitions, move the baseline, and learn once the warm-up is over."""
        replay = self._model.replay
        played = trajectory(self.problem, counts, self._features)
        if not self.applied:
            if self._asked is None or self._asked[0] != episode:
                self.ask(episode)
            assert self._asked is not None
            asked = np.array([[to_action(ratio)] for ratio in self._asked[1]], dtype=np.float32)
            played = played._replace(actions=asked)
        replay.add_episode(played, score.reward)
        self._told += 1
        self._digest = _digest(self._digest, (episode, counts, score))
        self.rewards.update(replay, score.reward, self._told)
        if not self.exploration.is_warm_up(episode + 1):
            with self._seeded(self.rng(episode, _LEARN)):
                self.actor_critic.update(self._model)

    def save(self, folder: Path) -> None:
        """Save networks, targets, optimisers, replay and baseline as safetensors and JSON.

        Raises:
            AutopruneError: if the folder cannot be written.
        """
        from autoprune.agents._ddpg_state import save_state

        save_state(folder, self._model, self._told, {**self._identity, "history": self._digest})

    def restore(self, folder: Path, history: Iterable[Told]) -> None:
        """Become the agent that was told ``history``: from the saved state as far as it goes, then by learning again.

        A state that is missing, damaged, or of another history or configuration is not used: everything is then learned
        again from the history, with the same result.
        """
        from autoprune.agents._ddpg_state import load_state, read_state

        told = list(history)
        known = 0
        found = read_state(folder)
        if found is not None and 0 < found[0]["episodes"] <= len(told):
            digest = ""
            for item in told[: found[0]["episodes"]]:
                digest = _digest(digest, item)
            if found[0]["identity"] == {**self._identity, "history": digest}:
                load_state(self._model, *found)
                self._told = known = found[0]["episodes"]
                self._digest = digest
        super().restore(folder, told[known:])


@agents.register("amc")
class AMC(DDPG):
    """DDPG as published, without any departure, for comparison; `DDPG`'s options switch them on again."""

    published = True


@agents.register("td3")
class TD3(DDPG):
    """TD3 (Fujimoto et al., "Addressing Function Approximation Error in Actor-Critic Methods", ICML 2018); DDPG's options."""

    learner = "LearnTD3"


@agents.register("sac")
class SAC(DDPG):
    """SAC (Haarnoja et al., "Soft Actor-Critic", ICML 2018); DDPG's options, but the actor explores by itself, without noise."""

    learner = "LearnSAC"

    def _play(
        self,
        observation: npt.NDArray[np.float32],
        rng: np.random.Generator,
        episode: int,
        within: tuple[float, float],
    ) -> float:
        """Return the keep ratio for an observation, drawn by the actor."""
        low, high = within
        with self._seeded(rng):
            return min(max(to_ratio(self._model.act(observation, deterministic=False)), low), high)


def _digest(before: str, told: Told) -> str:
    """Return a digest of the history up to and with ``told``."""
    episode, counts, score = told
    text = f"{before} {episode} {[int(count) for count in counts]} {score.reward!r}"
    return hashlib.sha256(text.encode()).hexdigest()
