"""Every operator and idiom of the table ends as it must, and what is pruned equals the masked original."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from autoprune.graph import build_graph, prove
from autoprune.surgery import folded, prune_model
from autoprune.testing import check_surgery, masked_outputs

from ._nets import CASES, Net, conv
from ._oracle import leaves, prunable, random_kept, zeroed

NOT_BY_WEIGHTS = {
    *("group norm", "layer norm over channels", "normalised over channels"),
    *("matmul with the channels", "correlation of two layers"),
}
"""Cases where something else than a layer reads the channels, which zeroed weights cannot tell."""


@pytest.mark.parametrize("name", CASES)
def test_operator(name: str) -> None:
    make, expected = CASES[name]
    torch.manual_seed(0)
    model = make().double().eval()
    images = torch.randn(2, 3, 6, 6, dtype=torch.float64)
    graph = prove(model, build_graph(model, images), images)
    assert graph.proved
    model = folded(model, graph.folded)
    between = [group for group in graph.groups if "network's output" not in (group.reason or "")]
    outcome = "refused" if not prunable(graph) else "right" if len(prunable(graph)) == len(between) else "partly"
    assert outcome == expected
    assert all(group.reason for group in graph.groups if group not in prunable(graph))
    check = check_surgery(model, graph, images, policies=2)
    assert check.distance < 1e-9
    assert (check.macs_wrong, check.params_wrong) == (0, 0)
    for seed in range(0 if name in NOT_BY_WEIGHTS else 2):
        kept = random_kept(graph, seed)
        with torch.no_grad():
            small = leaves(prune_model(model, graph, kept)(images))
            dense = leaves(zeroed(model, graph, kept)(images))
        for ours, theirs in zip(small, dense, strict=True):
            torch.testing.assert_close(ours, theirs, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_a_model_in_half_precision(dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    model = Net(
        lambda m, x: m.c(F.relu(m.n(m.b(F.relu(m.a(x)))))),
        a=conv(3, 8),
        b=conv(8, 8),
        n=nn.GroupNorm(2, 8),
        c=conv(8, 4),
    )
    images = torch.randn(2, 3, 6, 6)
    wide = prove(model, build_graph(model, images), images)
    model.to(dtype).eval()
    graph = prove(model, build_graph(model, images.to(dtype)), images.to(dtype))
    assert [(group.name, group.reason) for group in graph.groups] == [
        (group.name, group.reason) for group in wide.groups
    ]
    kept = random_kept(graph, 0)
    with torch.no_grad():
        small = prune_model(model, graph, kept)
        found = small(images.to(dtype))
        assert found.dtype == dtype
        (expected,) = masked_outputs(model.double(), graph, kept, images.to(dtype).double())
    torch.testing.assert_close(found.double(), expected, rtol=0.1, atol=0.1 * float(expected.abs().max()))


def test_table_is_large_and_refuses_little() -> None:
    assert len(CASES) >= 90
    assert sum(expected == "refused" for _, expected in CASES.values()) <= 15


def _pruned_norm(norm: nn.Module, kept: list[int]) -> tuple[Tensor, Tensor, Tensor, nn.Module]:
    """Return the input of the norm cut to ``kept``, the pruned norm's output and weight, and the pruned model."""
    torch.manual_seed(1)

    def forward(m: Net, x: Tensor) -> Tensor:
        y = m.n(m.first(x))
        m.seen = y
        return m.last(y)

    model = Net(forward, first=conv(3, 8), n=norm, last=conv(8, 4)).double().eval()
    images = torch.randn(2, 3, 6, 6, dtype=torch.float64)
    graph = prove(model, build_graph(model, images), images)
    (group,) = prunable(graph)
    with torch.no_grad():
        small = prune_model(model, graph, {group.name: np.array(kept)})
        small(images)
        return model.first(images), small.seen, small.n.weight, small


def test_group_norm_normalises_over_what_is_left() -> None:
    # Units are pairs (c, c + 4): two groups of four channels each lose the same places.
    before, after, weight, _ = _pruned_norm(nn.GroupNorm(2, 8), [0, 3])
    kept = before[:, [0, 3, 4, 7]].view(2, 2, 2, 6, 6)
    mean, variance = kept.mean((2, 3, 4), keepdim=True), kept.var((2, 3, 4), keepdim=True, correction=0)
    torch.testing.assert_close(after, ((kept - mean) / (variance + 1e-5).sqrt()).view(2, 4, 6, 6))
    assert weight.shape == (4,)


def test_group_norm_with_many_groups_loses_whole_groups() -> None:
    before, after, _, small = _pruned_norm(nn.GroupNorm(4, 8), [1, 2])
    assert small.n.num_groups == 2
    torch.testing.assert_close(after, F.group_norm(before[:, [2, 3, 4, 5]], 2))
