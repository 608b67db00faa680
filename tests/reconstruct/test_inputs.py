"""What selections are given of the dense network, against the model itself; and that nothing else is collected."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from autoprune.errors import UsageError
from autoprune.groups import Group
from autoprune.reconstruct import Backend, CachedRefit, Choice, DenseInputs, SequentialRefit, Statistics
from autoprune.select import (
    DenseNetwork,
    NestedSelection,
    Selection,
    SelectionInputs,
    collect,
    input_kinds,
    selections,
)

from ._networks import Grouped, Plain, Residual, images, planned, trained


def dense_of(network: nn.Module, count: int = 40) -> tuple[DenseInputs, dict[str, Group]]:
    graph, plan = planned(network)
    groups = [group for group in graph.groups if group.reason is None]
    statistics = Statistics(plan, images(count), rows=10**6, seed=0)
    return DenseInputs(statistics, groups), {group.name: group for group in groups}


def test_filters_are_the_producers_own_rows() -> None:
    network = trained(Residual())
    dense, groups = dense_of(network)
    first, second = collect(dense, groups["expand"], {"filters"})["filters"]
    assert torch.equal(first, network.expand.weight.detach().double().flatten(1))
    assert torch.equal(second, network.depth.weight.detach().double().flatten(1))
    for group in groups.values():
        found = collect(dense, group, {"filters", "magnitude"})
        norms = sum(rows.abs().sum(dim=1) for rows in found["filters"])
        torch.testing.assert_close(norms, found["magnitude"])


def test_norms_are_the_batch_norms_over_the_channels() -> None:
    network = trained(Residual())
    dense, groups = dense_of(network)
    found = collect(dense, groups["expand"], {"norms"})["norms"]
    for norm, module in zip(found, (network.expand_bn, network.depth_bn), strict=True):
        for ours, theirs in (
            (norm.scale, module.weight),
            (norm.shift, module.bias),
            (norm.mean, module.running_mean),
            (norm.variance, module.running_var),
        ):
            assert torch.equal(ours, theirs.detach().double())
    assert collect(dense_of(trained(Plain()))[0], dense_of(trained(Plain()))[1]["first"], {"norms"})["norms"] == ()


def test_activations_are_what_goes_into_the_consumers() -> None:
    network = trained(Plain())
    dense, groups = dense_of(network)
    (found,) = collect(dense, groups["first"], {"activations"})["activations"]
    with torch.no_grad():
        source = F.relu(network.first(dense.images))
    columns = F.unfold(source, 3, padding=2, dilation=2).transpose(1, 2).reshape(-1, 6, 9)
    by_tap = columns.transpose(1, 2).flatten(1)
    torch.testing.assert_close(found.values.sort(dim=0).values, by_tap.sort(dim=0).values)
    assert found.unit.tolist() == list(range(6)) * 9


def gated_loss(network: nn.Module, hidden: str, image: Tensor, gate: Tensor, label: int) -> Tensor:
    """The loss of one image with the channels behind a module multiplied."""
    handle = network.get_submodule(hidden).register_forward_pre_hook(
        lambda _module, args: (args[0] * gate.reshape(1, -1, 1, 1),)
    )
    loss = F.cross_entropy(network(image[None]), torch.tensor([label]))
    handle.remove()
    return loss


def test_gradients_are_those_of_a_factor_on_each_channel() -> None:
    """Against one backward pass an image on the model, with the classes that were drawn."""
    network = trained(Plain())
    dense, groups = dense_of(network, 6)
    found = collect(dense, groups["first"], {"gradients"})["gradients"]
    assert found.shape == (6, 6)
    for image, row in zip(dense.images, found, strict=True):
        close = []
        for label in range(5):
            gate = torch.ones(6, requires_grad=True)
            (gradient,) = torch.autograd.grad(gated_loss(network, "second", image, gate, label), gate)
            close.append(torch.allclose(gradient, row, rtol=1e-3, atol=1e-5))
        assert sum(close) == 1
    again = dense_of(network, 6)
    assert torch.equal(collect(again[0], again[1]["first"], {"gradients"})["gradients"], found)


class Maps(nn.Module):
    """Answers with maps, which are linear in the channels of the first convolution."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.last = nn.Conv2d(3, 6, 3), nn.Conv2d(6, 2, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.last(F.relu(self.first(x)))


def test_gradients_of_answers_that_are_no_class_scores_are_of_their_relative_squared_error() -> None:
    """In the mean square, over what is drawn: a channel's share of the answers' variance, in closed form."""
    network = Maps().eval()
    dense, groups = dense_of(network, 32)
    drawn = [
        DenseInputs(dense.statistics, list(groups.values()), seed=seed).gradients(groups["first"]) for seed in range(40)
    ]
    with torch.no_grad():
        source, answers = F.relu(network.first(dense.images)), network(dense.images)
        power = network.last.weight.flatten(1).square().sum(dim=0) * source.square().sum(dim=(2, 3))  # (N, 6)
        expected = power.mean(dim=0) / answers.var(unbiased=False) / answers[0].numel()
    torch.testing.assert_close(torch.stack(drawn).square().mean(dim=(0, 1)), expected, rtol=0.25, atol=0.0)


