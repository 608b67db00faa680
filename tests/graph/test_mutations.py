"""Every rule of the coupling graph is broken on purpose, and the proof sees it.

A rule is broken in one of these ways: what it returns is turned by one channel (*turned*), it does not unite what goes together
(*apart*), or it freezes nothing (*loose*); or it is replaced.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from autoprune.graph import (
    _computed,
    _interpret,
    _rules_cut,
    _rules_join,
    _rules_layers,
    _rules_norms,
    _rules_shape,
    _walk,
    build_graph,
    prove,
)
from autoprune.graph._call import Call, Param
from autoprune.graph._labels import NEUTRAL, along, core, neutral, varying
from autoprune.graph._propagation import Propagation, Rule
from autoprune.graph._rules_cut import CUT_RULES
from autoprune.graph._rules_elementwise import ELEMENTWISE_RULES
from autoprune.graph._rules_join import JOIN_RULES
from autoprune.graph._rules_layers import LAYER_RULES
from autoprune.graph._rules_norms import NORM_RULES
from autoprune.graph._rules_order import ORDER_RULES
from autoprune.graph._rules_products import PRODUCT_RULES
from autoprune.graph._rules_reduce import REDUCE_RULES
from autoprune.graph._rules_shape import SHAPE_RULES
from autoprune.graph._unionfind import UnionFind
from autoprune.surgery import _prune
from autoprune.testing import check_surgery

from ._nets import CASES, Net, conv, sandwich

TABLES = (
    ELEMENTWISE_RULES,
    REDUCE_RULES,
    SHAPE_RULES,
    CUT_RULES,
    JOIN_RULES,
    ORDER_RULES,
    LAYER_RULES,
    NORM_RULES,
    PRODUCT_RULES,
)
IMAGES = torch.randn(2, 3, 6, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(0))


def _turn(labels: Any) -> Any:
    if isinstance(labels, (list, tuple)):
        return [_turn(part) for part in labels]
    if not isinstance(labels, Tensor):
        return labels
    small = core(labels)
    for dim in varying(labels):
        small = small.roll(1, dim)
    return small.expand(labels.shape)


def turned(rule: Rule) -> Rule:
    return lambda p, call: _turn(rule(p, call))


@contextmanager
def _without(owner: type, name: str, replacement: Callable[..., Any]) -> Any:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(owner, name, replacement)
        yield


def apart(rule: Rule) -> Rule:
    def broken(p: Propagation, call: Call) -> Any:
        with _without(UnionFind, "union", lambda *_: None):
            return rule(p, call)

    return broken


def loose(rule: Rule) -> Rule:
    """Freeze nothing; what would be opaque keeps the labels of the first operand that has the output's shape."""

    def broken(p: Propagation, call: Call) -> Any:
        def output(self: Propagation, call: Call, reason: str) -> Any:
            found = [v for v in call.args.values() if isinstance(v, Tensor) and tuple(v.shape) == call.shape]
            if found:
                return found[0]
            first = next(v for v in call.args.values() if isinstance(v, Tensor))
            value = call.node.meta["val"]
            parts = value if isinstance(value, (list, tuple)) else [value]
            cut, starts = core(first), np.cumsum([0, *(part.shape[1] for part in parts)])
            pieces = [
                cut[:, start : start + part.shape[1]].expand(
                    [int(size) if type(size) is int else 2 for size in part.shape]
                )
                for start, part in zip(starts, parts, strict=False)
            ]
            return pieces if isinstance(value, (list, tuple)) else pieces[0]

        with (
            _without(Propagation, "freeze", lambda *_: None),
            _without(Propagation, "opaque_label", lambda *_: NEUTRAL),
            _without(Propagation, "opaque_output", output),
        ):
            return rule(p, call)

    return broken


def first_labels(rule: Rule) -> Rule:
    """Return the first operand's labels: the operator is taken for one that changes nothing."""

    def broken(p: Propagation, call: Call) -> Any:
        labels = call.args[next(iter(call.args))]
        return labels[0] if isinstance(labels, list) else labels

    return broken


