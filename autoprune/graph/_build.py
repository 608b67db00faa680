"""From labels to coupling groups and layers."""

from __future__ import annotations

import re
from collections import defaultdict
from typing import Any, Literal, cast

import numpy as np
from torch import nn

from autoprune.graph._call import LayerCall, TableCall
from autoprune.graph._computed import computed_weights
from autoprune.graph._labels import NEUTRAL
from autoprune.graph._macs import MacCounter
from autoprune.graph._owners import Owners
from autoprune.graph._propagation import OUTPUT, Propagation
from autoprune.graph._trace import Traced, at_least_two, trace
from autoprune.graph._walk import propagate
from autoprune.groups import (
    Argument,
    CallArgument,
    ChannelSlice,
    FoldedTensor,
    Group,
    IntArray,
    Layer,
    ModuleSize,
    PruningGraph,
    Refusal,
    Table,
)
from autoprune.model_guard import ModelInputs, check_inputs
from autoprune.surgery import calls_that_follow, foldable, folded, prune_model

SINGLE = "it has a single channel, and one must stay"
TIED = "all its channels are tied to one another by views, splits or shuffles of channels, and one must stay"


_WEIGHT = re.compile(r"(\.parametrizations)?\.weight(\.original\d*|_v|_orig)?$")


def _stem(name: str) -> str:
    return _WEIGHT.sub("", name)


def _numbers(value: Any, count: int) -> tuple[int, ...]:
    if isinstance(value, int):
        return (value,) * count
    numbers = tuple(int(v) for v in value)
    return numbers * count if len(numbers) == 1 else numbers


def _padding(value: Any, kernel: tuple[int, ...], dilation: tuple[int, ...]) -> tuple[int, ...]:
    if isinstance(value, str):
        return tuple(d * (k - 1) // 2 if value == "same" else 0 for k, d in zip(kernel, dilation, strict=True))
    return _numbers(value, len(kernel))


def _makers(p: Propagation) -> list[LayerCall | TableCall]:
    """Return what makes channels, layers and tables, in execution order."""
    found: list[LayerCall | TableCall] = list(p.layers)
    for table in reversed(p.tables):
        found.insert(table.after, table)
    return found


class _Classes:
    """The united sets of labels that own positions in parameters: a channel (unit) each, under the root of its set.

    Reasons, kinds and signatures are those of channels that some layer produces: only they can be a group's units.
    """

    def __init__(self, p: Propagation) -> None:
        self.root = p.sets.roots()
        self.slots = {key: self.root[first : first + count] for key, (first, count) in p.slots.items()}
        self._made = np.zeros(len(self.root), dtype=bool)
        for maker in _makers(p):
            self._made[self.root[maker.out_labels]] = True
        self.reason: dict[int, str] = {}
        # What is an output has to stay, whatever else is done to it.
        for labels, reason in sorted(p.frozen, key=lambda frozen: frozen[1] != OUTPUT):
            self._freeze(self.root[labels], reason)
        for (name, _), roots in self.slots.items():
            if name in p.frozen_params:
                self._freeze(roots, p.frozen_params[name])
        self.residual = {int(root) for labels in p.residual for root in self.root[labels]}
        self.signature: dict[int, list[tuple[int, int]]] = defaultdict(list)
        dims = [labels for call in p.products.values() for labels in call.dims]
        counted = [labels for link in p.call_links.values() for labels in link.places]
        places = [*self.slots.values(), *(self.root[labels] for labels in (*p.links.values(), *counted, *dims))]
        for number, roots in enumerate(places):
            units, counts = np.unique(roots[self._made[roots]], return_counts=True)
            for unit, count in zip(units.tolist(), counts.tolist(), strict=True):
                self.signature[unit].append((number, count))

    def _freeze(self, roots: IntArray, reason: str) -> None:
        for root in np.unique(roots[self._made[roots]]).tolist():
            self.reason.setdefault(root, reason)


def _group_units(classes: _Classes, p: Propagation) -> list[list[int]]:
    """Return the units (roots) of every group, in execution order of the first producer."""
    order: dict[int, None] = {}
    for maker in _makers(p):
        order.update(dict.fromkeys(root for root in classes.root[maker.out_labels].tolist() if root != NEUTRAL))
    groups: dict[Any, list[int]] = defaultdict(list)
    for root in order:
        groups[tuple(classes.signature[root]), classes.reason.get(root), root in classes.residual].append(root)
    return list(groups.values())


def _slices(classes: _Classes, group_of: IntArray, unit_of: IntArray, count: int) -> list[list[ChannelSlice]]:
    """Return every group's positions in every parameter."""
    slices: list[list[ChannelSlice]] = [[] for _ in range(count)]
    for (tensor, dim), roots in classes.slots.items():
        owner = group_of[roots]
        for index in np.unique(owner[owner >= 0]).tolist():
            position = np.flatnonzero(owner == index).astype(np.int64)
            slices[index].append(ChannelSlice(tensor, dim, position, unit_of[roots[position]]))
    return slices


def _names(p: Propagation) -> list[str]:
    """Return the names of all layers, then of all tables."""
    used: dict[str, int] = {}
    names = []
    makers: list[LayerCall | TableCall] = [*p.layers, *p.tables]
    for maker in makers:
        stem = _stem(maker.weight.name)
        used[stem] = used.get(stem, 0) + 1
        names.append(stem if used[stem] == 1 else f"{stem}#{used[stem]}")
    return names


def _norm(layer: LayerCall, traced: Traced) -> str | None:
    users = list(layer.call.node.users)
    if len(users) != 1 or not str(users[0].target).startswith("aten.batch_norm."):
        return None
    for argument in users[0].args[1:5]:
        if argument in traced.tensors:
            return traced.tensors[argument].rpartition(".")[0]  # type: ignore[index]
    return None


def _unnamed(p: Propagation, groups: tuple[Group, ...]) -> list[Refusal]:
    """Return refusals for the reasons that no operator was refused for: a constant in the code, a tensor made there."""
    named = {refusal.reason for refusal in p.refusals} | {OUTPUT, SINGLE, TIED, None}
    found: dict[str, str] = {}
    for group in groups:
        if group.reason is not None and group.reason not in named:
            found.setdefault(group.reason, group.name)
    return [Refusal(where, reason) for reason, where in found.items()]


def _too_few(units: list[int], slices: list[ChannelSlice]) -> str | None:
    if len(units) > 1:
        return None
    return TIED if slices[0].position.size > 1 else SINGLE


def _to_fold(model: nn.Module, traced: Traced) -> tuple[FoldedTensor, ...]:
    """Return the tensors that torch's hooks and parametrizations compute in a way that is not understood."""
    found = foldable(model)
    if not found:
        return ()
    known = {name for weight in computed_weights(traced).values() for name in weight.names.values()}
    used = {name for node, name in traced.tensors.items() if node.users}
    chosen = [tensor for tensor, names in found.items() if any(name in used - known for name in names)]
    modules = {tensor.module for tensor in chosen}
    parametrized = {
        tensor for tensor, names in found.items() if any(".parametrizations." in f".{name}" for name in names)
    }
    return tuple(t for t in found if t in chosen or (t in parametrized and t.module in modules))


def _layers(
    traced: Traced, p: Propagation, classes: _Classes, counter: MacCounter, group_of: IntArray, unit_of: IntArray
) -> tuple[Layer, ...]:
    """Return every convolution and linear call with the group and the unit of each of its channels."""
    layers = []
    for name, record in zip(_names(p), p.layers, strict=False):
        ins, outs = classes.root[record.in_labels], classes.root[record.out_labels]
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
                macs=counter.layer(record),
                balanced=record.balanced,
            )
        )
    return tuple(layers)


