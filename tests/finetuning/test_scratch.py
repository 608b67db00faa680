"""Training from scratch keeps nothing of the dense network, however its weights are computed."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils import parametrizations, parametrize, prune
from torch.nn.utils import spectral_norm as spectral_norm_by_hook
from torch.nn.utils import weight_norm as weight_norm_by_hook

from autoprune.errors import UsageError
from autoprune.finetuning._scratch import reinitialise
from autoprune.graph import build_graph
from autoprune.surgery import prune_model

from .._sample import pick

pytestmark = pytest.mark.filterwarnings("ignore:.*weight_norm. is deprecated:FutureWarning")


class _Clipped(nn.Module):
    def forward(self, weight: Tensor) -> Tensor:
        return weight.clamp(-0.2, 0.2)


class _Scaled(nn.Module):
    """A parametrization with a parameter of its own, and a way back from a value."""

    def __init__(self) -> None:
        super().__init__()
        self.gain = nn.Parameter(torch.ones(1))

    def reset_parameters(self) -> None:
        nn.init.ones_(self.gain)

    def forward(self, weight: Tensor) -> Tensor:
        return weight * self.gain

    def right_inverse(self, weight: Tensor) -> Tensor:
        return weight / self.gain


def _parametrized(kind: Callable[[], nn.Module]) -> Callable[[nn.Module], nn.Module]:
    def wrap(layer: nn.Module) -> nn.Module:
        return parametrize.register_parametrization(layer, "weight", kind())

    return wrap


def _masked(layer: nn.Module) -> nn.Module:
    return prune.random_unstructured(layer, "weight", 0.3)


KINDS: dict[str, Callable[[nn.Module], nn.Module]] = {
    "plain": lambda layer: layer,
    "weight norm by hook": weight_norm_by_hook,
    "weight norm": parametrizations.weight_norm,
    "spectral norm by hook": spectral_norm_by_hook,
    "spectral norm": parametrizations.spectral_norm,
    "masks": _masked,
    "orthogonal": parametrizations.orthogonal,
    "orthogonal, Householder": lambda layer: parametrizations.orthogonal(layer, orthogonal_map="householder"),
    "clipped": _parametrized(_Clipped),
    "scaled": _parametrized(_Scaled),
}


def _net(kind: Callable[[nn.Module], nn.Module]) -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(
        kind(nn.Conv2d(3, 8, 3)), nn.BatchNorm2d(8), nn.ReLU(), kind(nn.Conv2d(8, 12, 3)), nn.ReLU(), nn.Flatten(),
        kind(nn.Linear(48, 16)), nn.ReLU(), kind(nn.Linear(16, 4)),
    )  # fmt: skip


def _other(kind: Callable[[nn.Module], nn.Module]) -> nn.Module:
    """Return the same network with other values everywhere but in masks."""
    other = _net(kind)
    with torch.no_grad():
        for name, tensor in [*other.named_parameters(), *other.named_buffers()]:
            if tensor.is_floating_point() and not name.endswith("_mask"):
                tensor.copy_(torch.rand_like(tensor) + 0.5)
    return other


IMAGES = torch.randn(2, 3, 6, 6, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize(("kind", "pruned"), pick([(kind, pruned) for kind in KINDS for pruned in (False, True)], 8))
def test_a_fresh_network_depends_on_none_of_the_old_values(kind: str, pruned: bool) -> None:
    fresh = []
    for net in (_net(KINDS[kind]), _other(KINDS[kind])):
        if pruned:
            graph = build_graph(net.eval(), IMAGES)
            kept = {group.name: torch.arange(0, group.size, 2).numpy() for group in graph.groups if not group.reason}
            assert len(kept) == 3
            net = prune_model(net, graph, kept)
        before = {name: value.clone() for name, value in net.state_dict().items()}
        reinitialise(net, seed=3)
        state = net.state_dict()
        fresh.append((state, net.eval()(IMAGES)))
    kept_by = [name for name, value in state.items() if value.dim() and torch.equal(value, before[name])]
    assert [name for name in kept_by if not name.endswith("_mask")] == []
    (left, one), (right, other) = fresh
    assert left.keys() == right.keys()
    assert [name for name in left if not torch.equal(left[name], right[name])] == []
    assert torch.isfinite(one).all()
    assert torch.equal(one, other)


@pytest.mark.parametrize("kind", ["weight norm by hook", "weight norm", "scaled"])
def test_weights_come_out_as_those_of_the_plain_network(kind: str) -> None:
    net, plain = _net(KINDS[kind]), _net(KINDS["plain"])
    reinitialise(net, seed=3)
    reinitialise(plain, seed=3)
    torch.testing.assert_close(net.eval()(IMAGES), plain.eval()(IMAGES))


def test_attention_is_set_anew() -> None:
    state = []
    for seed in (0, 1):
        torch.manual_seed(seed)
        layer = nn.TransformerEncoderLayer(8, 2, 16)
        reinitialise(layer, seed=3)
        state.append(layer.state_dict())
    assert [name for name in state[0] if not torch.equal(state[0][name], state[1][name])] == []


def test_a_parameter_that_reset_parameters_forgets_is_refused() -> None:
    class Gain(nn.Conv2d):
        def __init__(self) -> None:
            super().__init__(3, 4, 1)
            self.gain = nn.Parameter(torch.ones(4))

    with pytest.raises(UsageError, match=r"'0\.gain' of a Gain.*reset_parameters"):
        reinitialise(nn.Sequential(Gain()), seed=0)