def ignored(rule: Rule) -> Rule:
    """Take no notice of the operator."""
    return lambda p, call: None


def moved(rule: Rule) -> Rule:
    """Take the operator for one that only moves channels."""
    return lambda p, call: _rules_shape.move(p, call)


def own_labels(rule: Rule) -> Rule:
    """Take a tensor made in the code for one with channels of its own."""
    return lambda p, call: along(p.sets.add(call.shape[1]), call.shape, 1) if len(call.shape) > 1 else rule(p, call)


@dataclass
class Mutation:
    """A rule (by its function's name), how it is broken, and a network that shows it."""

    rule: str
    how: Callable[[Rule], Rule]
    make: str | Callable[[], nn.Module]
    refused: bool = False  # without the mutation, too

    @property
    def name(self) -> str:
        return f"{self.rule}, {self.how.__name__}, {self.make if isinstance(self.make, str) else self.make.__name__}"

    def model(self) -> nn.Module:
        torch.manual_seed(0)
        return (CASES[self.make][0] if isinstance(self.make, str) else self.make)().double().eval()


def pool_over_channels() -> nn.Module:
    return sandwich(lambda m, x: F.avg_pool2d(x.permute(0, 2, 3, 1), (1, 3), 1, (0, 1)).permute(0, 3, 1, 2))


def gate_of_means() -> nn.Module:
    return sandwich(lambda m, x: x * m.a(x.mean((2, 3))).sigmoid()[..., None, None], a=nn.Linear(8, 8))


def norm_without_scale() -> nn.Module:
    return sandwich(lambda m, x: F.layer_norm(x.permute(0, 2, 3, 1), (8,)).permute(0, 3, 1, 2))


def two_groups() -> nn.Module:
    return sandwich(lambda m, x: m.a(x), a=conv(8, 8, groups=2))


def permuted() -> nn.Module:
    return sandwich(lambda m, x: x + x[:, torch.tensor([3, 1, 2, 0, 5, 4, 7, 6])])


def branch_on_signs() -> nn.Module:
    model = Net(
        lambda m, x: m.last(y if torch.equal(y := m.first(x), y.abs()) else -2 * y), first=conv(3, 8), last=conv(8, 4)
    )
    with torch.no_grad():
        model.first.bias.copy_(torch.tensor([-100.0, *[100.0] * 7]))  # without the first channel all are positive
    return model


MUTATIONS = [
    Mutation("unary", turned, "relu6"),
    Mutation("binary", apart, "maximum (maxout)"),
    Mutation("binary", turned, "maximum (maxout)"),
    Mutation("sums", apart, "residual"),
    Mutation("nary", apart, "addcmul"),
    Mutation("nary", apart, "where"),
    Mutation("constants", own_labels, "shortcut padded by concat"),
    Mutation("copy", apart, "in-place slice assignment"),
    Mutation("decide", ignored, branch_on_signs, refused=True),
    Mutation("pool", turned, "pools"),
    Mutation("pool", first_labels, pool_over_channels, refused=True),
    Mutation("reduce", turned, gate_of_means),
    Mutation("along", loose, "softmax over channels", refused=True),
    Mutation("move", turned, "channels last and back"),
    Mutation("move", turned, "repeated channels"),
    Mutation("reshape", turned, "tokens and back"),
    Mutation("reshape", apart, "channels viewed with an open size"),
    Mutation("expand", turned, "excitation expanded"),
    Mutation("split", turned, "chunk into two branches"),
    Mutation("split", turned, "split with sizes"),
    Mutation("slice_", apart, "half by a computed slice"),
    Mutation("slice_", turned, "uneven split"),
    Mutation("select", moved, "select"),
    Mutation("pad", turned, "constant pad of positions"),
    Mutation("pad", loose, "zero-padded shortcut"),
    Mutation("concatenate", turned, "dense concat"),
    Mutation("concatenate", apart, "concat of positions"),
    Mutation("index", first_labels, permuted),
    Mutation("index", turned, permuted),
    Mutation("index_select", turned, "index_select of channels"),
    Mutation("stack", apart, "stack and mean"),
    Mutation("flip", first_labels, "flip of channels"),
    Mutation("roll", turned, "roll of channels"),
    Mutation("pixel_shuffle", apart, "pixel shuffle"),
    Mutation("pixel_unshuffle", turned, "pixel unshuffle"),
    Mutation("channel_shuffle", turned, "nn.ChannelShuffle"),
    Mutation("channel_shuffle", apart, "nn.ChannelShuffle"),
    Mutation("channel_shuffle", first_labels, "nn.ChannelShuffle"),
    Mutation("glu", apart, "glu"),
    Mutation("conv", turned, "residual"),
    Mutation("conv", apart, "functional conv"),
    Mutation("conv", apart, "grouped"),
    Mutation("conv", apart, two_groups),
    Mutation("linear", turned, "channels last and back"),
    Mutation("linear", apart, "flatten into linear"),
    Mutation("prelu", apart, "PReLU per channel"),
    Mutation("channel_norm", apart, "batch norm"),
    Mutation("channel_norm", turned, "instance norm with statistics"),
    Mutation("layer_norm", apart, "layer norm over channels"),
    Mutation("layer_norm", loose, norm_without_scale, refused=True),
    Mutation("group_norm", apart, "group norm"),
    Mutation("matmul", turned, "matmul over positions"),
    Mutation("matmul", apart, "correlation of two layers"),
    Mutation("einsum", turned, "einsum over positions"),
    Mutation("einsum", apart, "product by einsum"),
    Mutation("attention", turned, "attention heads"),
    Mutation("attention", loose, "attention with heads of open size"),
]


