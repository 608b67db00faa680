"""The pruning game: a Gymnasium environment over a problem, and the walk underneath it that agents play."""

from __future__ import annotations

from typing import TYPE_CHECKING

from autoprune.envs._features import FEATURES, Features
from autoprune.envs._protocol import CostLike, GraphLike, KnowsErrors, KnowsSensitivities, ProblemLike, ProjectorLike
from autoprune.envs._walk import Trajectory, Walk, to_action, to_ratio, trajectory
from autoprune.support.packages import lazy_names, missing

if TYPE_CHECKING:
    from autoprune.envs._env import ChannelPruningEnv

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


__getattr__ = lazy_names(__name__, {"ChannelPruningEnv": "_env"})  # it is Gymnasium's

if missing(["gymnasium"]) is None:
    import gymnasium

    if ENV_ID not in gymnasium.registry:
        gymnasium.register(id=ENV_ID, entry_point="autoprune.envs:ChannelPruningEnv")
