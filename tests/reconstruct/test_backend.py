"""The refits against what the finished small network really does on the calibration images."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from autoprune.cost import CostModel
from autoprune.errors import UsageError
from autoprune.reconstruct import Backend, Statistics, fit_affine
from autoprune.reconstruct._lstsq import RIDGE
from autoprune.reconstruct._plan import Dense
from autoprune.reconstruct._steps import Affine
from autoprune.select import selections
from autoprune.surgery import prune_model

from ._networks import Grouped, Plain, Residual, images, planned, trained

ALL_ROWS = 10**6


def backend(
    network: nn.Module, x: Tensor, *, select: str = "obs", rows: int = ALL_ROWS, relu_iterations: int = 0
) -> Backend:
    graph, plan = planned(network)
    decisions = [group for group in graph.groups if group.reason is None and group.kind == "inner"]
    return Backend(plan, decisions, x, selection=selections.get(select)(), rows=rows, relu_iterations=relu_iterations)


def values(network: nn.Module, x: Tensor, *names: str) -> dict[str, tuple[Tensor, Tensor]]:
    """Run a network and return (input, output) of the named modules."""
    seen: dict[str, tuple[Tensor, Tensor]] = {}
    handles = [
        network.get_submodule(name).register_forward_hook(
            lambda _m, args, out, name=name: seen.update({name: (args[0].clone(), out.clone())})
        )
        for name in names
    ]
    with torch.no_grad():
        network(x)
    for handle in handles:
        handle.remove()
    return seen


@pytest.mark.parametrize("make", [Residual, Plain])
def test_the_plan_computes_what_the_model_computes(make: Callable[[], nn.Module]) -> None:
    network = trained(make())
    _, plan = planned(network)
    x = images(7)

    def plain(_step: Affine, value: Tensor, _other: Tensor | None, dense: Dense) -> Tensor:
        return dense(value)

    with torch.no_grad():
        torch.testing.assert_close(plan.run(x, plain), network(x))


@pytest.mark.parametrize("make", [Residual, Plain])
@pytest.mark.parametrize("kind", ["sequential", "cached"])
def test_nothing_pruned_changes_nothing(make: Callable[[], nn.Module], kind: str) -> None:
    network = trained(make())
    x = images(64)
    found = backend(network, x)
    refit = getattr(found, kind)([group.size for group in found.decisions])
    small = prune_model(network, found.graph, refit.kept, tensors=refit.tensors)
    with torch.no_grad():
        torch.testing.assert_close(small(x), network(x), rtol=1e-3, atol=1e-3)


def folded(network: nn.Module) -> Tensor:
    """Return the weights of ``project`` with its BatchNorm multiplied in, shape (out, in)."""
    gain = network.project_bn.weight / (network.project_bn.running_var + 1e-5).sqrt()
    return network.project.weight[:, :, 0, 0] * gain[:, None]


def halved(found: Backend) -> list[int]:
    return [group.size // 2 for group in found.decisions]


def test_sequential_refit_is_optimal_for_the_block_on_the_pruned_networks_inputs() -> None:
    """Normal equations of the layer before the addition, with the dense *sum* as target and the drifted shortcut known."""
    network, x = trained(Residual()), images(128)
    found = backend(network, x)
    refit = found.sequential(halved(found))
    small = prune_model(network, found.graph, refit.kept, tensors=refit.tensors)
    names = ("project", "project_bn", "short_bn")
    dense, pruned = values(network, x, *names), values(small, x, *names)
    target = dense["project_bn"][1] + dense["short_bn"][1]
    residual = (target - pruned["project_bn"][1] - pruned["short_bn"][1]).transpose(0, 1).flatten(1)  # (C, P)
    inputs = pruned["project"][0].transpose(0, 1).flatten(1)
    inputs = inputs - inputs.mean(dim=1, keepdim=True)
    assert residual.mean(dim=1).abs().max() < 1e-4  # the intercept is optimal
    scale = inputs.norm(dim=1)[:, None] * residual.norm(dim=1)[None]
    cosine = (inputs @ residual.T) / scale
    # The ridge leaves the residual orthogonal to the inputs but for λ (A - A₀).
    kept = torch.from_numpy(refit.kept["expand"])
    damping = RIDGE * inputs.square().sum() / len(inputs)
    expected = damping * (folded(small) - folded(network)[:, kept]).T / scale
    torch.testing.assert_close(cosine, expected.detach(), atol=2e-4, rtol=1e-2)


def test_batch_norms_hold_the_statistics_of_the_refitted_layers() -> None:
    network, x = trained(Residual()), images(128)
    found = backend(network, x)
    refit = found.sequential(halved(found))
    small = prune_model(network, found.graph, refit.kept, tensors=refit.tensors)
    for name in ("expand", "depth", "project", "short"):
        output = values(small, x, name)[name][1]
        norm = small.get_submodule(f"{name}_bn")
        torch.testing.assert_close(norm.running_mean, output.mean((0, 2, 3)), rtol=1e-3, atol=1e-4)
        torch.testing.assert_close(norm.running_var, output.var((0, 2, 3), unbiased=False), rtol=1e-3, atol=1e-5)


def test_every_refit_lowers_the_error_at_the_output() -> None:
    network, x = trained(Residual()), images(400)
    found = backend(network, x)
    counts = halved(found)
    with torch.no_grad():
        errors = [
            float(F.mse_loss(prune_model(network, found.graph, refit.kept, tensors=refit.tensors)(x), network(x)))
            for refit in (found.sequential(counts), found.cached(counts), found.slice_only(counts))
        ]
    assert errors[0] < errors[1] < errors[2]


def test_grouped_convolutions_lose_channels_in_every_group_and_are_refitted() -> None:
    network, x = trained(Grouped()), images(64)
    engine = backend(network, x)
    assert {group.name: group.size for group in engine.decisions} == {"stem": 4, "grouped": 6, "last": 5}
    refit = engine.sequential([3, 4, 5])
    small = prune_model(network, engine.graph, refit.kept, tensors=refit.tensors)
    sliced = prune_model(network, engine.graph, refit.kept)
    assert small.grouped.weight.shape == (8, 3, 3, 3)
    assert (small.grouped.groups, small.last.groups) == (2, 2)
    with torch.no_grad():
        dense = network(x)
        error = [float((pruned(x) - dense).square().mean()) for pruned in (small, sliced)]
    assert error[0] < 0.7 * error[1]


@pytest.mark.parametrize("make", [Residual, Plain])
def test_few_images_are_enough_beside_the_moments_of_many(make: Callable[[], nn.Module]) -> None:
    network, x = trained(make()), images(400)
    graph, plan = planned(network)
    decisions = [group for group in graph.groups if group.reason is None and group.kind == "inner"]
    errors = []
    for on, refit_on in ((x, None), (x, (12, 200)), (x[:12], None)):
        rows = ALL_ROWS if refit_on is not None or len(on) > 12 else 200
        found = Backend(plan, decisions, on, selection=selections.get("magnitude")(), rows=rows, refit_on=refit_on)
        refit = found.sequential(halved(found))
        small = prune_model(network, graph, refit.kept, tensors=refit.tensors)
        with torch.no_grad():
            errors.append(float(F.mse_loss(small(x), network(x))))
    assert errors[0] < errors[1] < errors[2]


def test_a_refit_on_few_images_leaves_a_whole_network_as_it_is() -> None:
    network, x = trained(Residual()), images(100)
    graph, plan = planned(network)
    decisions = [group for group in graph.groups if group.reason is None and group.kind == "inner"]
    found = Backend(plan, decisions, x, selection=selections.get("obs")(), rows=ALL_ROWS, refit_on=(10, 100))
    assert found.sequential([group.size for group in decisions]).tensors == {}
    assert found.refit_macs([layer.in_channels // layer.groups for layer in graph.layers]) == 10 * sum(
        layer.macs for layer in graph.layers
    )


def test_cached_refit_equals_least_squares_on_raw_activations() -> None:
    network, x = trained(Plain()), images(200)
    found = backend(network, x)
    refit = found.cached(halved(found))
    kept = torch.from_numpy(refit.kept["first"])
    source, output = values(network, x, "second")["second"]
    columns = F.unfold(source, 3, padding=2, dilation=2).transpose(1, 2).reshape(-1, 6, 9)[:, kept].flatten(1)
    fit = fit_affine(
        columns[None],
        output.flatten(2).transpose(1, 2).reshape(1, -1, 7),
        network.second.weight.detach()[:, kept].reshape(7, -1).T[None],
        ridge=RIDGE,
        intercept=True,
    )
    stays = torch.from_numpy(refit.kept["second"])
    torch.testing.assert_close(
        refit.tensors["second.weight"].flatten(1).T, fit.weight[0][:, stays], rtol=1e-2, atol=1e-3
    )
    torch.testing.assert_close(refit.tensors["second.bias"], fit.intercept[0][stays], rtol=1e-2, atol=1e-3)


def test_wide_layers_fall_into_blocks_of_the_full_moments() -> None:
    network, x = trained(Plain()), images(50)
    _, plan = planned(network)
    names = frozenset({"hidden", "second"})
    whole = Statistics(plan, x, rows=ALL_ROWS, seed=0, moments_of=names)
    split = Statistics(plan, x, rows=ALL_ROWS, seed=0, moments_of=names, max_width=20)
    for name, blocks in (("hidden", 16), ("second", 9)):
        (gram,) = whole.moments[name].grams
        assert len(split.moments[name].grams) == blocks
        for columns, part in zip(split.moments[name].columns, split.moments[name].grams, strict=True):
            torch.testing.assert_close(part, gram[columns][:, columns], rtol=1e-4, atol=1e-5)
    group = next(group for group in plan.graph.groups if group.name == "second")
    assert len(split.consumers(group)) == 16
    assert all(sorted(consumer.unit.tolist()) == list(range(7)) for consumer in split.consumers(group))
    fit = split.refit("hidden", torch.arange(7 * 16), ridge=1e-4)
    torch.testing.assert_close(fit.weight[0].T, network.hidden.weight.detach(), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("select", ["obs", "thinet", "lasso", "magnitude"])
def test_counts_decide_how_much_goes_and_a_policys_channels_are_taken_as_they_are(select: str) -> None:
    network, x = trained(Residual()), images(64)
    found = backend(network, x, select=select, rows=500)
    counts = [group.size - 1 - place for place, group in enumerate(found.decisions)]
    refit = found.sequential(counts)
    assert [len(refit.kept[group.name]) for group in found.decisions] == counts
    again = found.refit_kept(refit.kept)
    assert refit.tensors.keys() == again.tensors.keys()
    for name, tensor in refit.tensors.items():
        torch.testing.assert_close(again.tensors[name], tensor)


def test_the_dense_network_is_untouched() -> None:
    network, x = trained(Residual()), images(64)
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    found = backend(network, x, rows=500)
    found.sequential(halved(found))
    found.cached(halved(found))
    for name, tensor in network.state_dict().items():
        assert torch.equal(tensor, before[name]), name


@pytest.mark.parametrize("share", [1.0, 0.5])
@pytest.mark.parametrize("make", [Residual, Plain, Grouped])
def test_the_effort_is_what_torch_counts(make: Callable[[], nn.Module], share: float) -> None:
    network = trained(make())
    x = images(12)
    made = backend(network, x, relu_iterations=2)
    counts = [max(1, int(share * group.size)) for group in made.decisions]
    cost = CostModel(made.graph, made.decisions)
    counted = made.refit_macs([inputs(counts) for _, inputs, _ in cost.layer_forms])
    with FlopCounterMode(display=False) as counter:
        made.sequential(counts)
    # Factorisations and triangular solves are not counted by torch, and pools and norms by nobody.
    assert 0.7 < counter.get_total_flops() / 2 / counted < 1.1


class Followed(nn.Module):
    """Convolutions that are read by a rectifier, by a sum that is, and by what is none."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.six, self.clipped, self.tail = (nn.Conv2d(3, 3, 1) for _ in range(4))
        self.smooth, self.shared, self.summed, self.free = (nn.Conv2d(3, 3, 1) for _ in range(4))

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.stem(x))
        x = F.relu6(self.six(x))
        x = F.hardtanh_(self.clipped(x), -2.0, 3.0)
        x = F.silu(self.smooth(x))
        y = self.shared(x)
        x = y + F.relu(y)
        x = F.relu(x + self.summed(x))
        x = x + self.free(x)  # read again below: what is cut off there is needed here
        return self.tail(F.relu(x) + x)


