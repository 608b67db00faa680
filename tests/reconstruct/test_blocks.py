"""Blocks: where a program may be cut, and what training them together is worth."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from autoprune.evaluation import answers_divergence
from autoprune.graph import build_graph, output_tensors
from autoprune.models import load_model
from autoprune.reconstruct import FINISH_STEPS, FINISHES, Backend, Descent, Plan, _cuts
from autoprune.reconstruct._plan import Dense
from autoprune.reconstruct._steps import Affine
from autoprune.select import selections
from autoprune.surgery import prune_model

from ._networks import Grouped, Plain, Residual, images, planned, trained


def dense_visit(_step: Affine, value: Tensor, _other: Tensor | None, dense: Dense) -> Tensor:
    return dense(value)


def through_blocks(plan: Plan, x: Tensor) -> list[Tensor]:
    values: tuple[Tensor, ...] = (x,)
    for block in plan.blocks:
        values = plan.run_block(block, values, dense_visit)
    return [values[plan.blocks[-1].results.index(node)] for node in plan.outputs]


class Skips(nn.Module):
    """A small U-Net that answers with maps: beside the deepest value one of full size is needed all along."""

    def __init__(self) -> None:
        super().__init__()
        self.before, self.first = nn.Conv2d(3, 8, 3, padding=1), nn.Conv2d(8, 8, 3, padding=1)
        self.deep, self.deeper = nn.Conv2d(8, 16, 3, padding=1), nn.Conv2d(16, 8, 3, padding=1)
        self.join, self.last = nn.Conv2d(16, 8, 3, padding=1), nn.Conv2d(8, 2, 1)

    def forward(self, x: Tensor) -> Tensor | tuple[Tensor, ...]:
        first = F.relu(self.first(F.relu(self.before(x))))
        deep = F.relu(self.deeper(F.relu(self.deep(F.max_pool2d(first, 2)))))
        wide = F.interpolate(deep, scale_factor=2.0, mode="nearest")
        return self.last(F.relu(self.join(torch.cat([wide, first], dim=1))))


class Pyramid(Skips):
    """The same with three answers, as a feature pyramid has them."""

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        first = F.relu(self.first(F.relu(self.before(x))))
        deep = F.max_pool2d(F.relu(self.deep(F.max_pool2d(first, 2))), 2)
        low = self.deeper(deep)
        middle = F.interpolate(low, scale_factor=4.0, mode="nearest")
        high = self.join(torch.cat([middle, first], dim=1))
        return self.last(F.relu(high)), high, low


class Recurrent(nn.Module):
    """Linear layers before an LSTM, whose first state has as many rows as there are images."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(3, 8), nn.Linear(8, 6)
        self.rnn, self.head = nn.LSTM(6, 7, batch_first=True), nn.Linear(7, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.second(F.relu(self.first(x.flatten(2).mT))))
        return self.head(self.rnn(x)[0][:, -1])


@pytest.mark.parametrize("make", [Residual, Plain, Grouped, Skips, Pyramid, Recurrent])
def test_blocks_one_after_the_other_are_the_network_for_any_batch(make: Callable[[], nn.Module]) -> None:
    network = trained(make())
    _, plan = planned(network)
    assert plan.blocks[0].steps[0] == 0
    assert all(first.steps[1] == second.steps[0] for first, second in zip(plan.blocks, plan.blocks[1:], strict=False))
    for count in (2, 7):
        x = images(count)
        with torch.no_grad():
            torch.testing.assert_close(through_blocks(plan, x), output_tensors(network(x)))


@pytest.mark.parametrize("make", [Skips, Pyramid])
def test_networks_with_skip_connections_are_cut_where_several_values_are_needed(
    make: Callable[[], nn.Module], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_cuts, "REACH", 1)  # so that even these few layers are cut
    _, plan = planned(trained(make()))
    layers = [sum(isinstance(step, Affine) for step in plan.steps[slice(*block.steps)]) for block in plan.blocks]
    assert sum(layers) == 6
    assert len(layers) > 1
    assert all(block.made for block in plan.blocks)
    assert max(len(block.sources) for block in plan.blocks) > 1


