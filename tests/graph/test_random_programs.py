"""Random small networks composed of the operators: never a crash, and what is pruned equals the masked original."""

from __future__ import annotations

import os
from collections.abc import Callable

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from autoprune.graph import build_graph, prove
from autoprune.surgery import prune_model

from ._nets import conv
from ._referee import prunable, random_kept, zeroed

PROGRAMS = int(os.environ.get("AUTOPRUNE_PROGRAMS", "12"))
"""Programs in the suite; set the variable for more."""

FUNCTIONS: list[Callable[[Tensor], Tensor]] = [
    F.relu,
    torch.sigmoid,
    lambda x: F.max_pool2d(x, 3, 1, 1),
    lambda x: F.pad(x, (1, 0, 0, 1))[:, :, 1:, :-1],
    lambda x: x.flip(1),
    lambda x: x.flip(3),
    lambda x: torch.roll(x, 2, 2),
    lambda x: x.flatten(2).transpose(1, 2).transpose(1, 2).unflatten(2, (6, 6)),
    lambda x: torch.cat([x, -x], 1),
    lambda x: F.pixel_unshuffle(F.interpolate(x, scale_factor=2.0), 2),
    lambda x: x.softmax(1),
    lambda x: x * x.mean((2, 3), keepdim=True).sigmoid(),
    lambda x: F.pad(x, (0, 0, 0, 0, 1, 1)),
    # for even widths only
    lambda x: torch.cat(x.chunk(2, 1)[::-1], 1),
    lambda x: x[:, : x.shape[1] // 2] * x[:, x.shape[1] // 2 :],
    lambda x: F.glu(x, 1),
    lambda x: torch.channel_shuffle(x, 2),
    lambda x: x[:, ::2] + x[:, 1::2],
]
EVEN = 5
"""So many of them, the last ones, ask for an even width."""


class Program(nn.Module):
    """A list of steps on a growing list of values, all of shape (N, any, 6, 6)."""

    def __init__(self, seed: int) -> None:
        super().__init__()
        rng = np.random.default_rng(seed)
        self.steps: list[tuple[str, int, int]] = []
        self.layers = nn.ModuleList()
        widths = [3]
        for _ in range(rng.integers(4, 12)):
            source, other = (int(i) for i in rng.integers(max(0, len(widths) - 3), len(widths), 2))
            same = [i for i, width in enumerate(widths) if width == widths[source] and i != source]
            kind = str(rng.choice(["conv", "conv", "norm", "function", "function", "function", "add", "cat", "gate"]))
            if kind in ("add", "gate") and not same:
                kind = "conv"
            if kind == "conv":
                i, o = widths[source], int(rng.choice([4, 6, 8, 12]))
                groups = int(rng.choice([g for g in (1, 1, 2, 4, i) if i % g == 0 and o % g == 0]))
                self.layers.append(conv(i, o, int(rng.choice([1, 3])), groups=groups))
            elif kind == "norm":
                self.layers.append(nn.BatchNorm2d(widths[source]))
            elif kind == "function":
                # Whether a width is even is asked here once: a forward that asks changes with what is pruned.
                other = int(rng.integers(len(FUNCTIONS) if widths[source] % 2 == 0 else len(FUNCTIONS) - EVEN))
            elif kind in ("add", "gate"):
                other = int(rng.choice(same))
            self.steps.append((kind, source, other))
            with torch.no_grad():
                widths = [value.shape[1] for value in self.values(torch.zeros(2, 3, 6, 6))]
            if max(widths) > 64:
                self.steps[-1] = ("keep", source, other)
                widths[-1] = widths[source]
        self.read = [len(widths) - 1, len(widths) // 2]
        self.heads = nn.ModuleList([nn.Linear(widths[self.read[0]], 3), nn.Conv2d(widths[self.read[1]], 2, 6)])

    def values(self, x: Tensor) -> list[Tensor]:
        found = [x]
        layers = iter(self.layers)
        for kind, source, other in self.steps:
            x = found[source]
            if kind in ("conv", "norm"):
                x = next(layers)(x)
            elif kind == "function":
                x = FUNCTIONS[other](x)
            elif kind == "add":
                x = x + found[other]
            elif kind == "gate":
                x = x * found[other].sigmoid()
            elif kind == "cat":
                x = torch.cat([x, found[other]], 1)
            found.append(x)
        return found

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        values = self.values(x)
        return self.heads[0](values[self.read[0]].mean((2, 3))), self.heads[1](values[self.read[1]])


def check(seed: int) -> int:
    """Return how many groups of a program were pruned and found right."""
    torch.manual_seed(seed)
    model = Program(seed).double().eval()
    images = torch.randn(2, 3, 6, 6, dtype=torch.float64)
    graph = prove(model, build_graph(model, images), images)
    kept = random_kept(graph, seed)
    with torch.no_grad():
        small, dense = prune_model(model, graph, kept)(images), zeroed(model, graph, kept)(images)
    for ours, theirs in zip(small, dense, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-8, atol=1e-8)
    return len(prunable(graph))


@pytest.mark.parametrize("seed", range(PROGRAMS))
def test_program(seed: int) -> None:
    check(seed)  # asserts
