"""The pruning game: a Gymnasium environment over a problem, and the walk underneath it that agents play."""

from __future__ import annotations

import gymnasium

from autoprune.envs._env import ChannelPruningEnv
from autoprune.envs._features import FEATURES, Features
from autoprune.envs._protocol import CostLike, GraphLike, KnowsErrors, KnowsSensitivities, ProblemLike, ProjectorLike
from autoprune.envs._walk import Trajectory, Walk, to_action, to_ratio, trajectory

__all__ = [
    "FEATURES",
    "ChannelPruningEnv",
    "CostLike",
    "Features",
    "GraphLike",
    "KnowsErrors",
    "KnowsSensitivities",
    "ProblemLike",
    "ProjectorLike",
    "Trajectory",
    "Walk",
    "to_action",
    "to_ratio",
    "trajectory",
]

ENV_ID = "autoprune/ChannelPruning-v0"

if ENV_ID not in gymnasium.registry:
    gymnasium.register(id=ENV_ID, entry_point="autoprune.envs:ChannelPruningEnv")
