"""Models that ``torch.export`` refuses: recorded, with the assumption stated, and proved like the rest."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from autoprune.errors import AutopruneError
from autoprune.graph import PruningGraph, _trace, build_graph, prove
from autoprune.reconstruct import Plan
from autoprune.surgery import prune_model

from ._nets import Net, conv
from ._oracle import leaves, prunable, random_kept, zeroed

IMAGES = torch.randn(2, 3, 6, 6, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


@dataclass
class Outputs:
    logits: Tensor
    features: Tensor


def net(forward: Callable[..., Any], **members: Any) -> Net:
    torch.manual_seed(0)
    members = {"a": conv(3, 8), "n": nn.BatchNorm2d(8), "b": conv(8, 8), "c": conv(8, 4)} | members
    return Net(forward, **members).double().eval()


def middle(m: Net, x: Tensor) -> Tensor:
    return F.relu(m.b(F.relu(m.n(m.a(x)))))


def check(model: nn.Module, images: Tensor = IMAGES) -> PruningGraph:
    """Return the proved graph of a model that is right when pruned at random."""
    graph = prove(model, build_graph(model, images), images)
    for seed in range(2):
        kept = random_kept(graph, seed)
        with torch.no_grad():
            small, dense = prune_model(model, graph, kept)(images), zeroed(model, graph, kept)(images)
        for ours, theirs in zip(leaves(small), leaves(dense), strict=True):
            torch.testing.assert_close(ours, theirs, rtol=1e-9, atol=1e-9)
    return graph


def test_branch_on_the_images() -> None:
    graph = check(net(lambda m, x: m.c(middle(m, x)) if x.amax() > -100 else m.c(middle(m, -x))))
    assert [group.name for group in prunable(graph)] == ["a", "b"]
    assert "recorded" in str(graph.assumption)
    assert graph.refusals[0].reason == graph.assumption
    assert graph.dynamic_batch


def test_branch_that_the_proofs_noise_would_leave() -> None:
    images = IMAGES.abs()
    graph = check(net(lambda m, x: m.c(middle(m, x)) if x.amin() >= 0 else m.c(m.a(x))), images)
    assert [group.name for group in prunable(graph)] == ["a", "b"]


def test_branch_on_the_channels_keeps_them() -> None:
    def forward(m: Net, x: Tensor) -> Tensor:
        y = F.relu(m.a(x))
        y = y * 2 if y.mean() > 1e-4 else y
        return m.c(F.relu(m.b(y)))

    graph = check(net(forward))
    assert [group.name for group in prunable(graph)] == ["b"]
    assert "channels are reduced to one number" in str(graph.group("a").reason)


def test_number_read_from_one_channel_keeps_it() -> None:
    graph = check(net(lambda m, x: m.c(F.relu(y := m.b(m.a(x))) * (2 if y[0, 0, 0, 0] > -1e9 else 1))))
    assert graph.group("b").reason is not None


def test_loop_as_long_as_the_images_say() -> None:
    def forward(m: Net, x: Tensor) -> Tensor:
        y = middle(m, x)
        for _ in range(int((x.amax() > -100).long() + 1)):
            y = F.relu(m.d(y))
        return m.c(y)

    graph = check(net(forward, d=conv(8, 8)))
    assert [layer.name for layer in graph.layers] == ["a", "b", "d", "d#2", "c"]
    assert [group.name for group in prunable(graph)] == ["a", "b"]


def test_dataclass_of_outputs() -> None:
    graph = check(net(lambda m, x: Outputs(m.c(y := middle(m, x)), y)))
    assert [group.name for group in prunable(graph)] == ["a"]
    assert graph.group("b").reason == "they are channels of the network's output"


@pytest.mark.filterwarnings("ignore:.*torch.jit.script:FutureWarning")
def test_scripted_submodule_stays_and_the_rest_goes() -> None:
    script = torch.jit.script(nn.Sequential(conv(8, 6), nn.ReLU()))
    graph = check(net(lambda m, x: m.c(F.relu(m.d(m.s(middle(m, x))))), s=script, d=conv(6, 8)))
    assert [group.name for group in prunable(graph)] == ["a", "d"]
    assert "the module 's' is scripted" in str(graph.group("b").reason)


def test_tensor_made_in_the_code() -> None:
    graph = check(net(lambda m, x: m.c(middle(m, x) * torch.tensor(2.0)) if x.amax() > -100 else x))
    assert list(graph.program.constants)
    assert len(prunable(graph)) == 2


def test_buffer_that_the_forward_writes_to_is_left_alone() -> None:
    def forward(m: Net, x: Tensor) -> Tensor:
        m.count += 1
        return m.c(middle(m, x)) if x.amax() > -100 else x

    model = net(forward, count=torch.zeros((), dtype=torch.float64))
    build_graph(model, IMAGES[:1])
    assert model.count.item() == 0


def test_fixed_batch_is_noticed() -> None:
    model = net(lambda m, x: m.c(middle(m, x).view(2, -1, 6, 6)) if x.amax() > -100 else x)
    assert not build_graph(model, IMAGES).dynamic_batch


def test_program_can_be_run_step_by_step() -> None:
    model = net(lambda m, x: m.c(middle(m, x)) if x.amax() > -100 else x)
    plan = Plan(build_graph(model, IMAGES), model)
    assert plan.computes(model, torch.randn(5, 3, 6, 6, dtype=torch.float64))


def test_data_parallel_is_looked_into() -> None:
    graph = check(nn.DataParallel(net(lambda m, x: m.c(middle(m, x)))))
    assert [group.name for group in prunable(graph)] == ["module.a", "module.b"]
    assert graph.dynamic_batch
    assert graph.assumption is None


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision(dtype: torch.dtype) -> None:
    model, images = net(lambda m, x: m.c(middle(m, x))).to(dtype), IMAGES.to(dtype)
    graph = prove(model, build_graph(model, images), images)
    assert [group.name for group in prunable(graph)] == ["a", "b"]
    assert prune_model(model, graph, random_kept(graph, 0))(images).dtype == dtype


def test_nothing_is_printed_or_logged(capfd: pytest.CaptureFixture[str]) -> None:
    build_graph(net(lambda m, x: m.c(middle(m, x)) if middle(m, x).mean() > 0 else x), IMAGES)
    assert capfd.readouterr() == ("", "")


def test_model_that_cannot_be_recorded_either(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(model: nn.Module, images: Tensor) -> None:
        raise RuntimeError("no way")

    monkeypatch.setattr(_trace, "record", refuse)
    with pytest.raises(AutopruneError, match=r"neither by torch\.export \(.+\) nor by recording it \(no way\)"):
        build_graph(net(lambda m, x: m.c(middle(m, x)) if x.sum() > 0 else x), IMAGES)