def _tables(p: Propagation, classes: _Classes, group_of: IntArray, unit_of: IntArray) -> tuple[Table, ...]:
    """Return every look-up in a table with the group and the unit of each of its channels."""
    tables = []
    for name, record in zip(_names(p)[len(p.layers) :], p.tables, strict=True):
        outs = classes.root[record.out_labels]
        node = record.call.node.name
        tables.append(Table(name, node, record.weight.name, group_of[outs], unit_of[outs], record.after))
    return tuple(tables)


def _groups(
    classes: _Classes,
    found: list[list[int]],
    slices: list[list[ChannelSlice]],
    layers: tuple[Layer, ...],
    tables: tuple[Table, ...],
) -> tuple[Group, ...]:
    """Return the groups, each named after the first layer or table that produces it."""
    producers: list[list[str]] = [[] for _ in found]
    consumers: list[list[str]] = [[] for _ in found]
    made = [(layer.name, layer.out_group) for layer in layers]
    for table in reversed(tables):
        made.insert(table.after, (table.name, table.out_group))
    for names, calls in ((producers, made), (consumers, [(layer.name, layer.in_group) for layer in layers])):
        for name, owner in calls:
            for index in np.unique(owner[owner >= 0]).tolist():
                names[index].append(name)
    groups = []
    taken: dict[str, int] = {}
    for index, units in enumerate(found):
        stem = producers[index][0]
        taken[stem] = taken.get(stem, 0) + 1
        groups.append(
            Group(
                name=stem if taken[stem] == 1 else f"{stem}#{taken[stem]}",
                index=index,
                size=len(units),
                kind="residual" if units[0] in classes.residual else "inner",
                slices=tuple(slices[index]),
                producers=tuple(producers[index]),
                consumers=tuple(consumers[index]),
                reason=classes.reason.get(units[0]) or _too_few(units, slices[index]),
            )
        )
    return tuple(groups)


