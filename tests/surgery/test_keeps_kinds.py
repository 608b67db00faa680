"""One network of many kinds of modules: pruned, it is what its constructor makes with the smaller widths, in everything."""

from __future__ import annotations

import copy
import io
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils import parametrize
from torch.nn.utils.parametrizations import weight_norm

from autoprune.graph import IntArray, PruningGraph, build_graph, prove
from autoprune.support.tensors import load_safetensors, save_safetensors_atomic
from autoprune.surgery import Policy, load_pruned, prune_model
from autoprune.testing import check_surgery, randomised

WIDTHS = (8, 12, 8, 6, 10, 6)
SMALLER = (4, 6, 4, 3, 5, 3)
DEVICES = ["cpu", pytest.param("cuda", marks=pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU"))]


class Doubled(nn.Module):
    """A parametrization that scales every output channel."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.full((channels, 1, 1, 1), 2.0))

    def forward(self, weight: Tensor) -> Tensor:
        return weight * self.scale


class Kinds(nn.Module):
    """Convolutions of all dimensions, plain, grouped, depthwise, transposed, parametrized; all norms; vectors and buffers.

    Args:
        widths: Numbers of channels.
    """

    def __init__(self, widths: tuple[int, ...] = WIDTHS, *, parametrized: bool = True) -> None:
        super().__init__()
        a, b, c, d, e, f = widths
        self.one = nn.Conv2d(3, a, 3, padding=1, bias=False)
        self.batch_norm = nn.BatchNorm2d(a)
        self.group_norm = nn.GroupNorm(a // 2, a)
        self.depthwise = nn.Conv2d(a, 2 * a, 3, padding=1, groups=a, padding_mode="circular")
        self.instance_norm = nn.InstanceNorm2d(2 * a, affine=True, track_running_stats=True)
        self.layer_norm = nn.LayerNorm(2 * a)
        self.prelu = nn.PReLU(2 * a)
        self.up = nn.ConvTranspose2d(2 * a, b, 2, 2, groups=a // 2)
        self.grouped = nn.Conv2d(b, c, 3, groups=2)
        self.scales = nn.ParameterList([torch.rand(c, 1, 1) + 0.5, torch.rand(1)])
        self.register_buffer("shift", torch.rand(1, c, 1, 1))
        self.register_buffer("secret", torch.rand(c, 1, 1), persistent=False)
        self.parametrized = nn.Conv2d(c, d, 3, padding=1)
        self.normed = nn.Conv2d(d, d, 1)
        if parametrized:
            parametrize.register_parametrization(self.parametrized, "weight", Doubled(d))
            weight_norm(self.normed)
        self.rms_norm = nn.RMSNorm(d)
        self.line = nn.Conv1d(d, e, 3, padding=1)
        self.line_norm = nn.BatchNorm1d(e, affine=False)
        self.volume = nn.Conv3d(e, f, (1, 3, 3))
        self.volume_norm = nn.BatchNorm3d(f)
        self.heads = nn.ModuleDict({"classes": nn.Linear(f, 5), "boxes": nn.Linear(f, 4)})

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        x = self.group_norm(self.batch_norm(self.one(x))).relu()
        x = self.instance_norm(self.depthwise(x)).permute(0, 2, 3, 1)
        x = self.prelu(self.layer_norm(x).permute(0, 3, 1, 2))
        x = self.grouped(self.up(x).tanh())
        x = F.silu(x * self.scales[0] * self.scales[1] + self.shift + self.secret)
        x = self.normed(F.gelu(self.parametrized(x))).permute(0, 2, 3, 1)
        x = self.rms_norm(x).permute(0, 3, 1, 2)
        x = self.line_norm(self.line(x.flatten(2))).unflatten(2, (-1, 16)).unsqueeze(2)
        x = self.volume_norm(self.volume(x)).sigmoid().mean((2, 3, 4))
        return {name: head(x) for name, head in self.heads.items()}


Made = tuple[Kinds, PruningGraph, Tensor, dict[str, IntArray]]


def _made(**options: Any) -> Made:
    torch.manual_seed(0)
    model = cast(Kinds, randomised(Kinds(**options)))
    images = torch.randn(2, 3, 9, 9)
    graph = build_graph(model, images)
    return model, graph, images, {g.name: np.arange(0, g.size, 2) for g in graph.groups if g.reason is None}


@pytest.fixture
def made() -> Made:
    return _made()


def test_it_is_right() -> None:
    model, _, images, _ = _made()
    model.double()
    graph = prove(model, build_graph(model, images.double()), images.double())
    assert sum(group.reason is None for group in graph.groups) == 6
    check = check_surgery(model, graph, images.double(), policies=6)
    assert check.distance < 1e-10
    assert (check.macs_wrong, check.params_wrong) == (0, 0)


def _plain(module: nn.Module) -> dict[str, Any]:
    """Return a module's attributes that are not modules or tensors, hooks by their number."""
    found = {}
    for name, value in vars(module).items():
        if name in ("_parameters", "_buffers", "_modules"):
            continue
        found[name] = len(value) if "hooks" in name else value
    return found


def test_it_is_what_the_constructor_makes_with_the_smaller_widths(made: Made) -> None:
    model, graph, _, kept = made
    small, expected = prune_model(model, graph, kept), Kinds(SMALLER).eval()
    assert repr(small) == repr(expected)
    ours, theirs = dict(small.named_modules()), dict(expected.named_modules())
    assert list(ours) == list(theirs)
    for name, module in ours.items():
        if "parametrizations" not in name and not parametrize.is_parametrized(module):
            assert type(module) is type(theirs[name])
        assert _plain(module) == _plain(theirs[name]), name
    for mine, other in (
        (small.named_parameters(), expected.named_parameters()),
        (small.named_buffers(), expected.named_buffers()),
    ):
        assert [(name, t.shape, t.dtype, type(t)) for name, t in mine] == [
            (name, t.shape, t.dtype, type(t)) for name, t in other
        ]
    expected.load_state_dict(small.state_dict())
    cast(Any, expected).secret = cast(Any, small).secret  # it is not saved
    images = made[2]
    with torch.no_grad():
        for found, wanted in zip(small(images).values(), expected(images).values(), strict=True):
            torch.testing.assert_close(found, wanted)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_half_and_double_precision(dtype: torch.dtype) -> None:
    model, graph, images, kept = _made(parametrized=False)
    model.to(dtype)
    small = prune_model(model, graph, kept)
    assert {p.dtype for p in small.parameters()} == {dtype}
    assert {name: b.dtype for name, b in small.named_buffers()} == {n: b.dtype for n, b in model.named_buffers()}
    traced = build_graph(model, images.to(dtype))  # and it is traced as it is
    assert [(g.name, g.size, g.reason) for g in traced.groups] == [(g.name, g.size, g.reason) for g in graph.groups]
    with torch.no_grad():
        assert {out.dtype for out in small(images.to(dtype)).values()} == {dtype}


@pytest.mark.parametrize("device", DEVICES)
def test_a_module_on_a_device_is_pruned_there(device: str) -> None:
    model, graph, images, kept = _made()
    expected = prune_model(model, graph, kept)(images)
    small = prune_model(model.to(device), graph, kept)
    assert {t.device.type for t in [*small.parameters(), *small.buffers()]} == {device}
    found = small(images.to(device))
    for name, wanted in expected.items():
        torch.testing.assert_close(found[name].cpu(), wanted, rtol=1e-3, atol=1e-4)


def test_modules_may_lie_on_several_devices() -> None:
    model, graph, _, kept = _made(parametrized=False)
    model.volume.to("meta")
    small: Any = prune_model(model, graph, kept)
    assert [p.device.type for p in small.volume.parameters()] == ["meta", "meta"]
    assert small.volume.weight.shape == (3, 5, 1, 3, 3)
    assert {p.device.type for p in small.line.parameters()} == {"cpu"}


def test_memory_formats_of_images_and_volumes() -> None:
    model, graph, _, kept = _made(parametrized=False)
    for module in model.modules():
        if isinstance(module, nn.Conv3d):
            module.to(memory_format=torch.channels_last_3d)  # type: ignore[call-overload]
        elif isinstance(module, nn.Conv2d):
            module.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    small: Any = prune_model(model, graph, kept)
    assert small.volume.weight.is_contiguous(memory_format=torch.channels_last_3d)
    assert small.grouped.weight.is_contiguous(memory_format=torch.channels_last)
    assert small.up.weight.is_contiguous()
    assert not small.volume.weight.is_contiguous()


HOOKS: dict[str, Callable[[nn.Module, list[str]], object]] = {
    "forward pre": lambda m, seen: m.register_forward_pre_hook(lambda *_: seen.append("forward pre")),
    "forward": lambda m, seen: m.register_forward_hook(
        lambda module, args, kwargs, out: seen.append("forward"), with_kwargs=True
    ),
    "backward pre": lambda m, seen: m.register_full_backward_pre_hook(lambda *_: seen.append("backward pre")),
    "backward": lambda m, seen: m.register_full_backward_hook(lambda *_: seen.append("backward")),
    "state": lambda m, seen: m.register_state_dict_pre_hook(lambda *_: seen.append("state")),
    "load": lambda m, seen: m.register_load_state_dict_pre_hook(lambda *_: seen.append("load")),
    "loaded": lambda m, seen: m.register_load_state_dict_post_hook(lambda *_: seen.append("loaded")),
}


def test_hooks_of_every_kind_fire_once() -> None:
    model, graph, images, kept = _made()
    seen: list[str] = []
    for register in HOOKS.values():
        register(model.grouped, seen)
    small = prune_model(model, graph, kept)
    sum(out.sum() for out in small(images).values()).backward()
    small.load_state_dict(small.state_dict())
    assert seen == ["forward pre", "forward", "backward pre", "backward", "state", "load", "loaded"]


def test_it_is_saved_copied_exported_and_trained(made: Made) -> None:
    model, graph, images, kept = made
    small = prune_model(model, graph, kept)
    stream = io.BytesIO()
    torch.save(small.state_dict(), stream)
    stream.seek(0)
    other = Kinds(SMALLER).eval()
    other.load_state_dict(torch.load(stream, weights_only=True))
    other.register_buffer("secret", cast(Any, small).secret, persistent=False)
    exported = torch.export.export(small, (images,), strict=False).module()
    with torch.no_grad():
        expected = small(images)
        for again in (other, copy.deepcopy(small), exported):
            for name, found in again(images).items():
                torch.testing.assert_close(found, expected[name])
    optimizer = torch.optim.AdamW(small.train().parameters(), lr=0.01)
    before = [parameter.detach().clone() for parameter in small.parameters()]
    sum(out.square().mean() for out in small(images).values()).backward()
    optimizer.step()
    assert all(not torch.equal(a, b) for a, b in zip(before, small.parameters(), strict=True))


def test_a_plain_one_pickles_whole() -> None:
    model, graph, images, kept = _made(parametrized=False)
    small = prune_model(model, graph, kept)
    stream = io.BytesIO()
    torch.save(small, stream)  # our own bytes
    stream.seek(0)
    again = torch.load(stream, weights_only=False)
    assert repr(again) == repr(small)
    with torch.no_grad():
        assert torch.equal(again(images)["classes"], small(images)["classes"])


def test_the_original_constructor_and_the_policy_file_bring_it_back(made: Made, tmp_path: Path) -> None:
    model, graph, images, kept = made
    small = prune_model(model, graph, kept)
    Policy(groups=Policy.groups_of(graph.groups, kept)).save(tmp_path / "policy.json")
    save_safetensors_atomic(tmp_path / "model.safetensors", small.state_dict())
    torch.manual_seed(1)
    fresh = Kinds().eval()  # other weights
    cast(Any, fresh).secret = cast(Any, model).secret
    state = load_safetensors(tmp_path / "model.safetensors")
    loaded = load_pruned(fresh, build_graph(fresh, images), Policy.load(tmp_path / "policy.json"), state)
    with torch.no_grad():
        for name, found in loaded(images).items():
            torch.testing.assert_close(found, small(images)[name])