def _break(mutation: Mutation, monkeypatch: pytest.MonkeyPatch) -> None:
    broken = 0
    for table in TABLES:
        for op, rule in table.items():
            if rule.__name__ == mutation.rule:
                monkeypatch.setitem(_walk._RULES, op, mutation.how(rule))
                broken += 1
    assert broken


def check_caught(make: Callable[[], nn.Module]) -> None:
    """The build claims a group that the proof then refuses; what it lets pass is right."""
    model = make()
    graph = build_graph(model, IMAGES)
    claimed = [group.name for group in graph.groups if group.reason is None]
    proved = prove(model, graph, IMAGES)
    assert any(proved.group(name).reason for name in claimed)
    check = check_surgery(model, proved, IMAGES, policies=3)
    assert check.distance < 1e-8


def check_right(make: Callable[[], nn.Module], *, refused: bool | None) -> None:
    model = make()
    graph = prove(model, build_graph(model, IMAGES), IMAGES)
    assert refused is None or all(group.reason for group in graph.groups) == refused
    check = check_surgery(model, graph, IMAGES, policies=3)
    assert check.distance < 1e-8
    assert (check.macs_wrong, check.params_wrong) == (0, 0)


@pytest.mark.parametrize("mutation", MUTATIONS, ids=lambda mutation: mutation.name)
def test_a_broken_rule_is_caught(mutation: Mutation, monkeypatch: pytest.MonkeyPatch) -> None:
    check_right(mutation.model, refused=mutation.refused)
    _break(mutation, monkeypatch)
    check_caught(mutation.model)


class MixedOutputs(nn.Conv2d):
    """Every output channel's weight holds a bit of all others'."""

    def forward(self, x: Tensor) -> Tensor:
        return self._conv_forward(x, self.weight + self.weight.mean(0, keepdim=True), self.bias)


class Halves(nn.Module):
    """Cuts channels by numbers among its attributes."""

    def __init__(self) -> None:
        super().__init__()
        self.first = conv(3, 8)
        self.sizes = [3, 5]
        self.a = conv(3, 3)
        self.last = conv(8, 4)

    def forward(self, x: Tensor) -> Tensor:
        left, right = torch.split(F.relu(self.first(x)), self.sizes, dim=1)
        return self.last(torch.cat([right, self.a(left)], 1))


def mixed_outputs() -> nn.Module:
    return sandwich(lambda m, x: m.a(x), a=MixedOutputs(8, 8, 3))


def many_groups() -> nn.Module:
    return sandwich(lambda m, x: m.n(x), n=nn.GroupNorm(4, 8))


