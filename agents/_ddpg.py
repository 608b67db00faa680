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
from collections.abc import Iterable
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from autoprune.agents._base import Agent, Counts, Told, agents
from autoprune.agents._random import random_policy
from autoprune.agents._start import first_policies
from autoprune.envs import Features, ProblemLike, Walk, to_action, to_ratio, trajectory
from autoprune.envs._features import FloatArray
from autoprune.errors import UsageError
from autoprune.evaluation import Score
from autoprune.support.packages import lazy, require

special = lazy("scipy.special", "The agent needs")

_PLAY, _LEARN, _BUILD = 0, 1, 2  # streams of an episode's random numbers
_LAST_NOISE = 0.1  # of the first, where the decay is chosen here


@agents.register("ddpg")
class DDPG(Agent):
    """An actor and a critic that play the pruning game.

    Args:
        problem: What is pruned.
        seed: Seed of networks, noise and batches.
        episodes: How many policies will be scored; stretches warm-up and noise.
        warmup: Random policies before the actor takes over; by default a quarter of the episodes, at most 100.
        start: What the first policies of the warm-up are instead of random ones: "nothing", those of the three "rules", or of the
            "statistics".
        sigma: Standard deviation of the noise after the warm-up, in keep ratio.
        decay: What it is multiplied by after every episode. By default such that a tenth of it is left at the end, but no
            faster than the paper's 0.95.
        updates: Updates after every episode; by default one per decision, at least 30.
        hidden: Width of the two hidden layers.
        tau: Rate of the soft updates of the target networks.
        gamma: Discount.
        batch_size: Transitions per update.
        actor_rate: The actor's learning rate.
        critic_rate: The critic's learning rate.
        baseline_rate: Weight of the newest reward in the moving-average baseline.
        together: Whether the ratios are projected onto the budget together; else each is lowered, in turn, to what can still
            meet the budget, and what is left of it is left (the paper's algorithm 1). This and the next three are true, for
            ``amc`` false.
        applied: Whether what is learned from are the applied ratios; else those that were asked for.
        scaled: Whether rewards are divided by their standard deviation.
        on_budget: Whether the warm-up's policies are random on the budget; else random ratios go the actor's way.

    Raises:
        UsageError: if a value is out of its range.
    """

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
        warmup: int | None = None,
        start: str = "nothing",
        sigma: float = 0.5,
        decay: float | None = None,
        updates: int | None = None,
        hidden: int = 300,
        tau: float = 0.01,
        gamma: float = 1.0,
        batch_size: int = 64,
        actor_rate: float = 1e-4,
        critic_rate: float = 1e-3,
        baseline_rate: float = 0.05,
        together: bool | None = None,
        applied: bool | None = None,
        scaled: bool | None = None,
        on_budget: bool | None = None,
    ) -> None:
        super().__init__(problem, seed=seed, episodes=episodes)
        steps = len(problem.decisions)
        self.warmup = max(1, min(100, episodes // 4)) if warmup is None else warmup
        self.sigma = sigma
        self._first = first_policies(problem, start, agent="the ddpg agent")
        slow = _LAST_NOISE ** (1 / max(episodes - self.warmup, 1))
        self.decay = (0.95 if self.published else max(0.95, slow)) if decay is None else decay
        self.updates = (steps if self.published else max(steps, 30)) if updates is None else updates
        self.baseline_rate = baseline_rate
        departures = {"together": together, "applied": applied, "scaled": scaled, "on_budget": on_budget}
        switches = {name: not self.published if value is None else value for name, value in departures.items()}
        self.together, self.applied, self.scaled, self.on_budget = switches.values()
        self._asked: tuple[int, list[float]] | None = None
        self._identity: dict[str, Any] = {
            **({} if self.learner == "LearnDDPG" else {"learner": self.learner}),
            "seed": seed,
            "episodes": episodes,
            "sizes": [group.size for group in problem.decisions],
            "options": {
                "warmup": self.warmup,
                "start": start,
                "sigma": sigma,
                "decay": self.decay,
                "updates": self.updates,
                "hidden": hidden,
                "tau": tau,
                "gamma": gamma,
                "batch_size": batch_size,
                "actor_rate": actor_rate,
                "critic_rate": critic_rate,
                "baseline_rate": baseline_rate,
                **switches,
            },
        }
        _check(self._identity["options"])

        require("The agent needs", "gymnasium", "stable_baselines3")
        from autoprune.agents import _sb3  # Slow to import, and only the learners need it.

        self._seeded = _sb3.seeded
        self._features = Features(problem)
        learner: type[_sb3.Learner] = getattr(_sb3, self.learner)
        with self._seeded(self.rng(0, _BUILD)):
            self._model = learner(
                problem,
                actor_rate=actor_rate,
                critic_rate=critic_rate,
                buffer_size=episodes * steps,
                batch_size=batch_size,
                tau=tau,
                gamma=gamma,
                policy_kwargs={"net_arch": [hidden, hidden]},
            )
        self._told = 0
        self._digest = ""

    def ask(self, episode: int) -> Counts:
        """Return a random policy during the warm-up, then what the actor asks for, with noise, within the budget."""
        rng = self.rng(episode, _PLAY)
        warm = episode < self.warmup
        if warm and (self.on_budget or episode < len(self._first)):
            counts = self._first[episode] if episode < len(self._first) else random_policy(self.problem, rng)
            sizes = [group.size for group in self.problem.decisions]
            self._asked = (episode, [count / size for count, size in zip(counts, sizes, strict=True)])
            return counts
        sigma = self.sigma * self.decay ** (episode - self.warmup)
        walk = Walk(self.problem, self._features, raises=self.together)
        ratios = []
        for levels, group in zip(self.problem.levels, self.problem.decisions, strict=True):
            low = levels[0] / group.size
            ratios.append(float(rng.uniform(low, 1.0)) if warm else self._play(walk.observe(), rng, sigma, low))
            walk.step(ratios[-1])
        self._asked = (episode, ratios)
        return tuple(self.problem.projector.project(ratios)) if self.together else tuple(walk.prefix)

    def _play(self, observation: FloatArray, rng: np.random.Generator, sigma: float, low: float) -> float:
        """Return the keep ratio for an observation: the actor's, with noise, from ``low`` to 1."""
        return truncated_normal(rng, to_ratio(self._model.act(observation)), sigma, low, 1.0)

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
        replay.baseline += max(self.baseline_rate, 1 / self._told) * (score.reward - replay.baseline)
        if self.scaled:
            replay.scale = max(float(replay.rewards[: replay.size()].std()), 1e-6)
        if episode + 1 >= self.warmup:
            with self._seeded(self.rng(episode, _LEARN)):
                self._model.train(self.updates, self._model.batch_size)

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

    def _play(self, observation: FloatArray, rng: np.random.Generator, sigma: float, low: float) -> float:
        """Return the keep ratio for an observation, drawn by the actor."""
        with self._seeded(rng):
            return max(to_ratio(self._model.act(observation, deterministic=False)), low)


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


def _digest(before: str, told: Told) -> str:
    """Return a digest of the history up to and with ``told``."""
    episode, counts, score = told
    text = f"{before} {episode} {[int(count) for count in counts]} {score.reward!r}"
    return hashlib.sha256(text.encode()).hexdigest()


def _check(options: dict[str, Any]) -> None:
    """Refuse values out of range (UsageError)."""
    for name, value in options.items():
        if name == "start":
            continue
        if name in ("together", "applied", "scaled", "on_budget"):
            if not isinstance(value, bool):
                raise UsageError(f"The value of '{name}' is {value!r}, but the ddpg agent needs true or false.")
            continue
        whole = name in ("warmup", "updates", "hidden", "batch_size")
        low = 1 if name in ("updates", "hidden", "batch_size") else 0
        high = 1 if name in ("decay", "tau", "gamma", "baseline_rate") else np.inf
        if isinstance(value, bool) or not isinstance(value, int if whole else (int, float)) or not low <= value <= high:
            kind = "a whole number" if whole else "a number"
            limit = f"from {low} to {high}" if high == 1 else f"of at least {low}"
            raise UsageError(f"The value of '{name}' is {value!r}, but the ddpg agent needs {kind} {limit}.")