def test_a_resnets_blocks_are_its_residual_blocks() -> None:
    loaded = load_model("cifar-resnet20")
    plan = Plan(build_graph(loaded.model.eval(), loaded.example_input()), loaded.model)
    sizes = [sum(isinstance(step, Affine) for step in plan.steps[slice(*block.steps)]) for block in plan.blocks]
    assert sizes == [1, *[2] * 9, 1]
    assert [block.results[0].meta["val"].dim() for block in plan.blocks[-2:]] == [
        4,
        2,
    ]  # the maps, before they are averaged


class Forked(nn.Module):
    """Two values are needed all along: nothing to cut before the end."""

    def __init__(self) -> None:
        super().__init__()
        self.left, self.right, self.deep, self.out = (
            nn.Conv2d(3, 8, 3),
            nn.Conv2d(3, 8, 3),
            nn.Conv2d(8, 8, 1),
            nn.Conv2d(16, 4, 1),
        )

    def forward(self, x: Tensor) -> Tensor:
        left, right = F.relu(self.left(x)), F.relu(self.right(x))
        return self.out(torch.cat([F.relu(self.deep(left)), right], dim=1)).mean((2, 3))


def test_what_cannot_be_cut_is_one_block() -> None:
    network = Forked().eval()
    _, plan = planned(network)
    assert len(plan.blocks) <= 2
    x = images(3)
    with torch.no_grad():
        torch.testing.assert_close(through_blocks(plan, x)[0], network(x))


class Chain(nn.Module):
    """Convolutions one after the other, whose channels go from block to block; the last is read by a depthwise one."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.norm = nn.Conv2d(3, 8, 3, padding=1, bias=False), nn.BatchNorm2d(8)
        self.second, self.third = nn.Conv2d(8, 10, 3, padding=1), nn.Conv2d(10, 12, 3, padding=1)
        self.depth, self.last = nn.Conv2d(12, 12, 3, groups=12), nn.Linear(12, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = F.silu(self.second(F.relu(self.norm(self.first(x)))))
        return self.last(self.depth(F.leaky_relu(self.third(x))).relu().mean((2, 3)))


def refitted(network: nn.Module, x: Tensor, steps: int, *, rate: float = 0.02) -> nn.Module:
    graph, plan = planned(network)
    decisions = [group for group in graph.groups if group.reason is None and group.kind == "inner"]
    descent = Descent(steps, batch=64, rate=rate) if steps else None
    made = Backend(plan, decisions, x, selection=selections.get("obs")(), rows=10**6, descent=descent)
    refit = made.sequential([max(1, group.size // 2) for group in decisions])
    return prune_model(network, graph, refit.kept, tensors=refit.tensors)


@pytest.mark.parametrize("make", [Residual, Grouped, Forked, Skips, Pyramid])
def test_training_blocks_together_gets_nearer_to_the_dense_network_on_other_images_too(
    make: Callable[[], nn.Module],
) -> None:
    torch.manual_seed(0)
    network = trained(make())
    x, others = images(256), images(300, 5)
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    with torch.no_grad():
        pruned = [refitted(network, x, steps)(others) for steps in (0, 80)]
        errors = [float(answers_divergence(found, network(others))) for found in pruned]
    assert errors[1] < errors[0]
    assert all(torch.equal(tensor, before[name]) for name, tensor in network.state_dict().items())
    assert all(parameter.grad is None for parameter in network.parameters())


@pytest.mark.parametrize(
    ("make", "expected"), [(Residual, {"stem", "depth"}), (Plain, {"first"}), (Chain, {"first", "second"})]
)
def test_what_is_computed_without_the_channels_that_go_is_what_is_computed_with_them(
    make: Callable[[], nn.Module], expected: set[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    network, x = trained(make()), images(96)
    assert planned(network)[1].narrow == expected
    small = refitted(network, x, 20)
    monkeypatch.setattr(Plan, "narrow", frozenset())
    whole = refitted(network, x, 20)
    for name, tensor in small.state_dict().items():
        torch.testing.assert_close(tensor, whole.state_dict()[name], rtol=1e-2, atol=1e-3)


def test_where_training_diverges_the_closed_form_stays() -> None:
    network, x = trained(Residual()), images(128)
    closed, wild = refitted(network, x, 0), refitted(network, x, 5, rate=1e6)
    with torch.no_grad():
        torch.testing.assert_close(wild(x), closed(x), rtol=1e-3, atol=1e-3)


def test_class_scores_are_solved_for_once_their_features_are_trained() -> None:
    network, x = trained(Residual()), images(128)
    small, seen = refitted(network, x, 30), []
    last = [module for module in small.modules() if isinstance(module, nn.Linear)][-1]
    last.register_forward_hook(lambda _m, args, _out: seen.append(args[0]))
    with torch.no_grad():
        found, expected = small(x), network(x)
    features = torch.cat([seen[0], torch.ones(len(x), 1)], dim=1).double()
    least = torch.linalg.lstsq(features, expected.double()).solution
    errors = [float(F.mse_loss(scores.double(), expected.double())) for scores in (features @ least, found)]
    assert errors[1] == pytest.approx(errors[0], rel=0.02)


class Branch(nn.Module):
    """A stem that cannot lose channels alone, and a residual branch of two layers."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.wide = nn.Conv2d(3, 8, 3, padding=1), nn.Conv2d(8, 12, 3, padding=1)
        self.back, self.head = nn.Conv2d(12, 8, 3, padding=1), nn.Linear(8, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.stem(x))
        return self.head(F.relu(x + self.back(F.relu(self.wide(x)))).mean((2, 3)))


