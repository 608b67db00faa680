"""On traced networks: the pruned one is a module like the original in everything but its sizes."""

from __future__ import annotations

import copy
import io
from collections.abc import Callable
from typing import Any, cast

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torchvision.models import mobilenet_v3_small

from autoprune.graph import IntArray, PruningGraph, build_graph, prove
from autoprune.surgery import prune_model
from autoprune.testing import check_surgery, randomised


class OwnNorm(nn.Module):
    """A layer norm over channels as many repositories have it: the number of channels is an attribute."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(channels))
        self.bias = nn.Parameter(torch.zeros(channels))
        self.normalized_shape = (channels,)

    def forward(self, x: Tensor) -> Tensor:
        x = x.permute(0, 2, 3, 1)
        return F.layer_norm(x, self.normalized_shape, self.weight, self.bias, 1e-6).permute(0, 3, 1, 2)


class OwnScale(nn.Module):
    """A layer scale that views its vector in a shape it was given."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.shape = [channels, 1, 1]
        self.scale = nn.Parameter(torch.ones(channels))

    def forward(self, x: Tensor) -> Tensor:
        return x * self.scale.view(self.shape)


class OwnBlur(nn.Module):
    """A fixed filter for every channel, in a buffer that is not saved."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.channels = channels
        self.kernel_size = 3
        self.register_buffer("filter", torch.full((channels, 1, 3, 3), 1 / 9), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        return F.conv2d(x, cast(Tensor, self.filter), padding=1, groups=self.channels)


class Own(nn.Module):
    """Own modules between convolutions, a residual join, and a hook that counts."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 12, 3, padding=1)
        self.norm = OwnNorm(12)
        self.branch = nn.Sequential(nn.Conv2d(12, 16, 1), OwnBlur(16), nn.GELU(), nn.Conv2d(16, 12, 1), OwnScale(12))
        self.head = nn.Linear(12, 5)
        self.calls: list[int] = []
        self.branch[0].register_forward_hook(self.count)

    def count(self, module: nn.Module, args: Any, output: Tensor) -> None:
        if not torch.compiler.is_compiling():
            self.calls.append(output.shape[1])

    def forward(self, x: Tensor) -> Tensor:
        x = self.norm(self.stem(x))
        return cast(Tensor, self.head((x + self.branch(x)).relu().mean((2, 3))))


Made = tuple[nn.Module, PruningGraph, Tensor, dict[str, IntArray]]
MAKE: dict[str, Callable[[], nn.Module]] = {"own": Own, "mobilenet": lambda: mobilenet_v3_small(num_classes=7)}


@pytest.fixture(params=MAKE)
def made(request: pytest.FixtureRequest) -> Made:
    """A model, its graph, images, and about half of every group."""
    torch.manual_seed(0)
    model = randomised(MAKE[request.param]())
    images = torch.randn(4, 3, 32, 32)
    graph = build_graph(model, images)
    kept = {group.name: np.arange(0, group.size, 2) for group in graph.groups if group.reason is None}
    assert len(kept) >= 2
    return model, graph, images, kept


def test_modules_with_their_own_sizes_are_pruned_right() -> None:
    torch.manual_seed(0)
    model = randomised(Own()).double()
    images = torch.randn(2, 3, 6, 6, dtype=torch.float64)
    graph = prove(model, build_graph(model, images), images)
    assert [group.name for group in graph.groups if group.reason is None] == ["stem", "branch.0"]
    check = check_surgery(model, graph, images, policies=10)
    assert check.distance < 1e-10
    assert (check.macs_wrong, check.params_wrong) == (0, 0)
    small: Any = prune_model(model, graph, {"stem": np.arange(3), "branch.0": np.arange(7)})
    assert small.norm.normalized_shape == (3,)
    assert small.branch[4].shape == [3, 1, 1]
    assert (small.branch[1].channels, small.branch[1].kernel_size) == (7, 3)
    assert cast(Any, model).branch[4].shape == [12, 1, 1]


