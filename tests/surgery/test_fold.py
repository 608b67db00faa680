"""Computed weights that become ordinary ones: spectral norm, masks, orthogonal weights and other parametrizations."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from textwrap import dedent

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils import parametrizations, parametrize, prune
from torch.nn.utils import spectral_norm as spectral_norm_by_hook
from torch.utils.data import TensorDataset

import autoprune
from autoprune.cli import main
from autoprune.graph import build_graph, prove
from autoprune.inspection import inspect_model, inspection_text
from autoprune.models import load_model
from autoprune.support.tensors import load_safetensors, save_safetensors_atomic
from autoprune.surgery import folded, prune_model
from autoprune.testing import check_surgery

from .._sample import pick

Wrap = Callable[[nn.Module], nn.Module]


class _Ternary(nn.Module):
    def forward(self, weight: Tensor) -> Tensor:
        return weight.sign() * weight.abs().mean()


class _Bounded(nn.Module):
    """No way to cut it: the norm is that of all channels."""

    def forward(self, weight: Tensor) -> Tensor:
        return weight / weight.norm().clamp_min(1.0)


def _parametrized(kind: Callable[[], nn.Module]) -> Wrap:
    return lambda layer: parametrize.register_parametrization(layer, "weight", kind())


def _structured(layer: nn.Module) -> nn.Module:
    """Masks of weight and bias, the weight's twice."""
    prune.ln_structured(layer, "weight", 0.3, n=2, dim=0)
    prune.random_unstructured(layer, "weight", 0.2)
    return prune.l1_unstructured(layer, "bias", 0.25)


KINDS: dict[str, Wrap] = {
    "masks": lambda layer: prune.l1_unstructured(layer, "weight", 0.3),
    "masks of weight and bias": _structured,
    "spectral norm by hook": spectral_norm_by_hook,
    "spectral norm": parametrizations.spectral_norm,
    "orthogonal": parametrizations.orthogonal,
    "ternary": _parametrized(_Ternary),
    "bounded": _parametrized(_Bounded),
}


def _body(wrap: Wrap) -> list[nn.Module]:
    return [
        wrap(nn.Conv2d(3, 12, 3, padding=1)), nn.BatchNorm2d(12), nn.ReLU(), wrap(nn.Conv2d(12, 8, 3, padding=1)),
        nn.ReLU(), wrap(nn.Conv2d(8, 6, 1)), nn.ReLU(),
    ]  # fmt: skip


class _Residual(nn.Module):
    def __init__(self, wrap: Wrap) -> None:
        super().__init__()
        self.stem = wrap(nn.Conv2d(3, 8, 3, padding=1))
        self.inner = wrap(nn.Conv2d(8, 12, 3, padding=1))
        self.outer = wrap(nn.Conv2d(12, 8, 3, padding=1, groups=2))
        self.head = wrap(nn.Linear(8, 4))

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x).relu()
        x = x + self.outer(self.inner(x).relu())
        y: Tensor = self.head(x.mean((2, 3)))
        return y


def _chain(wrap: Wrap) -> nn.Module:
    return nn.Sequential(*_body(wrap), nn.AdaptiveAvgPool2d(1), nn.Flatten(), wrap(nn.Linear(6, 4)))


def _flat(wrap: Wrap) -> nn.Module:
    first, second, third = (wrap(nn.Linear(*sizes)) for sizes in ((192, 16), (16, 12), (12, 4)))
    return nn.Sequential(nn.Flatten(), first, nn.ReLU(), second, nn.Tanh(), third)


FAMILIES: dict[str, tuple[Callable[[Wrap], nn.Module], int]] = {
    "chain": (_chain, 3),
    "residual": (_Residual, 2),
    "flat": (_flat, 2),
}
IMAGES = torch.randn(3, 3, 8, 8, dtype=torch.float64, generator=torch.Generator().manual_seed(1))


def _made(family: str, kind: str) -> nn.Module:
    torch.manual_seed(0)
    return FAMILIES[family][0](KINDS[kind]).double().eval()


CASES = [(family, kind) for family in FAMILIES for kind in KINDS]


@pytest.mark.parametrize(("family", "kind"), pick(CASES, 6))
def test_channels_go_and_what_is_left_is_a_part_of_the_dense_weights(family: str, kind: str) -> None:
    model = _made(family, kind)
    graph = prove(model, build_graph(model, IMAGES), IMAGES)
    assert sum(group.reason is None for group in graph.groups) == FAMILIES[family][1]
    check = check_surgery(model, graph, IMAGES, policies=6)
    assert check.distance < 1e-10
    assert check.effect > 1e-6
    assert (check.macs_wrong, check.params_wrong) == (0, 0)
    kept = {group.name: np.arange(0, group.size, 2) for group in graph.groups if group.reason is None}
    small = prune_model(model, graph, kept)
    model(IMAGES)  # hooks set the weights that are compared
    layers = {name: module for name, module in model.named_modules() if isinstance(module, (nn.Conv2d, nn.Linear))}
    for name, layer in layers.items():
        new = small.get_submodule(name)
        assert type(new) in (nn.Conv2d, nn.Linear)
        assert not new._forward_pre_hooks
        values = {float(value) for value in layer.weight.detach().flatten()}
        assert {float(value) for value in new.weight.detach().flatten()} <= values
        assert isinstance(new.weight, nn.Parameter)
        assert new.weight.requires_grad


