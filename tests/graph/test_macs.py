"""The closed form of the multiply-adds equals torch's own counter, whatever else than layers multiplies."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from autoprune.cost import CostModel
from autoprune.graph import build_graph, prove
from autoprune.surgery import prune_model

from ._nets import Net, conv, par
from ._oracle import prunable, random_kept


@pytest.fixture(autouse=True)
def _no_fused_layers() -> Iterator[None]:
    before = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    yield
    torch.backends.mha.set_fastpath_enabled(before)


def oracle(model: nn.Module, image: Tensor) -> int:
    """Return the multiply-adds of one image."""
    with FlopCounterMode(display=False) as counter, torch.no_grad(), sdpa_kernel(SDPBackend.MATH):
        model(image)
    return counter.get_total_flops() // 2


def mlp(width: int, **options: bool) -> nn.Module:
    return nn.TransformerEncoderLayer(width, 2, 10, dropout=0.0, **options)


def windows(x: Tensor) -> Tensor:
    n, c, h, w = x.shape
    return x.view(n, c, 2, h // 2, 2, w // 2).permute(0, 2, 4, 3, 5, 1).reshape(n * 4, h * w // 4, c)


NETS: dict[str, Callable[[], nn.Module]] = {
    "convolutions only": lambda: Net(lambda m, x: m.b(F.relu(m.a(x))), a=conv(3, 8), b=conv(8, 4)),
    "attention, batch first": lambda: Net(
        lambda m, x: m.h(m.t(m.a(x).flatten(2).transpose(1, 2))),
        a=conv(3, 8),
        t=mlp(8, batch_first=True),
        h=nn.Linear(8, 2),
    ),
    "attention, batch second": lambda: Net(
        lambda m, x: m.h(m.t(m.a(x).flatten(2).permute(2, 0, 1))), a=conv(3, 8), t=mlp(8), h=nn.Linear(8, 2)
    ),
    "windows in the batch": lambda: Net(
        lambda m, x: m.h(F.relu(m.f(windows(m.a(x))))), a=conv(3, 8), f=nn.Linear(8, 10), h=nn.Linear(10, 2)
    ),
    "matmul, bmm and einsum": lambda: Net(
        lambda m, x: m.h(
            torch.bmm(torch.matmul(y := F.relu(m.a(x)).flatten(2), m.w), y.transpose(1, 2))
            + torch.einsum("ncp,ndp->ncd", y, y)
        ),
        a=conv(3, 8),
        w=par(36, 36),
        h=nn.Linear(8, 2),
    ),
    "layers on a table that no image reaches": lambda: Net(
        lambda m, x: m.b(F.relu(m.a(x)) + m.q(F.relu(m.p(m.w))).view(1, 1, 6, 6)),
        a=conv(3, 8),
        b=conv(8, 4),
        w=par(36, 2),
        p=nn.Linear(2, 7),
        q=nn.Linear(7, 1),
    ),
    "computed weight": lambda: Net(
        lambda m, x: m.b(F.relu(F.conv2d(m.a(x), m.w * 2))), a=conv(3, 8), b=conv(8, 4), w=par(8, 8, 3, 3)
    ),
    "one batch size only": lambda: Net(
        lambda m, x: m.b(F.relu(m.a(x)).view(len(m.n), -1, 6, 6)), a=conv(3, 8), b=conv(8, 4), n=par(2)
    ),
}


@pytest.mark.parametrize("name", NETS)
def test_dense_and_pruned_equal_the_counter(name: str) -> None:
    torch.manual_seed(0)
    model = NETS[name]().eval()
    images = torch.randn(2, 3, 6, 6)
    graph = prove(model, build_graph(model, images), images)
    decisions = prunable(graph)
    cost = CostModel(graph, decisions)
    share = images[:1] if graph.dynamic_batch else images
    assert cost.dense_macs * (1 if graph.dynamic_batch else 2) == oracle(model, share)
    for seed in range(2):
        kept = random_kept(graph, seed)
        small = prune_model(model, graph, kept)
        counts = [len(kept[group.name]) for group in decisions]
        assert cost.macs(counts) * (1 if graph.dynamic_batch else 2) == oracle(small, share)
        assert cost.params(counts) == sum(parameter.numel() for parameter in small.parameters())


def test_attention_is_counted() -> None:
    model = NETS["attention, batch first"]().eval()
    graph = build_graph(model, torch.randn(2, 3, 6, 6))
    assert sum(product.macs for product in graph.products) == 2 * 36 * 36 * 8  # queries with keys, weights with values