def test_of_a_block_the_layer_that_lost_outputs_alone_is_trained_too_and_what_is_before_is_not() -> None:
    network, x = trained(Branch()), images(128)
    closed, small = refitted(network, x, 0), refitted(network, x, 30)
    assert torch.equal(small.stem.weight, network.stem.weight)
    assert closed.wide.weight.shape == small.wide.weight.shape == (6, 8, 3, 3)
    assert all(any(torch.equal(row, old) for old in network.wide.weight) for row in closed.wide.weight)
    assert not any(torch.equal(row, old) for old in network.wide.weight for row in small.wide.weight)


class Tied(nn.Module):
    """Both layers that read the channels share their weight, so that neither is refitted."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.left, self.right = nn.Conv2d(3, 8, 3, padding=1), nn.Linear(8, 5), nn.Linear(8, 5)
        self.right.weight = self.left.weight

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.first(x)).mean((2, 3))
        return self.left(x) + self.right(x)


def test_where_no_layer_may_be_refitted_nothing_is_trained() -> None:
    network, x = trained(Tied()), images(32)
    small = refitted(network, x, 10)
    assert small.first.weight.shape == (4, 3, 3, 3)
    assert all(any(torch.equal(row, old) for old in network.first.weight) for row in small.first.weight)
    assert all(any(torch.equal(column, old) for old in network.left.weight.T) for column in small.left.weight.T)


def test_steps_are_bounded_by_the_images_there_are() -> None:
    assert Descent.within(FINISH_STEPS, 2000) == Descent(320, 8)
    assert Descent.within(FINISH_STEPS, 256).images(256) <= 2.5 * 256 + 8
    assert Descent.within(FINISHES["best"], 10**6) == Descent(1600, 16)
    assert Descent.within(FINISHES["best"], 256).images(256) <= 12.5 * 256 + 16


def test_batch_norms_hold_the_statistics_of_what_was_trained() -> None:
    network, x = trained(Residual()), images(128)
    small = refitted(network, x, 30)
    seen: dict[str, Tensor] = {}
    for name in ("expand", "project"):
        small.get_submodule(name).register_forward_hook(lambda _m, _a, out, name=name: seen.update({name: out}))
    with torch.no_grad():
        small(x)
    for name, output in seen.items():
        norm = small.get_submodule(f"{name}_bn")
        torch.testing.assert_close(norm.running_mean, output.mean((0, 2, 3)), rtol=1e-3, atol=1e-4)
        torch.testing.assert_close(norm.running_var, output.var((0, 2, 3), unbiased=False), rtol=1e-3, atol=1e-5)