def _build(traced: Traced, p: Propagation, folded: tuple[FoldedTensor, ...]) -> PruningGraph:
    classes = _Classes(p)
    counter = MacCounter(traced)
    count = len(p.sets)
    group_of: IntArray = np.full(count, -1, dtype=np.int64)
    unit_of: IntArray = np.full(count, -1, dtype=np.int64)
    found = _group_units(classes, p)
    for index, units in enumerate(found):
        group_of[units] = index
        unit_of[units] = np.arange(len(units))
    layers = _layers(traced, p, classes, counter, group_of, unit_of)
    tables = _tables(p, classes, group_of, unit_of)
    groups = _groups(classes, found, _slices(classes, group_of, unit_of, len(found)), layers, tables)
    owners = Owners(classes.root, group_of, unit_of, groups)
    assumed = [Refusal("the forward pass", traced.assumption)] if traced.assumption else []
    return PruningGraph(
        program=traced.program,
        layers=layers,
        groups=groups,
        tables=tables,
        refusals=(*assumed, *p.refusals, *_unnamed(p, groups)),
        dynamic_batch=traced.dynamic_batch,
        products=owners.products(traced, p, counter),
        assumption=traced.assumption,
        statistics=owners.statistics(traced, p),
        elements=owners.elements(p),
        computed={node.name: weight for node, weight in p.computed.items()},
        folded=folded,
        channels=owners.channels(p),
        sizes=tuple(
            ModuleSize(source.module, source.attribute, source.item, *owners(labels))
            for source, labels in p.links.items()
        ),
        calls=tuple(
            CallArgument(argument.site, argument.path, link.kind, *owners(link.labels), link.at, link.sign)
            for argument, link in p.call_links.items()
        ),
    )


def _follow(model: nn.Module, graph: PruningGraph, inputs: ModelInputs) -> set[Argument]:
    """Return the arguments of calls that follow the channels without being changed.

    In two runs every channel is taken away once, so that what is fixed shows. In two more the channels of some groups only are:
    what follows other channels than those that it counts shows.
    """
    rng = np.random.default_rng(0)
    free = [group for group in graph.groups if group.reason is None and group.size > 1]
    halves = [np.split(rng.permutation(group.size), [rng.integers(1, group.size)]) for group in free]
    runs = [[half[place] for half in halves] for place in (0, 1)]
    some = rng.permutation(len(free)) % 2
    for place in (0, 1) if len(free) > 1 else ():
        counts = [
            rng.integers(1, group.size) if odd == place else group.size for group, odd in zip(free, some, strict=True)
        ]
        runs.append([rng.permutation(group.size)[:count] for group, count in zip(free, counts, strict=True)])
    found: list[set[Argument]] = []
    for run in runs:
        kept = {group.name: np.sort(units) for group, units in zip(free, run, strict=True)}
        found.append(calls_that_follow(prune_model(model, graph, kept).eval(), inputs))
    return set.intersection(*found)


def build_graph(model: nn.Module, example_input: Any) -> PruningGraph:
    """Trace a model and find its coupling groups. Nothing is proved yet: see ``prove``.

    Args:
        model: Any model; it is traced in eval mode by ``torch.export``, or where that refuses it by recording one pass, and
            its modes are restored.
        example_input: A batch of at least one: a tensor (N, ...), a tuple of several, a dict; see
            `autoprune.model_guard.as_inputs`.

    Raises:
        AutopruneError: if the model cannot be traced.
    """
    inputs = check_inputs(example_input, model)
    traced = trace(model, inputs)
    tensors = _to_fold(model, traced)
    if tensors:
        model = folded(model, tensors)
        traced = trace(model, inputs)
    inputs = at_least_two(inputs) if traced.dynamic_batch else inputs
    p = propagate(traced)
    graph = _build(traced, p, tensors)
    if not graph.calls:
        return graph
    may_follow = {argument for argument, link in p.call_links.items() if not link.fixed}
    fixed = frozenset(p.call_links.keys() - (_follow(model, graph, inputs) & may_follow if may_follow else set()))
    follow = p.call_links.keys() - fixed
    if fixed:
        p = propagate(traced, fixed)
        follow = _follow(model, _build(traced, p, tensors), inputs) - fixed
    p.call_links = {argument: link for argument, link in p.call_links.items() if argument not in follow}
    return _build(traced, p, tensors)


__all__ = ["build_graph"]
