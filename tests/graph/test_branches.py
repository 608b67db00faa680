"""Forwards that go by how many channels there are: never wrong at any count, judged by the masked dense network."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from autoprune.graph import build_graph, prove
from autoprune.graph._rounds import Rounds
from autoprune.groups import Group
from autoprune.surgery import prune_model

from .._sample import pick
from ._nets import Net, conv
from ._oracle import leaves, prunable, zeroed

WIDTH = 12
IMAGES = torch.randn(2, 3, 5, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
TABLE = {12: torch.relu, 7: torch.sigmoid, 1: torch.tanh}
LISTED = [torch.relu] * 5 + [torch.tanh] + [torch.relu] * 10


def _loop(x: Tensor) -> Tensor:
    for _ in range(x.shape[1] - 9):
        x = x * 1.1
    return x


def _unpacked(x: Tensor) -> Tensor:
    _, c, *_ = x.shape
    return x.relu() if c > 2 else x.tanh()


def _match(x: Tensor) -> Tensor:
    match x.size(1):
        case 5 | 6:
            return x.tanh()
        case _:
            return x


def _raises(x: Tensor) -> Tensor:
    assert x.shape[1] >= 4, "too narrow"
    return x


ASKS: dict[str, Callable[[Any, Tensor], Tensor]] = {
    "more than": lambda m, x: x if x.shape[1] > 3 else x.tanh(),
    "at least, from size()": lambda m, x: x if x.size()[1] >= 2 else x.tanh(),
    "equal to one number": lambda m, x: x.tanh() if x.shape[1] == 5 else x,
    "negative index": lambda m, x: x if x.shape[-3] != 8 else x.tanh(),
    "divisible": lambda m, x: x if x.size(1) % 4 == 0 else x.tanh(),
    "odd": lambda m, x: x.tanh() if x.shape[1] % 2 else x,
    "half of it": lambda m, x: x if x.shape[1] // 2 > 2 else x.tanh(),
    "a ratio": lambda m, x: x if x.shape[1] / 4 > 1.5 else x.tanh(),
    "a root": lambda m, x: x if math.sqrt(x.shape[1] * 1.0) > 2.5 else x.tanh(),
    "table": lambda m, x: TABLE.get(x.shape[1], torch.relu)(x),
    "list": lambda m, x: LISTED[x.shape[1]](x),
    "set": lambda m, x: x.tanh() if x.shape[1] in {3, 9} else x,
    "tuple as a key": lambda m, x: {(4, 5): torch.tanh}.get(tuple(x.shape[1:3]), torch.relu)(x),
    "match": lambda m, x: _match(x),
    "unpacked": lambda m, x: _unpacked(x),
    "loop": lambda m, x: _loop(x),
    "maximum": lambda m, x: x / max(x.shape[1], 6),
    "minimum": lambda m, x: x * min(x.shape[1], 4),
    "number of elements": lambda m, x: x if x.numel() > 200 else x.tanh(),
    "elements of an image": lambda m, x: x if x[0].numel() > 100 else x.tanh(),
    "flattened": lambda m, x: x if x.flatten(1).shape[1] > 80 else x.tanh(),
    "attribute of a layer": lambda m, x: x if m.a.out_channels > 3 else x.tanh(),
    "attribute of the next": lambda m, x: x if m.b.in_channels != 6 else x.tanh(),
    "attribute of a norm": lambda m, x: x if m.n.num_features > 4 else x.tanh(),
    "shape of a weight": lambda m, x: x if m.a.weight.shape[0] > 3 else x.tanh(),
    "length of a bias": lambda m, x: x if len(m.a.bias) > 3 else x.tanh(),
    "width against another's": lambda m, x: x if x.shape[1] > m.c.weight.shape[0] else x.tanh(),
    "asserts": lambda m, x: _raises(x),
}
COUNTS: dict[str, Callable[[Any, Tensor], Tensor]] = {
    "the count itself": lambda m, x: x * x.shape[1],
    "scaled by its root": lambda m, x: x * x.shape[1] ** -0.5,
}
HARMLESS: dict[str, Callable[[Any, Tensor], Tensor]] = {
    "the same either way": lambda m, x: x + x if x.shape[1] > 3 else 2 * x,
    "shapes compared": lambda m, x: x if x.shape == x.relu().shape else -x,
    "positive": lambda m, x: x if x.shape[1] > 0 else -x,
    "positions": lambda m, x: x if x.shape[2] > 4 and x.size(3) % 5 == 0 else -x,
    "images": lambda m, x: x if len(x) and x.shape[0] < 10**6 else -x,
    "viewed": lambda m, x: x.view(x.size(0), x.size(1), -1).view(x.shape),
    "unpacked and unused": lambda m, x: x.view(*list(x.shape)),
}
CASES = [(name, dead) for name in {**ASKS, **COUNTS, **HARMLESS} for dead in (0, 5, 11)]


def _net(middle: Callable[[Any, Tensor], Tensor], dead: int) -> nn.Module:
    """Return conv -> norm -> relu -> middle -> conv; some of the channels never reach the output."""
    torch.manual_seed(1)
    model = Net(
        lambda m, x: m.c(F.relu(m.b(middle(m, F.relu(m.n(m.a(x))))))),
        a=conv(3, WIDTH),
        n=nn.BatchNorm2d(WIDTH),
        b=conv(WIDTH, 6),
        c=conv(6, 2),
    )
    with torch.no_grad():
        model.n.bias.uniform_(0.1, 0.5)
        model.b.weight[:, :dead] = 0
    return model.double().eval()


def _worst(model: nn.Module, graph: Any) -> float:
    """Return the largest distance over all counts of every group alone, and all groups together."""
    rng = np.random.default_rng(0)
    worst = 0.0
    groups = prunable(graph)
    policies = [{group.name: count} for group in groups for count in range(1, group.size)]
    policies += [{group.name: int(rng.integers(1, group.size)) for group in groups} for _ in range(4 * bool(groups))]
    for counts in policies:
        kept = {name: np.sort(rng.permutation(graph.group(name).size)[:count]) for name, count in counts.items()}
        with torch.no_grad():
            small, dense = prune_model(model, graph, kept)(IMAGES), zeroed(model, graph, kept)(IMAGES)
        for ours, theirs in zip(leaves(small), leaves(dense), strict=True):
            worst = max(worst, float((ours - theirs).norm() / theirs.norm()))
    return worst


@pytest.mark.parametrize(("name", "dead"), pick(CASES, 16))
def test_never_wrong_at_any_count(name: str, dead: int) -> None:
    model = _net({**ASKS, **COUNTS, **HARMLESS}[name], dead)
    graph = prove(model, build_graph(model, IMAGES), IMAGES)
    reasons = {group.name: group.reason for group in graph.groups}
    if name in HARMLESS:
        assert reasons["a"] is None
    elif name in COUNTS:
        assert "changes the output" in str(reasons["a"])
    else:
        assert "their number" in str(reasons["a"]), reasons
    assert _worst(model, graph) < 1e-8


def test_weights_that_no_channel_survives_are_woken_or_refused() -> None:
    model = _net(lambda m, x: x if x.shape[1] > 3 else x.tanh(), WIDTH)
    graph = prove(model, build_graph(model, IMAGES), IMAGES)
    assert graph.group("a").reason is not None


@pytest.mark.parametrize(("size", "live"), [(2, [1]), (7, [0, 3]), (16, list(range(16)))])
def test_rounds(size: int, live: list[int]) -> None:
    groups = [Group(str(index), index, size, "inner", (), (), ()) for index in range(5)]
    rounds = Rounds(groups, dict.fromkeys(range(5), np.array(live)), torch.Generator().manual_seed(0))
    left: dict[int, set[int]] = {index: set() for index in range(5)}
    for removed in itertools.chain(rounds.standard(), rounds.alone(), rounds.counted({size // 2}, 64)):
        for index, units in removed.items():
            assert 0 < len(np.unique(units)) == len(units) < size
            assert ((units >= 0) & (units < size)).all()
            left[index].add(size - len(units))
    assert all(found == set(range(1, size)) for found in left.values())
    mixed, single, *others = rounds.standard()
    assert all(len(removed) < 5 for removed in others)
    assert all(np.isin(removed[index], live).any() for removed in (mixed, *others) for index in removed)
    assert all(len(units) == size - 1 and len(np.setdiff1d(live, units)) for units in single.values())
    assert len(mixed) == len(single) == 5
    first = next(iter(rounds.counted({size // 2}, 1)))
    assert all(abs(size - len(units) - size // 2) <= 1 for units in first.values())
