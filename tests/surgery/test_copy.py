"""What a module may hold besides tensors, and how it must come out of surgery."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Callable
from typing import Any, cast

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils import parametrizations, prune

from autoprune.errors import AutopruneError
from autoprune.groups import ChannelSlice, PruningGraph
from autoprune.surgery import copy_model, prune_model

from ._networks import cut, group

HALF = {"a": np.array([0, 2])}


def graph_of(*slices: ChannelSlice, size: int = 4) -> PruningGraph:
    return PruningGraph(cast(Any, None), (), (group(0, "a", size, *slices),))


class Two(nn.Module):
    """Two linear layers in a row, 3 -> 4 -> 2."""

    def __init__(self) -> None:
        super().__init__()
        self.a = nn.Linear(3, 4)
        self.b = nn.Linear(4, 2)

    def forward(self, x: Tensor) -> Tensor:
        return cast(Tensor, self.b(self.a(x)))


TWO = (cut("a.weight", 0, 4), cut("a.bias", 0, 4), cut("b.weight", 1, 4))


def test_hooks_fire_on_the_copy_and_bound_ones_are_bound_to_it() -> None:
    class Counting(Two):
        def __init__(self) -> None:
            super().__init__()
            self.calls = 0
            self.a.register_forward_hook(self.count)

        def count(self, module: nn.Module, args: object, output: Tensor) -> None:
            self.calls += output.shape[-1]

    model = Counting()
    small = cast(Counting, prune_model(model, graph_of(*TWO), HALF))
    small(torch.zeros(1, 3))
    assert (small.calls, model.calls) == (2, 0)
    assert small.a._forward_hooks is not model.a._forward_hooks


def test_attributes_and_buffers_are_copied() -> None:
    model: Any = Two()
    model.note = {"deep": [1, 2]}
    model.where = torch.device("cpu")
    model.a.register_buffer("scale", torch.arange(4.0), persistent=False)
    model.constant = torch.arange(3)
    model.cached = (model.a.weight * 2).sum()  # Not a leaf: deepcopy refuses it.
    model.mine = model.a.weight
    model.others = [model.b]
    small: Any = prune_model(model, graph_of(*TWO, cut("a.scale", 0, 4)), HALF)
    assert small.note == model.note
    assert small.note["deep"] is not model.note["deep"]
    assert small.a.scale.tolist() == [0.0, 2.0]
    assert "a.scale" not in small.state_dict()
    assert torch.equal(small.constant, model.constant)
    assert small.constant is not model.constant
    assert small.cached == model.cached
    assert small.mine is small.a.weight
    assert small.others[0] is small.b
    assert small.where == model.where


def test_tied_weights_stay_tied() -> None:
    model = Two()
    model.b = nn.Linear(3, 4)
    model.b.weight = model.a.weight
    small: Any = prune_model(model, graph_of(cut("a.weight", 0, 4), cut("a.bias", 0, 4), cut("b.bias", 0, 4)), HALF)
    assert small.a.weight is small.b.weight
    assert small.b.out_features == small.a.out_features == 2
    assert len(list(small.parameters())) == 3
    # Named by the second name, too.
    again: Any = prune_model(model, graph_of(cut("b.weight", 0, 4), cut("a.bias", 0, 4), cut("b.bias", 0, 4)), HALF)
    assert again.a.weight is again.b.weight
    assert again.a.weight.shape == (2, 3)


def test_a_module_used_twice_is_one_module() -> None:
    shared = nn.Linear(4, 4)
    model = nn.Sequential(shared, nn.ReLU(), shared)
    plan = graph_of(cut("0.weight", 0, 4), cut("0.weight", 1, 4), cut("0.bias", 0, 4))
    bias = torch.tensor([5.0, 6.0])
    small: Any = prune_model(model, plan, HALF, tensors={"2.bias": bias})
    assert small[0] is small[2]
    assert small[0].weight.shape == (2, 2)
    assert torch.equal(small[0].bias, bias)
    assert small(torch.zeros(1, 2)).shape == (1, 2)


class Stateful(Two):
    """Says itself how it is copied, through its state."""

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "copied": True}


class Deep(Two):
    """Says itself how it is copied, by a method that follows the rules."""

    def __deepcopy__(self, memo: dict[int, Any]) -> Deep:
        new = Deep.__new__(Deep)
        memo[id(self)] = new
        new.__dict__.update({key: copy.deepcopy(value, memo) for key, value in self.__dict__.items()})
        return new


class Stubborn(Two):
    """Copies itself without regard to the memo."""

    def __deepcopy__(self, memo: dict[int, Any]) -> Stubborn:
        return Stubborn()


@pytest.mark.parametrize("kind", [Stateful, Deep])
def test_modules_that_copy_themselves(kind: type[Two]) -> None:
    model = nn.Sequential(kind(), nn.ReLU())
    prefixed = [cut(f"0.{piece.tensor}", piece.dim, 4) for piece in TWO]
    small: Any = prune_model(model, graph_of(*prefixed), HALF)
    assert type(small[0]) is kind
    assert small[0].a.out_features == 2
    assert small(torch.zeros(1, 3)).shape == (1, 2)
    assert getattr(small[0], "copied", False) is (kind is Stateful)


def test_modules_that_cannot_be_followed_are_reported() -> None:
    prefixed = [cut(f"0.{piece.tensor}", piece.dim, 4) for piece in TWO]
    with pytest.raises(AutopruneError, match=r"'0\.a' \(Linear\) copies itself"):
        prune_model(nn.Sequential(Stubborn()), graph_of(*prefixed), HALF)


def test_parametrizations() -> None:
    model = Two()
    parametrizations.weight_norm(model.a)  # Over dimension 0: norms of shape (4, 1).
    original = "a.parametrizations.weight.original"
    plan = graph_of(cut(f"{original}0", 0, 4), cut(f"{original}1", 0, 4), cut("a.bias", 0, 4), cut("b.weight", 1, 4))
    small: Any = prune_model(model, plan, HALF)
    assert small.a.out_features == 2
    torch.testing.assert_close(small.a.weight, model.a.weight[[0, 2]])
    assert torch.nn.utils.parametrize.is_parametrized(small.a, "weight")


@pytest.mark.filterwarnings("ignore:.*weight_norm.*:FutureWarning")
def test_weights_that_a_hook_computes() -> None:
    model = Two()
    torch.nn.utils.weight_norm(model.a)
    plan = graph_of(cut("a.weight_v", 0, 4), cut("a.weight_g", 0, 4), cut("a.bias", 0, 4), cut("b.weight", 1, 4))
    small: Any = prune_model(model, plan, HALF)
    assert small.a.weight.shape == (2, 3)
    assert small.a.out_features == 2
    x = torch.randn(2, 3)
    torch.testing.assert_close(small.a(x), model.a(x)[:, [0, 2]])

    model = Two()
    prune.l1_unstructured(model.a, "weight", 0.5)
    mask = ("a.weight_orig", "a.weight_mask", "a.bias")
    small = prune_model(model, graph_of(*(cut(name, 0, 4) for name in mask), cut("b.weight", 1, 4)), HALF)
    assert small.a.out_features == 2
    torch.testing.assert_close(small.a(x), model.a(x)[:, [0, 2]])
    prune.remove(small.a, "weight")
    torch.testing.assert_close(small.a.weight, model.a.weight[[0, 2]])


@pytest.mark.parametrize(
    ("make", "slices", "attribute", "expected"),
    [
        (lambda: nn.LayerNorm(4), ("weight", "bias"), "normalized_shape", (2,)),
        (lambda: nn.RMSNorm(4), ("weight",), "normalized_shape", (2,)),
        (lambda: nn.PReLU(4), ("weight",), "num_parameters", 2),
        (lambda: nn.InstanceNorm1d(4, affine=True), ("weight", "bias"), "num_features", 2),
        (lambda: nn.BatchNorm1d(4, affine=False), ("running_mean", "running_var"), "num_features", 2),
        (lambda: nn.GroupNorm(1, 4), ("weight", "bias"), "num_channels", 2),
        (lambda: nn.Conv1d(3, 4, 3), ("weight", "bias"), "out_channels", 2),
        (lambda: nn.Conv3d(4, 4, 1, groups=4), ("weight", "bias"), "groups", 2),
        (lambda: nn.Embedding(4, 6), ("weight",), "num_embeddings", 2),
        (lambda: nn.Bilinear(3, 5, 4), ("weight", "bias"), "out_features", 2),
    ],
)
def test_attributes_by_kind(
    make: Callable[[], nn.Module], slices: tuple[str, ...], attribute: str, expected: object
) -> None:
    model = nn.Sequential(make())
    small = prune_model(model, graph_of(*(cut(f"0.{name}", 0, 4) for name in slices)), HALF)
    assert getattr(small[0], attribute) == expected  # type: ignore[index]


def test_group_norm_loses_whole_normalisation_groups() -> None:
    model = nn.Sequential(nn.GroupNorm(4, 8))
    plan = graph_of(cut("0.weight", 0, 4, repeat=2), cut("0.bias", 0, 4, repeat=2))
    small: Any = prune_model(model, plan, HALF)
    assert (small[0].num_groups, small[0].num_channels) == (2, 4)
    x = torch.randn(2, 8, 3)
    torch.testing.assert_close(small(x[:, [0, 1, 4, 5]]), model(x)[:, [0, 1, 4, 5]])


def test_copy_of_a_scripted_module_has_parameters_of_its_own() -> None:
    torch.manual_seed(0)
    layers = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4))
    layers[1].weight.requires_grad_(False)
    with warnings.catch_warnings(action="ignore"):  # torch.jit is old
        model = nn.Sequential(nn.Conv2d(3, 3, 1), torch.jit.script(layers)).eval()
    images = torch.randn(2, 3, 5, 5)
    before = model(images)
    copied = copy_model(model)
    own = dict(model.named_parameters())
    assert [name for name, _ in copied.named_parameters()] == list(own)
    for name, parameter in copied.named_parameters():
        assert isinstance(parameter, nn.Parameter)
        assert parameter.requires_grad == own[name].requires_grad
        torch.testing.assert_close(parameter, own[name], rtol=0, atol=0)
    assert torch.equal(copied(images), before)
    with torch.no_grad():
        for parameter in copied.parameters():
            parameter.zero_()
    assert torch.equal(copied(images), torch.zeros_like(before))
    assert torch.equal(model(images), before)