@pytest.mark.parametrize("kind", pick(list(KINDS), 4))
def test_the_users_model_stays_as_it_was_and_shares_what_is_not_computed(kind: str) -> None:
    model = _made("chain", kind).train()
    model[3].eval()
    state = {name: (value, value.clone()) for name, value in model.state_dict(keep_vars=True).items()}
    classes = [type(module) for module in model.modules()]
    hooks = [list(module._forward_pre_hooks.items()) for module in model.modules()]
    modes = [module.training for module in model.modules()]
    new = folded(model, build_graph(model, IMAGES).folded)
    assert new is not model
    assert new[1].weight is model[1].weight
    prune_model(model, build_graph(model, IMAGES), {"0": np.arange(4)})
    assert all(now is state[name][0] for name, now in model.state_dict(keep_vars=True).items())
    assert all(torch.equal(value, before) for value, before in state.values())
    assert [type(module) for module in model.modules()] == classes
    assert [list(module._forward_pre_hooks.items()) for module in model.modules()] == hooks
    assert [module.training for module in model.modules()] == modes
    model.eval()
    assert torch.equal(new.eval()(IMAGES), model(IMAGES))
    assert torch.equal(model(IMAGES), model(IMAGES))


def test_what_can_be_cut_as_it_is_stays_computed() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(
        parametrizations.weight_norm(nn.Conv2d(3, 8, 3)), nn.ReLU(), parametrizations.spectral_norm(nn.Conv2d(8, 4, 3)),
        nn.ReLU(), nn.Conv2d(4, 2, 1),
    ).double()  # fmt: skip
    graph = build_graph(model, IMAGES)
    assert [(tensor.module, tensor.tensor, tensor.kind) for tensor in graph.folded] == [
        ("2", "weight", "spectral norm")
    ]
    small = prune_model(model, graph, {"0": np.arange(3), "2": np.arange(2)})
    assert parametrize.is_parametrized(small[0])
    assert not parametrize.is_parametrized(small[2])


def test_inspect_says_so() -> None:
    found = inspect_model(_made("chain", "masks of weight and bias"), IMAGES)
    assert len(found["notes"]) == 1
    text = " ".join(inspection_text(found).split())
    assert "ordinary weights where the model computes them (masks: 0.weight, 0.bias, 3.weight and 5 more)" in text


FACTORIES = """
    import torch
    from torch import nn
    from torch.nn.utils import parametrizations, prune, spectral_norm
    from torch.nn.utils.parametrize import register_parametrization


    class Bounded(nn.Module):
        def forward(self, weight):
            return weight / weight.norm().clamp_min(1.0)


    def net(wrap):
        torch.manual_seed(0)
        convs = [wrap(nn.Conv2d(2, 8, 3)), nn.ReLU(), wrap(nn.Conv2d(8, 8, 3)), nn.ReLU()]
        made = nn.Sequential(*convs, nn.Flatten(), wrap(nn.Linear(32, 3)))
        made.input_shape = (2, 6, 6)
        return made


    def masks():
        return net(lambda layer: prune.l1_unstructured(layer, "weight", 0.3))


    def spectral():
        return net(parametrizations.spectral_norm)


    def spectral_hook():
        return net(spectral_norm)


    def weight_normed():
        return net(parametrizations.weight_norm)


    def orthogonal():
        return net(parametrizations.orthogonal)


    def bounded():
        return net(lambda layer: register_parametrization(layer, "weight", Bounded()))
"""
NAMES = ["masks", "spectral", "spectral_hook", "weight_normed", "orthogonal", "bounded"]


def _images(count: int, seed: int) -> TensorDataset:
    generator = torch.Generator().manual_seed(seed)
    return TensorDataset(torch.randn(count, 2, 6, 6, generator=generator), torch.arange(count) % 3)


@pytest.mark.parametrize("name", pick(NAMES, 1))
def test_a_search_and_the_small_network_from_its_files(name: str, tmp_path: Path) -> None:
    file = tmp_path / "computed_nets.py"
    file.write_text(dedent(FACTORIES))
    model = load_model(f"{file}:{name}").model
    found = autoprune.search(
        model,
        torch.zeros(2, 2, 6, 6),
        calibration=_images(40, 1),
        evaluate=_images(30, 2),
        report=_images(20, 3),
        budget=0.5,
        agent="uniform",
    )
    assert found.report["final"]["macs"] <= 0.5 * found.report["dense"]["macs"]
    assert any("ordinary weights" in note for note in found.report["notes"]) == (name != "weight_normed")
    found.save(tmp_path / "kept")
    options = ["prune", "--policy", str(tmp_path / "kept" / "policy.json"), "--model", f"{file}:{name}"]
    assert main([*options, "--out", str(tmp_path / "again")]) == 0
    state = load_safetensors(tmp_path / "again" / "model.safetensors")
    expected = found.model.state_dict()
    assert state.keys() == expected.keys()
    assert all(torch.equal(value, expected[key]) for key, value in state.items())
    save_safetensors_atomic(tmp_path / "dense.safetensors", model.state_dict())
    sliced = [*options, "--no-refit", "--weights", str(tmp_path / "dense.safetensors")]
    assert main([*sliced, "--out", str(tmp_path / "sliced")]) == 0
    state = load_safetensors(tmp_path / "sliced" / "model.safetensors")
    assert {key: value.shape for key, value in state.items()} == {key: value.shape for key, value in expected.items()}