def added_into_zeros() -> nn.Module:
    def forward(m: Net, x: Tensor) -> Tensor:
        y = torch.zeros(x.shape[0], m.first.out_channels, 6, 6, dtype=x.dtype)
        y[:, :, 1:].add_(m.first(x)[:, :, 1:])
        return m.last(y)

    return Net(forward, first=conv(3, 8), last=conv(8, 4))


def turned_slots(self: Propagation, param: Param, dim: int) -> Any:
    first, count = self.slot(param, dim)
    labels = np.arange(first, first + count, dtype=np.int64)
    return labels if dim else np.roll(labels, 1)


def passed(self: Any, call: Call, args: Any, kwargs: Any) -> Any:
    return next((value for value in args if isinstance(value, Tensor)), None)


HELPERS: list[tuple[Any, str, Callable[..., Any], str | Callable[[], nn.Module]]] = [
    (Propagation, "combine", lambda self, left, right: np.broadcast_arrays(left, right)[0], "residual"),
    (Propagation, "merge", lambda self, labels, axis: labels.take([0], axis), "grouped"),
    (Propagation, "channels", lambda self, labels, dim: np.roll(_walk_channels(self, labels, dim), 1), "residual"),
    (Propagation, "unite_slot", lambda self, labels, param, dim: labels, "batch norm"),
    (Propagation, "slot_labels", turned_slots, "batch norm"),
    (Propagation, "link", lambda self, sources, labels: labels, Halves),
    (Propagation, "labels_of", lambda self, call, value, other=None: _no_parameter(value), "layer scale [C, 1, 1]"),
    (Propagation, "opaque_label", lambda self, reason: NEUTRAL, "sum with the network's input"),
    (Propagation, "freeze", lambda self, values, reason: None, "residual"),
    (_rules_cut, "unify_pieces", lambda p, x, *_, **__: x, "chunk into two branches"),
    (_rules_cut, "unify_pieces", lambda p, x, *_, **__: x, "glu"),
    (_rules_join, "_match", lambda p, parts, dim: core(parts[0]), "stack and mean"),
    (_rules_cut, "_link_pieces", lambda *_: True, Halves),
    (_rules_layers, "_same_place", lambda p, labels, groups: labels, two_groups),
    (_rules_layers, "_bias", lambda p, call, out: out, "residual"),
    (_rules_norms, "from_channels", lambda labels, shape, dim: _turn(_from_channels(labels, shape, dim)), "batch norm"),
    (_walk._Walk, "_written", lambda self, call, result: None, added_into_zeros),
    (_walk._Walk, "_unknown", passed, "an unknown operator over channels"),
    (_walk._Walk, "_weight", lambda self, weight: self.env[weight.source], "weight norm"),
    (_interpret, "_scaled", lambda args, *_: args, "correlation of two layers"),
    (_computed._Trial, "by_channel", lambda self: True, mixed_outputs),
    (_prune, "update_sizes", lambda *_: None, Halves),
    (_prune, "update_attributes", lambda *_: None, many_groups),
    (_prune, "rescaled", lambda *_: (), "weight norm further on"),
]

_walk_channels = Propagation.channels
_from_channels = _rules_layers.from_channels


def _no_parameter(value: Any) -> Tensor:
    return value if isinstance(value, Tensor) else neutral(value.shape if isinstance(value, Param) else ())


@pytest.mark.parametrize("number", range(len(HELPERS)), ids=lambda number: f"{HELPERS[number][1]}, {number}")
def test_a_broken_helper_is_caught(number: int, monkeypatch: pytest.MonkeyPatch) -> None:
    owner, name, replacement, make = HELPERS[number]
    mutation = Mutation(name, turned, make)
    check_right(mutation.model, refused=None)
    monkeypatch.setattr(owner, name, replacement)
    check_caught(mutation.model)


def test_every_rule_is_broken_once() -> None:
    rules = {rule.__name__ for table in TABLES for rule in table.values()}
    rules -= {"nothing", "meshgrid"}  # whose tensors have no channels
    assert rules == {mutation.rule for mutation in MUTATIONS}
