"""From labels to coupling groups and layers."""

from __future__ import annotations

import math
from collections import defaultdict
from typing import Any, Literal, cast

import numpy as np
from torch import Tensor, nn

from autoprune.graph._propagation import LayerCall, Propagation
from autoprune.graph._trace import Traced, trace
from autoprune.graph._types import ChannelSlice, Group, IntArray, Layer, PruningGraph
from autoprune.graph._walk import propagate

SINGLE = "it has a single channel, and one must stay"


def _stem(name: str) -> str:
    return name.removesuffix(".weight")


def _numbers(value: Any, count: int) -> tuple[int, ...]:
    if isinstance(value, int):
        return (value,) * count
    value = tuple(int(v) for v in value)
    return value * count if len(value) == 1 else value


def _padding(value: Any, kernel: tuple[int, ...], dilation: tuple[int, ...]) -> tuple[int, ...]:
    if isinstance(value, str):
        return tuple(d * (k - 1) // 2 if value == "same" else 0 for k, d in zip(kernel, dilation, strict=True))
    return _numbers(value, len(kernel))


class _Classes:
    """The united sets of labels that own positions in parameters, as units with a signature."""

    def __init__(self, p: Propagation) -> None:
        self.p = p
        self.root = p.sets.roots()
        self.reason: dict[int, str] = {}
        for labels, reason in p.frozen:
            for root in np.unique(self.root[labels]):
                self.reason.setdefault(int(root), reason)
        for (name, _), (first, count) in p.slots.items():
            if name in p.frozen_params:
                for root in np.unique(self.root[first : first + count]):
                    self.reason.setdefault(int(root), p.frozen_params[name])
        self.residual = {int(root) for labels in p.residual for root in self.root[labels]}
        self.positions: dict[int, dict[tuple[str, int], list[int]]] = defaultdict(lambda: defaultdict(list))
        for key, (first, count) in p.slots.items():
            for position, root in enumerate(self.root[first : first + count].tolist()):
                self.positions[root][key].append(position)


def _group_units(classes: _Classes, p: Propagation) -> list[tuple[list[int], str | None]]:
    """Return the units (roots) of every group, in execution order of the first producer, with the group's reason."""
    order: dict[int, None] = {}
    for layer in p.layers:
        for root in classes.root[layer.out_labels].tolist():
            order.setdefault(root)
    groups: dict[Any, list[int]] = defaultdict(list)
    for root in order:
        signature = frozenset((key, len(found)) for key, found in classes.positions[root].items())
        groups[signature, classes.reason.get(root), root in classes.residual].append(root)
    return [(units, key[1]) for key, units in groups.items()]


def _slices(classes: _Classes, units: list[int]) -> tuple[ChannelSlice, ...]:
    collected: dict[tuple[str, int], tuple[list[int], list[int]]] = defaultdict(lambda: ([], []))
    for unit, root in enumerate(units):
        for key, found in classes.positions[root].items():
            positions, owners = collected[key]
            positions += found
            owners += [unit] * len(found)
    return tuple(
        ChannelSlice(tensor, dim, np.array(positions, dtype=np.int64), np.array(owners, dtype=np.int64))
        for (tensor, dim), (positions, owners) in collected.items()
    )


def _layer_names(p: Propagation) -> list[str]:
    used: dict[str, int] = {}
    names = []
    for layer in p.layers:
        stem = _stem(layer.weight.name)
        used[stem] = used.get(stem, 0) + 1
        names.append(stem if used[stem] == 1 else f"{stem}#{used[stem]}")
    return names


def _macs(layer: LayerCall) -> int:
    out = layer.call.shape
    if layer.kind == "linear":
        return math.prod(layer.in_shape[1:-1]) * math.prod(layer.weight.shape) if len(layer.in_shape) > 1 else math.prod(layer.weight.shape)
    spatial = layer.in_shape[2:] if layer.kind == "conv_transpose" else out[2:]
    return math.prod(layer.weight.shape) * math.prod(spatial)


def _norm(layer: LayerCall, traced: Traced) -> str | None:
    users = list(layer.call.node.users)
    if len(users) != 1 or not str(users[0].target).startswith("aten.batch_norm."):
        return None
    for argument in users[0].args[1:5]:
        if argument in traced.tensors:
            return traced.tensors[argument].rpartition(".")[0]  # type: ignore[index]
    return None


def _build(traced: Traced, p: Propagation) -> PruningGraph:
    classes = _Classes(p)
    names = _layer_names(p)
    count = len(p.sets)
    group_of: IntArray = np.full(count, -1, dtype=np.int64)
    unit_of: IntArray = np.full(count, -1, dtype=np.int64)
    found = _group_units(classes, p)
    for index, (units, _) in enumerate(found):
        group_of[units] = index
        unit_of[units] = np.arange(len(units))
    producers: list[dict[str, None]] = [{} for _ in found]
    consumers: list[dict[str, None]] = [{} for _ in found]
    layers: list[Layer] = []
    for name, record in zip(names, p.layers, strict=True):
        ins, outs = classes.root[record.in_labels], classes.root[record.out_labels]
        for index in np.unique(group_of[outs]).tolist():
            producers[index].setdefault(name)
        for index in np.unique(group_of[ins]).tolist():
            if index >= 0:
                consumers[index].setdefault(name)
        kernel = record.weight.shape[2:]
        dilation = _numbers(record.call.args.get("dilation", 1), len(kernel))
        layers.append(
            Layer(
                name=name,
                node=record.call.node.name,
                op=cast("Literal['conv', 'conv_transpose', 'linear']", record.kind),
                weight=record.weight.name,
                bias=record.bias.name if record.bias else None,
                in_channels=len(ins),
                out_channels=len(outs),
                kernel=kernel,
                stride=_numbers(record.call.args.get("stride", 1), len(kernel)),
                padding=_padding(record.call.args.get("padding", 0), kernel, dilation),
                dilation=dilation,
                groups=int(record.call.args.get("groups", 1)),
                in_shape=record.in_shape,
                out_shape=record.call.shape,
                in_group=group_of[ins],
                in_unit=unit_of[ins],
                out_group=group_of[outs],
                out_unit=unit_of[outs],
                norm=_norm(record, traced),
                macs=_macs(record),
            )
        )
    groups: list[Group] = []
    taken: dict[str, int] = {}
    for index, (units, reason) in enumerate(found):
        stem = next(iter(producers[index]))
        taken[stem] = taken.get(stem, 0) + 1
        groups.append(
            Group(
                name=stem if taken[stem] == 1 else f"{stem}#{taken[stem]}",
                index=index,
                size=len(units),
                kind="residual" if units[0] in classes.residual else "inner",
                slices=_slices(classes, units),
                producers=tuple(producers[index]),
                consumers=tuple(consumers[index]),
                reason=reason or (SINGLE if len(units) == 1 else None),
            )
        )
    return PruningGraph(
        program=traced.program,
        layers=tuple(layers),
        groups=tuple(groups),
        refusals=tuple(p.refusals),
        dynamic_batch=traced.dynamic_batch,
    )


def build_graph(model: nn.Module, example_input: Tensor) -> PruningGraph:
    """Trace a model and find its coupling groups. Nothing is proved yet: see ``prove``.

    Args:
        model: Any model that ``torch.export`` can trace; it is traced in eval mode, and its modes are restored.
        example_input: At least one image, shape (N, C, H, W).

    Raises:
        AutopruneError: if the model cannot be traced.
    """
    traced = trace(model, example_input)
    return _build(traced, propagate(traced))


__all__ = ["build_graph"]