def test_what_a_rectifier_cuts_off_is_known() -> None:
    _, plan = planned(Followed().eval())
    flat = {step.layer.name: step.saturation for step in plan.steps if isinstance(step, Affine)}
    infinite = (0.0, float("inf"))
    assert flat == {
        "stem": infinite,
        "six": (0.0, 6.0),
        "clipped": (-2.0, 3.0),
        "smooth": None,
        "shared": None,
        "summed": infinite,
        "free": None,
        "tail": None,
    }


def test_fitting_only_what_the_rectifiers_leave_gets_nearer_to_the_dense_network() -> None:
    network, x = trained(Plain()), images(256)
    errors = []
    for relu_iterations in (0, 2, 8):
        found = backend(network, x, relu_iterations=relu_iterations)
        refit = found.sequential(halved(found))
        small = prune_model(network, found.graph, refit.kept, tensors=refit.tensors)
        with torch.no_grad():
            errors.append(float((small(x) - network(x)).square().mean()))
    assert errors[1] < errors[0]
    assert errors[2] < errors[0]


@pytest.mark.parametrize("gain", [0.0, 1e-9, -1e-6, 5e-4])
@pytest.mark.parametrize("kind", ["sequential", "cached"])
def test_a_batch_norm_that_nearly_silences_a_channel_blows_up_nothing(gain: float, kind: str) -> None:
    """Weights return to their own scale by a division by the gain: not by one of nothing, and the outputs still fit."""
    network, x = trained(Residual()), images(128)
    with torch.no_grad():
        network.project_bn.weight[2] = gain
        network.expand_bn.weight[5] = gain
    found = backend(network, x)
    refit = getattr(found, kind)(halved(found))
    small = prune_model(network, found.graph, refit.kept, tensors=refit.tensors)
    assert max(float(value.abs().max()) for value in small.state_dict().values()) < 100
    with torch.no_grad():
        sliced = prune_model(network, found.graph, refit.kept)
        assert F.mse_loss(small(x), network(x)) < F.mse_loss(sliced(x), network(x))


def test_a_layer_whose_statistics_do_not_fit_is_named_before_they_are_collected(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    network = trained(Residual())
    monkeypatch.setattr("os.sysconf", lambda name: 4096 if name == "SC_PAGE_SIZE" else 50)
    with pytest.raises(UsageError, match=r"^The layer 'expand' has 72 inputs, .* of this machine's"):
        backend(network, images(8))
