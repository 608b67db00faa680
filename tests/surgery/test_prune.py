"""Surgery: the pruned network computes what the zeroed full-size one computes, and is otherwise the same module."""

from __future__ import annotations

import copy
import io
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from autoprune.errors import UsageError
from autoprune.groups import IntArray, PruningGraph
from autoprune.surgery import prune_model

from ._networks import Mixed, chain, masked, mixed

CASES = {"mixed": mixed, "chain": chain, "narrow": lambda: chain((1, 9, 2))}


def random_kept(graph: PruningGraph, seed: int) -> dict[str, IntArray]:
    rng = np.random.default_rng(seed)
    return {
        g.name: np.sort(rng.choice(g.size, rng.integers(1, g.size + 1), replace=False))
        for g in graph.groups
        if g.reason is None
    }


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("name", CASES)
def test_equals_the_masked_original(name: str, seed: int) -> None:
    model, graph, image = CASES[name]()
    before = {key: value.clone() for key, value in model.state_dict().items()}
    kept = random_kept(graph, seed)
    small = prune_model(model, graph, kept)
    with torch.no_grad():
        torch.testing.assert_close(small(image), masked(model, graph, kept)(image), rtol=1e-5, atol=1e-5)
    assert before.keys() == small.state_dict().keys()
    for key, value in model.state_dict().items():
        assert torch.equal(value, before[key]), key


def test_attributes_follow_the_shapes() -> None:
    model, graph, _ = mixed()
    small: Any = prune_model(
        model, graph, {"stem": np.array([1, 4]), "mix": np.array([0, 3, 7]), "up": np.array([2, 3])}
    )
    assert (small.stem.in_channels, small.stem.out_channels) == (3, 2)
    assert small.norm.num_features == 2
    assert (small.mix.in_channels, small.mix.out_channels) == (6, 3)
    depthwise = small.depthwise
    assert (depthwise.in_channels, depthwise.out_channels, depthwise.groups) == (3, 6, 3)
    assert (small.up.in_channels, small.up.out_channels) == (6, 6)
    assert (small.grouped.in_channels, small.grouped.out_channels, small.grouped.groups) == (6, 4, 2)
    assert (small.down.in_channels, small.down.out_channels, small.down.groups) == (4, 4, 2)
    assert (small.head.in_features, small.head.out_features) == (100, 5)
    assert torch.equal(small.norm.running_var, model.get_buffer("norm.running_var")[[1, 4]])
    # Every layer is what its own constructor would have made.
    for module in small.modules():
        if isinstance(module, nn.Conv2d):
            made = nn.Conv2d(module.in_channels, module.out_channels, module.kernel_size, groups=module.groups)
            assert made.weight.shape == module.weight.shape


def test_nothing_is_shared_with_the_original() -> None:
    model, graph, _ = mixed()
    small = prune_model(model, graph, {"stem": np.arange(3)})
    theirs = {t.untyped_storage().data_ptr() for t in [*model.parameters(), *model.buffers()]}
    ours = [t.untyped_storage().data_ptr() for t in [*small.parameters(), *small.buffers()]]
    assert theirs.isdisjoint(ours)
    assert len(set(ours)) == len(ours)
    assert type(small) is Mixed
    assert not {id(m) for m in model.modules()} & {id(m) for m in small.modules()}


def test_no_kept_is_a_deep_copy() -> None:
    model, graph, image = mixed()
    small = prune_model(model, graph, {})
    expected = copy.deepcopy(model)
    assert str(small) == str(expected)
    for (name, ours), (other, theirs) in zip(small.named_modules(), expected.named_modules(), strict=True):
        assert name == other
        assert list(ours.__dict__) == list(theirs.__dict__), name
        plain = (int, str, float, bool, tuple, type(None))
        assert {k: v for k, v in ours.__dict__.items() if isinstance(v, plain)} == {
            k: v for k, v in theirs.__dict__.items() if isinstance(v, plain)
        }
    assert torch.equal(small(image), expected(image))


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16, torch.float16])
def test_dtype_mode_and_requires_grad_stay(dtype: torch.dtype) -> None:
    model, graph, _ = mixed()
    model.to(dtype).train()
    model.get_submodule("norm").eval()
    model.get_parameter("mix.weight").requires_grad_(False)
    model.get_parameter("side.bias").requires_grad_(False)
    small = prune_model(model, graph, random_kept(graph, 0))
    for (name, a), (_, b) in zip(model.named_parameters(), small.named_parameters(), strict=True):
        assert (a.dtype, a.requires_grad, type(a)) == (b.dtype, b.requires_grad, type(b)), name
        assert b.is_leaf
    assert [m.training for m in model.modules()] == [m.training for m in small.modules()]
    assert small.get_buffer("norm.num_batches_tracked").dtype == torch.int64


