"""Runs of the driver on the toy problem."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from autoprune.agents import Agent
from autoprune.budget import Budget
from autoprune.graph import IntArray
from autoprune.problem import Finished
from autoprune.report import Progress
from autoprune.runs import BASELINES, RunConfig, RunFolder
from autoprune.searching import Driver, Ending
from autoprune.testing import ToyProblem

EPISODES = 5
ALL = (*BASELINES, "random")
WALL_TIME = ("wall_s", "elapsed_s")


class Problem(ToyProblem):
    """The toy problem, with networks to finish: a finished one is a little better than its score, in either part."""

    def __init__(self, *, budget: float = 0.5, finish_gain: float = 0.01, steps: int = 4) -> None:
        super().__init__(4, budget=budget, steps=steps)
        self.gain = finish_gain
        self.setup_images = 7.0
        self.setup_cost = 2.0
        self.report_images = 100
        self.dense_right = None
        self.notes = ("One thing to know.",)
        self.dense_report = replace(self.dense, accuracy=0.94)
        self.finished: list[tuple[int, ...]] = []

    def rebuilt(self, kept: Mapping[str, IntArray], state: Mapping[str, Tensor], /) -> nn.Module:
        network = nn.Linear(2, sum(map(len, kept.values())))
        for name in state.keys() - network.state_dict().keys():  # what a subclass adds
            network.register_buffer(name, state[name])
        network.load_state_dict(dict(state))
        return network

    def loader(self, network: nn.Module, /) -> str:
        return "# how to load it\n"

    def timed(self, network: nn.Module, /) -> None:
        return None

    def as_scored(self, counts: Sequence[int], /) -> tuple[nn.Module, dict[str, IntArray]]:
        kept = {g.name: np.arange(n) for g, n in zip(self.decisions, counts, strict=True)}
        return nn.Linear(2, sum(counts)), kept

    def finish(self, counts: Sequence[int], /) -> Finished:
        self.finished.append(tuple(counts))
        self.scored -= 1
        score = self.score(counts)
        kept = {g.name: np.arange(n) for g, n in zip(self.decisions, counts, strict=True)}
        better = replace(score, accuracy=score.accuracy + self.gain, reward=score.reward + self.gain)
        network = nn.Linear(2, sum(counts))
        with torch.no_grad():  # the same for the same counts
            network.weight.copy_(torch.linspace(-1, 1, network.weight.numel()).view_as(network.weight) * counts[0])
            network.bias.fill_(float(counts[-1]))
        return Finished(network, kept, better, replace(better, accuracy=better.accuracy - 0.02))


def config_for(agent: str, episodes: int = EPISODES, budget: Budget | None = None, **options: Any) -> RunConfig:
    return RunConfig(
        **options,
        model="toy",
        data="none",
        budget=budget or Budget(0.5),
        agent=agent,
        episodes=episodes,
        seed=3,
        model_fingerprint="a" * 64,
        data_fingerprint="b" * 64,
    )


def run(
    agent: str | type[Agent],
    path: Path,
    *,
    problem: Problem | None = None,
    episodes: int = EPISODES,
    workers: int = 1,
    ending: Ending | None = None,
    **options: Any,
) -> dict[str, Any]:
    own, agent = agent, agent if isinstance(agent, str) else agent.__name__
    config = config_for(agent, episodes, None if problem is None else problem.budget, **options)
    folder = RunFolder(path)
    folder.check_writable()
    with folder.lock():
        folder.begin(config)
        return Driver(
            problem or Problem(),
            config=config,
            folder=folder,
            model_spec={"name": "toy"},
            progress=Progress(),
            held_out=True,
            started=time.monotonic(),
            agent=own,
            workers=workers,
            ending=ending,
        ).run("0")


def comparable(report: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in report.items() if key not in WALL_TIME}
