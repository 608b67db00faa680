"""The proof: what it lets pass, what it freezes, and that it cannot be fooled."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from autoprune.errors import AutopruneError, UsageError
from autoprune.graph import PruningGraph, _prove, _walk, build_graph, prove, register_op
from autoprune.graph._call import Call
from autoprune.graph._labels import core
from autoprune.graph._propagation import Propagation

from ._nets import Net, conv
from ._oracle import prunable

IMAGES = torch.randn(2, 3, 6, 6, generator=torch.Generator().manual_seed(0))


def proved(model: nn.Module, images: Tensor = IMAGES) -> PruningGraph:
    return prove(model, build_graph(model, images), images)


def test_model_and_graph_are_left_alone() -> None:
    model = Net(lambda m, x: m.b(F.relu(m.n(m.a(x)))), a=conv(3, 8), n=nn.BatchNorm2d(8), b=conv(8, 4)).train()
    state = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    graph = build_graph(model, IMAGES)
    found = prove(model, graph, IMAGES)
    assert found.proved
    assert not graph.proved
    assert model.n.training
    assert all(torch.equal(tensor, state[name]) for name, tensor in model.state_dict().items())


def test_few_forward_passes_when_all_is_well(monkeypatch: pytest.MonkeyPatch) -> None:
    passes: list[str] = []
    run = _prove.interpret
    monkeypatch.setattr(_prove, "interpret", lambda *args: (passes.append("dense"), run(*args))[1])

    def forward(m: Net, x: Tensor) -> Tensor:
        passes.append("module")
        for layer in m.layers:
            x = F.relu(layer(x))
        return m.last(x)

    model = Net(forward, layers=nn.ModuleList([conv(3, 8), *(conv(8, 8) for _ in range(9))]), last=conv(8, 2))
    graph = build_graph(model, IMAGES)
    passes.clear()
    assert len(prunable(prove(model, graph, IMAGES))) == 10
    assert len(passes) <= 22  # two for each of seven rounds


def _of_64(x: Tensor) -> Tensor:
    assert x.shape[1] == 64
    return x


def test_number_written_into_the_code_is_reported() -> None:
    model = Net(
        lambda m, x: m.c(_of_64(F.relu(m.b(F.relu(m.a(x))))).mean((2, 3))),
        a=conv(3, 8),
        b=conv(8, 64),
        c=nn.Linear(64, 4),
    )
    graph = proved(model)
    assert graph.group("a").reason is None
    reason = str(graph.group("b").reason)
    assert "their number is fixed in the code" in reason


def test_channels_that_do_not_reach_the_output_are_not_called_proved() -> None:
    model = Net(lambda m, x: m.b(F.relu(m.a(x)) * 0), a=conv(3, 8), b=conv(8, 4))
    assert proved(model).group("a").reason == _prove.VACUOUS


def test_gradients_are_not_needed() -> None:
    model = Net(lambda m, x: m.c(torch.sign(m.b(m.a(x)))), a=conv(3, 8), b=conv(8, 8), c=conv(8, 4))
    assert [group.name for group in prunable(proved(model))] == ["a", "b"]


def test_zero_initialised_weights_and_scales_are_woken() -> None:
    model = Net(
        lambda m, x: m.d(F.relu(x0 := m.a(x)) + m.g * m.c(F.relu(m.n(m.b(x0))))),
        a=conv(3, 8),
        b=conv(8, 8),
        n=nn.BatchNorm2d(8),
        c=conv(8, 8),
        d=conv(8, 4),
        g=nn.Parameter(torch.full((8, 1, 1), 1e-9)),
    )
    nn.init.zeros_(model.n.weight)
    nn.init.zeros_(model.c.weight)
    assert [group.name for group in prunable(proved(model))] == ["a", "b"]


def _without_unions(p: Propagation, call: Call) -> Any:
    x = call.args["self"]
    return x if isinstance(x, Tensor) else p.join(call, ("self", "other"))


def _flip_forgotten(p: Propagation, call: Call) -> Any:
    del p
    return call.args["self"]


def _chunk_forgotten(p: Propagation, call: Call) -> Any:
    del p
    return list(core(call.args["self"]).expand(2, 8, 6, 6).chunk(2, 1))


def _shuffle_forgotten(p: Propagation, call: Call) -> Any:
    del p
    return call.args["self"].reshape(call.shape)


MUTATIONS: dict[str, tuple[str, Callable[..., Any], Callable[[], nn.Module]]] = {
    "sum does not unite": (
        "aten.add",
        _without_unions,
        lambda: Net(lambda m, x: m.c(m.a(x) + m.b(x)), a=conv(3, 8), b=conv(3, 8), c=conv(8, 4)),
    ),
    "flip does not reverse": (
        "aten.flip",
        _flip_forgotten,
        lambda: Net(lambda m, x: m.c(m.a(x).flip(1)), a=conv(3, 8), c=conv(8, 4)),
    ),
    "halves of a chunk are not balanced": (
        "aten.chunk",
        _chunk_forgotten,
        lambda: Net(lambda m, x: m.b(torch.cat(m.a(x).chunk(2, 1)[::-1], 1)), a=conv(3, 8), b=conv(8, 4)),
    ),
    "softmax taken as element-wise": (
        "aten.softmax",
        lambda p, call: call.args["self"],
        lambda: Net(lambda m, x: m.c(m.a(x).softmax(1)), a=conv(3, 8), c=conv(8, 4)),
    ),
    "mean over channels taken as a mean over positions": (
        "aten.mean",
        lambda p, call: core(call.args["self"])[:, :1].expand(call.shape) * 0,
        lambda: Net(lambda m, x: m.c(m.a(x) * m.a(x).mean(1, keepdim=True)), a=conv(3, 8), c=conv(8, 4)),
    ),
    "views do not balance": (
        "aten.view",
        _shuffle_forgotten,
        lambda: Net(
            lambda m, x: m.c(m.a(x).view(-1, 2, m.a.out_channels // 2, 6, 6).transpose(1, 2).reshape(len(x), -1, 6, 6)),
            a=conv(3, 8),
            c=conv(8, 4),
        ),
    ),
}


@pytest.mark.parametrize("name", MUTATIONS)
def test_broken_rule_is_caught(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    op, rule, make = MUTATIONS[name]
    torch.manual_seed(0)
    model = make()
    monkeypatch.setitem(_walk._RULES, op, rule)
    graph = build_graph(model, IMAGES)
    assert graph.group("a").reason is None
    assert prove(model, graph, IMAGES).group("a").reason is not None


def test_only_the_guilty_groups_are_frozen(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    monkeypatch.setitem(_walk._RULES, "aten.flip", _flip_forgotten)
    widths = [3, 8, 9, 10, 11, 12]

    def forward(m: Net, x: Tensor) -> Tensor:
        for number, layer in enumerate(m.layers):
            x = F.relu(layer(x))
            x = x.flip(1) if number == 2 else x
        return m.last(x)

    layers = nn.ModuleList(conv(i, o) for i, o in itertools.pairwise(widths))
    graph = proved(Net(forward, layers=layers, last=conv(12, 2)))
    assert [group.name for group in graph.groups[:-1] if group.reason] == ["layers.2"]


def test_wrong_slices_are_caught() -> None:
    model = Net(lambda m, x: m.b(F.relu(m.n(m.a(x)))), a=conv(3, 8), n=nn.BatchNorm2d(8), b=conv(8, 4))
    graph = build_graph(model, IMAGES)
    group = graph.group("a")
    turned = tuple(
        replace(piece, position=piece.position[::-1].copy()) if piece.tensor == "n.weight" else piece
        for piece in group.slices
    )
    broken = replace(graph, groups=(replace(group, slices=turned), *graph.groups[1:]))
    assert "changes the output" in str(prove(model, broken, IMAGES).group("a").reason)


def test_forward_that_draws_random_numbers_is_refused() -> None:
    model = Net(lambda m, x: m.b(F.relu(m.a(x)) + torch.rand(1)), a=conv(3, 8), b=conv(8, 4))
    graph = build_graph(model, IMAGES)
    with pytest.raises(AutopruneError, match="differs from the model"):
        prove(model, graph, IMAGES)


def test_dtype_in_the_code_falls_back_to_single_precision() -> None:
    model = Net(lambda m, x: m.b(F.relu(m.a(x.float()))), a=conv(3, 8), b=conv(8, 4))
    assert [group.name for group in prunable(proved(model))] == ["a"]


def test_one_image_is_enough() -> None:
    model = Net(lambda m, x: m.b(F.relu(m.n(m.a(x)))), a=conv(3, 8), n=nn.BatchNorm2d(8), b=conv(8, 4))
    assert [group.name for group in prunable(proved(model, IMAGES[:1]))] == ["a"]


def test_registered_operator_is_proved_like_the_rest(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_walk, "_RULES", dict(_walk._RULES))
    good = Net(lambda m, x: m.b(torch.special.bessel_j0(m.a(x))), a=conv(3, 8), b=conv(8, 4))
    bad = Net(lambda m, x: m.b(m.a(x).cumsum(1).logcumsumexp(1)), a=conv(3, 8), b=conv(8, 4))
    assert "not known" in str(proved(good).group("a").reason)
    register_op("aten.special_bessel_j0", "elementwise")
    assert proved(good).group("a").reason is None
    register_op("aten.logcumsumexp", "elementwise")
    assert proved(bad).group("a").reason is not None
    with pytest.raises(UsageError, match="already has a rule"):
        register_op("aten.relu", "elementwise")


def test_constant_that_the_exporter_keeps_in_single_precision() -> None:
    model = Net(
        lambda m, x: m.b(F.relu(m.a(x)) * torch.linspace(0.5, 1.5, x.shape[3], dtype=x.dtype)),
        a=conv(3, 8),
        b=conv(8, 4),
    )
    images = torch.randn(2, 3, 7, 7, generator=torch.Generator().manual_seed(0))
    assert [group.name for group in prunable(proved(model, images))] == ["a"]


class _Detector(nn.Module):
    """Keeps the positions whose score is above a limit."""

    def __init__(self, limit: float) -> None:
        super().__init__()
        self.first, self.head = conv(3, 8), nn.Conv2d(8, 5, 1)
        self.limit = limit

    def forward(self, x: Tensor) -> Tensor:
        found = self.head(F.relu(self.first(x))).movedim(1, -1).flatten(0, 2)
        kept = found[:, 0] - found[:, 1] > self.limit
        return found[kept] if kept.any() else found[:0]


@pytest.mark.parametrize(("limit", "message"), [(0.0, "have other shapes for other images"), (99.0, "are empty")])
def test_outputs_that_hang_on_what_images_show_are_refused(limit: float, message: str) -> None:
    torch.manual_seed(0)
    model = _Detector(limit)
    graph = build_graph(model, IMAGES)
    assert graph.assumption is not None
    with pytest.raises(AutopruneError, match=message):
        prove(model, graph, IMAGES)