def test_gradients_of_what_has_none_are_refused() -> None:
    class Places(Maps):
        def forward(self, x: Tensor) -> Tensor:
            return super().forward(x).argmax(dim=1)

    dense, groups = dense_of(Places().eval())
    with pytest.raises(UsageError, match="no answer has one; choose a selection that needs none"):
        dense.gradients(groups["first"])


@pytest.mark.parametrize("make", [Residual, Plain, Grouped])
def test_what_nobody_needs_is_not_collected(make: Callable[[], nn.Module]) -> None:
    network, x = trained(make()), images(50)
    graph, plan = planned(network)
    decisions = [group for group in graph.groups if group.reason is None]
    found = {
        name: Backend(plan, decisions, x, selection=selections.get(name)(), rows=500)
        for name in ("magnitude", "obs", "thinet")
    }
    counts = [max(1, group.size // 2) for group in decisions]
    for backend in found.values():
        backend.sequential(counts)
    assert found["magnitude"].statistics.moments == {}
    assert found["obs"].statistics.moments.keys() == found["thinet"].statistics.moments.keys() != set()
    assert found["magnitude"].setup_macs < found["obs"].setup_macs


def test_moments_that_are_asked_for_later_are_the_same() -> None:
    network, x = trained(Residual()), images(50)
    graph, plan = planned(network)
    decisions = [group for group in graph.groups if group.reason is None]
    at_once, later = (
        Backend(plan, decisions, x, selection=selections.get(name)(), rows=70) for name in ("obs", "magnitude")
    )
    for group in decisions:
        np.testing.assert_array_equal(at_once.errors(group), later.errors(group))
    for name, moments in at_once.statistics.moments.items():
        assert all(map(torch.equal, moments.grams, later.statistics.moments[name].grams))


def test_a_need_that_nobody_collects_is_refused_when_the_selection_is_registered() -> None:
    class Wrong(Selection):
        needs: ClassVar[frozenset[str]] = frozenset({"filter"})

        def keep(self, inputs: SelectionInputs, count: int) -> Any:
            raise NotImplementedError

    with pytest.raises(UsageError, match=r"^The selection 'wrong' needs the input 'filter', .* Did you mean 'filters'"):
        selections.register("wrong")(Wrong)
    assert "wrong" not in selections


def test_reading_what_was_not_named_is_refused() -> None:
    dense, groups = dense_of(trained(Plain()))
    with pytest.raises(UsageError, match=r"^A selection reads the input 'moments', .*; it names: magnitude\.$"):
        _ = collect(dense, groups["first"], {"magnitude"})["moments"]


@pytest.fixture
def shares() -> Iterator[None]:
    @input_kinds.register("zeros")
    def zeros(network: DenseNetwork, group: Group) -> Tensor:
        """Return the share of zeros of each channel, as its consumers see them, shape (size,)."""
        found = network.activations(group)
        return sum(
            torch.zeros(group.size).index_add_(0, one.unit, (one.values == 0).float().mean(dim=0)) for one in found
        )

    yield
    del input_kinds._items["zeros"]


@pytest.mark.usefixtures("shares")
def test_a_kind_of_ones_own_is_one_function() -> None:
    class Zeros(NestedSelection):
        needs: ClassVar[frozenset[str]] = frozenset({"zeros"})

        def order(self, inputs: SelectionInputs, count: int = 0) -> Any:
            return np.argsort(-inputs["zeros"].numpy(), kind="stable")

    network = trained(Plain())
    with torch.no_grad():
        network.first.bias[4] = -100.0  # never above zero
    dense, groups = dense_of(network)
    assert 4 not in Choice(dense, [groups["first"]], Zeros()).keep(groups["first"], 5)


def test_the_refits_can_be_made_alone() -> None:
    """From statistics and channels, without a selection: what the backend makes of the same channels."""
    network, x = trained(Residual()), images(50)
    graph, plan = planned(network)
    decisions = [group for group in graph.groups if group.reason is None]
    backend = Backend(plan, decisions, x, selection=selections.get("obs")(), rows=500, relu_iterations=1)
    counts = [max(1, group.size // 2) for group in decisions]
    statistics = Statistics(plan, x, rows=500, seed=0)
    statistics.collect(layer.name for layer in graph.layers)
    for made, whole in (
        (SequentialRefit(plan, statistics, relu_iterations=1), backend.sequential(counts)),
        (CachedRefit(statistics), backend.cached(counts)),
    ):
        alone = made({graph.group(name).index: units for name, units in whole.kept.items()})
        assert alone.keys() == whole.tensors.keys() != set()
        assert all(torch.equal(alone[name], tensor) for name, tensor in whole.tensors.items())
