from __future__ import annotations

import numpy as np
import pytest
from torch import nn

from autoprune.latency._segments import Segments
from autoprune.models import load_model
from autoprune.surgery import prune_model

from ._synthetic import Net, traced


@pytest.mark.parametrize("residual", [False, True])
def test_channels_are_those_of_the_pruned_modules(residual: bool) -> None:
    net = Net()
    graph, decisions, _ = traced(net, residual=residual)
    segments = Segments(graph, decisions)
    rng = np.random.default_rng(0)
    for _ in range(5):
        counts = [int(rng.integers(1, group.size + 1)) for group in decisions]
        small = prune_model(net, graph, {g.name: np.arange(k) for g, k in zip(decisions, counts, strict=True)})
        modules = dict(small.named_modules())
        for item, row in zip(segments.items, segments.channels(np.array([counts]))[0], strict=True):
            weight = modules[item.layer].weight
            assert isinstance(weight, nn.Parameter)
            assert (row[1], row[0]) == tuple(weight.shape[:2])


def test_equal_blocks_have_equal_keys_and_what_follows_is_in_them() -> None:
    graph, decisions, _ = traced(Net())
    keys = {item.layer: item.key for item in Segments(graph, decisions).items}
    assert keys["blocks.0.conv1"] == keys["blocks.1.conv1"] == keys["blocks.2.conv1"]
    assert keys["blocks.0.conv2"] == keys["blocks.1.conv2"] != keys["blocks.0.conv1"]
    assert "mean" in keys["blocks.2.conv2"]  # another operator follows the last block
    assert "batch_norm@8x8 relu@8x8" in keys["blocks.0.conv1"]


def test_the_fingerprint_is_that_of_the_dense_network() -> None:
    graph, decisions, _ = traced(Net())
    assert Segments(graph, decisions).network == Segments(graph, decisions[:1]).network
    other, others, _ = traced(Net(inner=20))
    assert Segments(other, others).network != Segments(graph, decisions).network


def test_depthwise_convolutions_have_no_product_of_channels() -> None:
    class Separable(nn.Sequential):
        def __init__(self) -> None:
            super().__init__(
                nn.Conv2d(3, 8, 1), nn.Conv2d(8, 8, 3, groups=8), nn.Conv2d(8, 4, 1), nn.Flatten(), nn.Linear(144, 2)
            )

    graph, decisions, _ = traced(Separable())
    segments = Segments(graph, decisions)
    dense = segments.channels(np.array([segments.sizes]))[0]
    assert dense[:, 2].tolist() == [1, 0, 1, 1]
    assert "grouped 1>1" in segments.keys[1]
    half = segments.channels(np.array([[size // 2 for size in segments.sizes]]))[0]
    assert half[3, 0] == 72  # 2 channels of 6 x 6 positions


def test_resnet56_has_few_kinds_of_segments() -> None:
    loaded = load_model("cifar-resnet20")
    from autoprune.graph import build_graph

    graph = build_graph(loaded.model, loaded.example_input())
    keys = Segments(graph, [group for group in graph.groups if group.reason is None]).keys
    assert len(keys) == 20
    assert len(set(keys)) == 12
