"""Networks whose times follow a known formula, as a profile would have measured them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
from torch import Tensor, nn, randn

from autoprune.graph import Group, PruningGraph, build_graph
from autoprune.groups import allowed_counts
from autoprune.latency import Profile, Target
from autoprune.latency._design import design
from autoprune.latency._profile import Sample
from autoprune.latency._segments import Segments
from autoprune.problem import decidable

FloatArray = npt.NDArray[np.float64]
Formula = Callable[[FloatArray, int], float]
"""Seconds of a segment from its channels (in, out, ..) and its number."""
TARGET = Target("eager", threads=1)


class Block(nn.Module):
    def __init__(self, width: int, inner: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(width, inner, 3, padding=1)
        self.norm = nn.BatchNorm2d(inner)
        self.conv2 = nn.Conv2d(inner, width, 3, padding=1)

    def forward(self, images: Tensor) -> Tensor:
        found: Tensor = images + self.conv2(self.norm(self.conv1(images)).relu())
        return found


class Net(nn.Module):
    """Three equal blocks between a stem and a classifier."""

    def __init__(self, width: int = 16, inner: int = 24) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, width, 3, padding=1)
        self.blocks = nn.Sequential(*(Block(width, inner) for _ in range(3)))
        self.head = nn.Linear(width, 5)

    def forward(self, images: Tensor) -> Tensor:
        found: Tensor = self.head(self.blocks(self.stem(images)).mean((2, 3)))
        return found


def traced(net: nn.Module, *, residual: bool = False) -> tuple[PruningGraph, tuple[Group, ...], Tensor]:
    example = randn(2, 3, 8, 8)
    graph = build_graph(net.eval(), example)
    return graph, decidable(graph, include_residual=residual), example


def levels_of(decisions: Sequence[Group]) -> list[tuple[int, ...]]:
    return [allowed_counts(group.size, min_keep=0.1) for group in decisions]


def whole_time(channels: FloatArray, formula: Formula) -> FloatArray:
    return np.array([formula(row, number) for number, row in enumerate(channels)])


def measured(
    graph: PruningGraph,
    decisions: Sequence[Group],
    formula: Formula,
    *,
    path: Path | None = None,
    networks: int = 30,
    parts: bool = True,
    levels: Sequence[tuple[int, ...]] | None = None,
) -> Profile:
    """Return the profile of a network whose segments take what the formula says."""
    segments = Segments(graph, decisions)
    profile = Profile.open(TARGET, path)
    profile.add_network(segments.network, segments.keys)
    dense = whole_time(segments.channels(np.array([segments.sizes]))[0], formula).sum()
    for counts in design(levels or levels_of(decisions), networks):
        channels = segments.channels(np.array([counts]))[0]
        seconds = whole_time(channels, formula)
        profile.add(
            Sample(
                segments.network,
                {g.name: k for g, k in zip(decisions, counts, strict=True) if k != g.size},
                channels,
                float(dense),
                float(seconds.sum() / dense),
                0.0,
                7,
                seconds / seconds.sum() if parts else None,
                tuple(range(len(seconds))) if parts else None,
            )
        )
    return profile