def test_classes_names_and_buffers(made: Made) -> None:
    model, graph, _, kept = made
    small = prune_model(model, graph, kept)
    ours, theirs = dict(small.named_modules()), dict(model.named_modules())
    assert [(name, type(module)) for name, module in ours.items()] == [(n, type(m)) for n, m in theirs.items()]
    assert list(small.state_dict()) == list(model.state_dict())
    assert [name for name, _ in small.named_buffers()] == [name for name, _ in model.named_buffers()]


def test_what_is_frozen_stays_frozen_and_modes_stay(made: Made) -> None:
    model, graph, _, kept = made
    for number, (parameter, module) in enumerate(zip(model.parameters(), model.modules(), strict=False)):
        parameter.requires_grad_(number % 3 > 0)
        module.training = number % 2 > 0
    small = prune_model(model, graph, kept)
    assert [p.requires_grad for p in small.parameters()] == [p.requires_grad for p in model.parameters()]
    assert [m.training for m in small.modules()] == [m.training for m in model.modules()]


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_dtype_and_memory_format(made: Made, dtype: torch.dtype) -> None:
    model, graph, images, kept = made
    model.to(dtype=dtype, memory_format=torch.channels_last)  # type: ignore[call-overload]
    small = prune_model(model, graph, kept)
    assert {p.dtype for p in small.parameters()} == {dtype}
    wide = [p for p in small.parameters() if p.dim() == 4 and min(p.shape[1:]) > 1]
    assert wide
    assert all(p.is_contiguous(memory_format=torch.channels_last) for p in wide)
    x = images.to(dtype=dtype, memory_format=torch.channels_last)
    assert small(x).dtype == dtype


def test_it_exports_again_and_can_be_pruned_again(made: Made) -> None:
    model, graph, images, kept = made
    small = prune_model(model, graph, kept)
    exported = torch.export.export(small, (images,), strict=False).module()
    with torch.no_grad():
        torch.testing.assert_close(exported(images), small(images))
    again = build_graph(small, images)
    sizes = {group.name: len(kept.get(group.name, range(group.size))) for group in graph.groups}
    assert {group.name: group.size for group in again.groups} == sizes


def test_it_pickles_and_deep_copies(made: Made) -> None:
    model, graph, images, kept = made
    small = prune_model(model, graph, kept)
    stream = io.BytesIO()
    torch.save(small, stream)
    stream.seek(0)
    for other in (torch.load(stream, weights_only=False), copy.deepcopy(small)):
        assert str(other) == str(small)
        with torch.no_grad():
            assert torch.equal(other(images), small(images))


def test_it_trains_one_step_and_leaves_the_original_alone(made: Made) -> None:
    model, graph, images, kept = made
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    small = prune_model(model, graph, kept).train()
    start = [parameter.detach().clone() for parameter in small.parameters()]
    optimizer = torch.optim.SGD(small.parameters(), lr=0.1)
    small(images).square().mean().backward()
    optimizer.step()
    moved = [not torch.equal(a, b) for a, b in zip(start, small.parameters(), strict=True)]
    assert sum(moved) > 0.9 * len(moved)  # a channel that is never positive gives no gradient
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())


def test_hooks_of_every_kind_are_there_and_bound_to_the_copy() -> None:
    torch.manual_seed(0)
    model = randomised(Own())
    seen: list[str] = []
    model.stem.register_forward_pre_hook(lambda *_: seen.append("pre"))
    model.head.register_full_backward_hook(lambda *_: seen.append("backward"))
    model.register_state_dict_post_hook(lambda *_: seen.append("state"))
    images = torch.randn(2, 3, 6, 6)
    graph = build_graph(model, images)
    small = cast(Own, prune_model(model, graph, {"branch.0": np.arange(5)}))
    seen.clear()
    model.calls.clear()
    small.calls.clear()
    small(images).sum().backward()
    small.state_dict()
    assert (small.calls, model.calls) == ([5], [])
    assert seen == ["pre", "backward", "state"]
