"""Channel pruning as a game for any Gymnasium learner, after He et al., AMC (ECCV 2018), section 3.

Departures from the paper: a decision is a coupling group rather than a layer, the budget is met from both sides (never
exceeded, and used up to within one rounding step), and ``info`` tells what was applied instead of what was asked for.
"""

from __future__ import annotations

from typing import Any

import gymnasium
import numpy as np
import numpy.typing as npt
from gymnasium import spaces

from autoprune.envs._features import FEATURES, Features, FloatArray
from autoprune.envs._protocol import ProblemLike
from autoprune.envs._walk import Walk, to_ratio


class ChannelPruningEnv(gymnasium.Env[FloatArray, npt.NDArray[np.float32]]):
    """The game: one step per coupling group, the action is its keep ratio, the reward comes at the end.

    - Observation: the eleven features of ``autoprune.envs.FEATURES`` in [0, 1], shape (11,).
    - Action: one number in [-1, 1], shape (1,), mapped linearly to the keep ratio (-1 is 0, 1 is 1) and moved to the
      nearest allowed count within the budget's bounds.
    - Reward: 0 until the last step, then the score's reward.
    - ``info``: after ``reset`` ``macs``; after a step ``macs`` (of the policy so far, everything after it whole),
      ``ratio`` (applied) and ``requested`` (asked for); after the last step also ``counts`` (of the finished policy,
      what was left of the budget filled in), ``ratios`` (the same as keep ratios) and ``score`` (the ``Score``'s
      fields).

    Args:
        problem: What is pruned. None for the embedded digits network at half its MACs.
    """

    metadata: dict[str, Any] = {"render_modes": []}  # noqa: RUF012  (Gymnasium declares it as an instance variable)

    def __init__(self, problem: ProblemLike | None = None) -> None:
        self.problem: ProblemLike = digits_problem() if problem is None else problem
        self.observation_space = spaces.Box(0.0, 1.0, (len(FEATURES),), np.float32)
        self.action_space = spaces.Box(-1.0, 1.0, (1,), np.float32)
        self._features = Features(self.problem)
        self._walk = Walk(self.problem, self._features)

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[FloatArray, dict[str, Any]]:
        """Start a new game. The game itself is not random: ``seed`` only seeds ``np_random``."""
        super().reset(seed=seed, options=options)
        self._walk = Walk(self.problem, self._features)
        return self._walk.observe(), {"macs": self._walk.macs}

    def step(self, action: npt.NDArray[np.float32]) -> tuple[FloatArray, float, bool, bool, dict[str, Any]]:
        """Take one decision.

        Args:
            action: The keep ratio as an action in [-1, 1], shape (1,).

        Returns:
            Observation, reward, whether the game is over, False (it is never cut short), and ``info``.
        """
        if self._walk.done():
            raise gymnasium.error.ResetNeeded("The game is over: call reset() before the next step().")
        requested = to_ratio(np.asarray(action, dtype=np.float64).reshape(-1)[0])
        applied = self._walk.step(requested)
        info: dict[str, Any] = {"macs": self._walk.macs, "ratio": applied, "requested": requested}
        reward = 0.0
        if self._walk.done():
            counts = self._walk.finish()
            score = self.problem.score(counts)
            reward = float(score.reward)
            ratios = [count / group.size for count, group in zip(counts, self.problem.decisions, strict=True)]
            info.update(macs=score.macs, counts=list(counts), ratios=ratios, score=score.to_dict())
        return self._walk.observe(), reward, self._walk.done(), False, info


def digits_problem() -> ProblemLike:
    """Return the default problem: the embedded digits network at half its MACs."""
    from autoprune.data import load_data
    from autoprune.models import load_model
    from autoprune.problem import make_problem

    loaded = load_model("digits", weights=None)
    data = load_data("digits", mean=loaded.mean, std=loaded.std, input_size=loaded.input_shape[-2:])
    example, _ = data.calibration[0]
    return make_problem(
        loaded.model,
        example[None],
        calibration=data.calibration,
        evaluate=data.search,
        report=data.report,
        budget=0.5,
        reward="accuracy",
    )
