"""Which channels the proof takes away, and that no group's fault hides behind another group."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from autoprune.graph import Group, build_graph, prove
from autoprune.graph._rounds import Rounds
from autoprune.surgery import prune_model

from .._sample import pick
from ._nets import Net, conv

WIDTH = 8
IMAGES = torch.randn(2, 3, 6, 6, generator=torch.Generator().manual_seed(0))


def _group(index: int, size: int) -> Group:
    return Group(f"g{index}", index, size, "inner", (), (), (), None)


@pytest.mark.parametrize("count", [1, 2, 3, 4, 7, 12, 21, 40])
def test_each_group_loses_channels_while_any_other_is_whole(count: int) -> None:
    groups = [_group(index, 5 + index % 4) for index in range(count)]
    live = {group.index: np.arange(1, group.size) for group in groups}
    rounds = list(Rounds(groups, live, torch.Generator().manual_seed(count)).standard())
    for one, other in itertools.permutations(range(count), 2):
        assert any(one in removed and other not in removed for removed in rounds)
    assert sum(len(removed) == count for removed in rounds) >= 2
    for group in groups:
        left = [group.size - len(removed[group.index]) for removed in rounds if group.index in removed]
        assert {1, group.size - 1} <= set(left)
        assert all(0 < number < group.size for number in left)
        assert all(
            np.isin(removed[group.index], live[group.index]).any() for removed in rounds if group.index in removed
        )


def _together(first: int, second: int) -> nn.Module:
    """Return a network whose forward is wrong where one of two layers loses channels and the other does not."""

    def forward(m: Net, x: Tensor) -> Tensor:
        fewer = []
        for layer in m.layers:
            x = F.relu(layer(x))
            fewer.append(torch.ones(x.shape[1]).sum() < WIDTH)
        return m.last(x) * torch.where(fewer[first] == fewer[second], 1.0, 2.0)

    torch.manual_seed(0)
    layers = nn.ModuleList([conv(3, WIDTH), *(conv(WIDTH, WIDTH) for _ in range(5))])
    return Net(forward, layers=layers, last=conv(WIDTH, 2)).eval()


@pytest.mark.parametrize("pair", pick(list(itertools.combinations(range(6), 2)), 4), ids=str)
def test_fault_that_only_one_group_shows(pair: tuple[int, int]) -> None:
    model = _together(*pair)
    graph = build_graph(model, IMAGES)
    kept = {f"layers.{number}": np.arange(WIDTH - 2) for number in pair}
    with torch.no_grad():  # it is wrong: what the last layer gives is twice as large as it should be
        both, one = (prune_model(model, graph, part)(IMAGES) for part in (kept, {f"layers.{pair[0]}": np.arange(6)}))
    assert not torch.allclose(both, one)
    proved = prove(model, graph, IMAGES)
    for number, group in enumerate(proved.groups[:-1]):
        assert (group.reason is not None) == (number in pair)