def test_memory_format_stays() -> None:
    model, graph, image = mixed()
    kept = random_kept(graph, 1)
    plain = prune_model(model, graph, kept)
    model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    small = prune_model(model, graph, kept)
    reference = copy.deepcopy(plain).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    for (name, a), (_, b) in zip(reference.named_parameters(), small.named_parameters(), strict=True):
        if a.dim() == 4 and min(a.shape[:2]) > 1:  # Strides of a dimension of one mean nothing.
            assert a.stride() == b.stride(), name
        assert torch.equal(a, b)
    torch.testing.assert_close(small(image), plain(image))
    for name, parameter in plain.named_parameters():
        assert parameter.is_contiguous(), name


def test_device_stays() -> None:
    model, graph, _ = mixed()
    small = prune_model(model.to("meta"), graph, random_kept(graph, 3), tensors={"head.bias": torch.zeros(5)})
    assert {t.device.type for t in [*small.parameters(), *small.buffers()]} == {"meta"}


def test_it_trains_pickles_and_copies() -> None:
    model, graph, image = mixed()
    small = prune_model(model, graph, random_kept(graph, 2)).train()
    optimizer = torch.optim.SGD(small.parameters(), lr=0.1)
    before = copy.deepcopy(small.state_dict())
    small(image).square().mean().backward()
    optimizer.step()
    assert all(parameter.grad is not None for parameter in small.parameters())
    assert not torch.equal(before["mix.weight"], small.state_dict()["mix.weight"])
    stream = io.BytesIO()
    torch.save(small, stream)
    stream.seek(0)
    small.eval()
    loaded = torch.load(stream, weights_only=False).eval()
    assert torch.equal(loaded(image), small(image))
    assert torch.equal(copy.deepcopy(small)(image), small(image))


def test_a_pruned_network_prunes_again_with_its_own_graph_only() -> None:
    model, graph, _ = chain()
    small = prune_model(model, graph, {"0": np.array([0, 2])})
    with pytest.raises(UsageError, match=r"'0.weight' of shape \(2, 3, 3, 3\)"):
        prune_model(small, graph, {"0": np.array([0])})
    with pytest.raises(UsageError, match="does not have"):
        prune_model(nn.Linear(2, 2), graph, {})


def test_refitted_weights_replace_the_narrowed() -> None:
    model, graph, image = chain()
    kept = {"0": np.array([0, 2]), "3": np.array([1, 2, 5])}
    weight = torch.randn(3, 2, 3, 3, dtype=torch.float64)
    small = prune_model(model, graph, kept, tensors={"3.weight": weight, "11.bias": torch.zeros(3)})
    found = small.get_parameter("3.weight")
    assert found.dtype == torch.float32
    assert torch.equal(found, weight.float())
    assert not small.get_parameter("11.bias").any()
    assert model.get_parameter("11.bias").all()
    assert small(image).shape == (2, 3)
    same = torch.randn(3, 2, 3, 3)
    small = prune_model(model, graph, kept, tensors={"3.weight": same})
    same.zero_()
    assert small.get_parameter("3.weight").any()
    with pytest.raises(UsageError, match=r"shape \(3, 4, 3, 3\) in the weights but \(3, 2, 3, 3\)"):
        prune_model(model, graph, kept, tensors={"3.weight": torch.zeros(3, 4, 3, 3)})
    with pytest.raises(UsageError, match=r"'7\.gamma', which this model does not have"):
        prune_model(model, graph, kept, tensors={"7.gamma": torch.zeros(3)})


@pytest.mark.parametrize(
    ("kept", "message"),
    [
        ({"conv9": [0]}, "no channel group 'conv9'"),
        ({"stem": []}, "at least one of its 6"),
        ({"stem": [0, 6]}, r"0\.\.5"),
        ({"stem": [-1, 0]}, r"0\.\.5"),
        ({"stem": [2, 1]}, "ascending"),
        ({"stem": [1, 1]}, "distinct"),
        ({"stem": [[1, 2]]}, "at least one"),
        ({"head": [0, 1]}, "cannot be pruned: it is the network's output"),
    ],
)
def test_bad_channels_are_refused(kept: dict[str, list[int]], message: str) -> None:
    model, graph, _ = mixed()
    with pytest.raises(UsageError, match=message):
        prune_model(model, graph, {name: np.array(units, dtype=np.int64) for name, units in kept.items()})


def test_a_frozen_group_may_be_listed_whole() -> None:
    model, graph, image = mixed()
    small = prune_model(model, graph, {"head": np.arange(5)})
    assert torch.equal(small(image), model(image))
