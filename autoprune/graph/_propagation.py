"""The state that the rules work on: labels of every value, united sets, slots in parameters, and frozen channels."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.fx import Node

from autoprune.graph._call import (
    Call,
    CallLink,
    LayerCall,
    Param,
    ProductCall,
    TableCall,
    concrete,
    source_line,
    torch_module,
)
from autoprune.graph._labels import NEUTRAL, along, column, compress, constant, core, neutral, varying, words
from autoprune.graph._sizes import SizeFinder, Source
from autoprune.graph._unionfind import UnionFind
from autoprune.groups import Argument, CallFinder, IntArray, Refusal

BROADCAST = "a single channel is broadcast over many"
"""Why a channel that fits whatever it meets stays."""
OUTPUT = "they are channels of the network's output"
"""Why a group that ends in what the network returns stays whole (`autoprune.graph.Group.reason`)."""

Rule = Callable[["Propagation", Call], Any]
"""What a rule is: the labels of a call's output from those of its arguments."""


@dataclass(eq=False)
class Propagation:
    """What is known of all labels while the program is walked through.

    Attributes:
        tensors: Placeholders of the program and the parameters and buffers they stand for.
        sets: The united labels.
        layers: Convolution and linear calls so far.
        tables: Look-ups in tables so far.
        slots: First label and count of every (parameter, dimension) that holds channels.
        refusals: What was refused, for the user.
        frozen: Labels that must stay, and why.
        frozen_params: Parameters none of whose channels may go, and why.
        residual: Labels that crossed a sum of two layers' outputs.
        opaque: Labels that freeze what they meet, and why.
        products: Calls of operators that may multiply and add (``matmul``, attention, unknown ones), but for layers.
        values: Labels of the value of every node.
        sizes: Finds the attributes of modules that numbers in the program come from.
        calls: Finds the calls in the code that numbers in the program come from.
        links: Attributes that say how many channels there are, and the labels of those that they count.
        call_links: Arguments of calls that do.
        fixed: Arguments of calls that are known not to follow the channels by themselves: what they cut need not be equal.
        constants: Gives the value of a node that is a constant.
        computed: Layers whose weight is a ``ComputedWeight``.
        statistics: Means and the like over channels: the call, the dimension and the labels along it.
        ends: Tells whether what comes of a call is the network's output, with no layer between.
    """

    tensors: Mapping[Node, str] = field(default_factory=dict)
    sets: UnionFind = field(default_factory=UnionFind)
    layers: list[LayerCall] = field(default_factory=list)
    tables: list[TableCall] = field(default_factory=list)
    slots: dict[tuple[str, int], tuple[int, int]] = field(default_factory=dict)
    refusals: list[Refusal] = field(default_factory=list)
    frozen: list[tuple[IntArray, str]] = field(default_factory=list)
    frozen_params: dict[str, str] = field(default_factory=dict)
    residual: list[IntArray] = field(default_factory=list)
    opaque: dict[int, str] = field(default_factory=dict)
    products: dict[Node, ProductCall] = field(default_factory=dict)
    values: Mapping[Node, Any] = field(default_factory=dict)
    sizes: SizeFinder | None = None
    calls: CallFinder = field(default_factory=CallFinder)
    links: dict[Source, IntArray] = field(default_factory=dict)
    call_links: dict[Argument, CallLink] = field(default_factory=dict)
    fixed: frozenset[Argument] = frozenset()
    constants: Callable[[Node], Tensor | None] = lambda node: None
    computed: Mapping[Node, Any] = field(default_factory=dict)
    statistics: dict[Node, tuple[Call, int, IntArray]] = field(default_factory=dict)
    ends: Callable[[Node], bool] = lambda node: False

    def __post_init__(self) -> None:
        self.sets.add(1)  # the neutral label

    def slot(self, param: Param, dim: int) -> tuple[int, int]:
        """Return (first label, count) of the indices of a parameter along ``dim``."""
        key = (param.name, dim)
        if key not in self.slots:
            self.slots[key] = (self.sets.add(param.shape[dim]), param.shape[dim])
        return self.slots[key]

    def slot_labels(self, param: Param, dim: int) -> IntArray:
        """Return the labels of the indices of a parameter along ``dim``."""
        first, count = self.slot(param, dim)
        return np.arange(first, first + count, dtype=np.int64)

    def opaque_label(self, reason: str) -> int:
        """Return a new label that freezes whatever channel meets it, for ``reason``."""
        label = self.sets.add(1)
        self.opaque[label] = reason
        return label

    def is_opaque(self, labels: IntArray) -> npt_bool:
        """Return which labels are opaque, in the labels' shape."""
        if not self.opaque:
            return np.zeros(labels.shape, dtype=bool)
        return np.isin(labels, np.fromiter(self.opaque, dtype=np.int64))

    def reason_at(self, call: Call, text: str) -> str:
        """Return ``text`` with the operator, the module of torch's that it is in, and its source line."""
        where, kind = source_line(call.node), torch_module(call.node)
        if kind.lower() == call.op.rpartition(".")[2].replace("_", ""):
            kind = ""
        return f"{text} ({call.op}{' in nn.' + kind if kind else ''}{' at ' + where if where else ''})"

    def freeze(self, values: Any, reason: str) -> None:
        """Make every channel in a label tensor, array, ``Param`` or nested list of them unprunable."""
        if isinstance(values, (list, tuple)):
            for value in values:
                self.freeze(value, reason)
        elif isinstance(values, Param):
            self.frozen_params.setdefault(values.name, reason)
        elif isinstance(values, (Tensor, np.ndarray)):
            array = core(values).numpy() if isinstance(values, Tensor) else values
            array = np.unique(array)
            array = array[(array != NEUTRAL) & ~self.is_opaque(array)]
            if array.size:
                self.frozen.append((array, reason))

    def refuse(self, call: Call, values: Any, text: str) -> Any:
        """Freeze ``values`` because of a call, and return an opaque output for it."""
        reason = self.reason_at(call, text)
        self.freeze(values, reason)
        self.refusals.append(Refusal(call.node.name, reason))
        return self.opaque_output(call, reason)

    def refuse_mixed(self, call: Call, values: Any, text: str) -> Any:
        """Freeze channels that a call mixes or chooses from, as ``refuse``; at the network's end they are its output."""
        if not self.ends(call.node):
            return self.refuse(call, values, text)
        self.freeze(values, OUTPUT)
        return self.opaque_output(call, OUTPUT)

    def opaque_output(self, call: Call, reason: str) -> Any:
        """Return labels for the output of a call that freeze what they meet."""
        label = self.opaque_label(reason)
        value = call.node.meta.get("val")
        if isinstance(value, Tensor):
            return constant(label, concrete(value.shape))
        if isinstance(value, (list, tuple)):
            return [constant(label, concrete(v.shape)) if isinstance(v, Tensor) else v for v in value]
        return None

    def combine(self, left: IntArray, right: IntArray) -> IntArray:
        """Unite two label arrays of one shape element by element and return the labels that stand for both."""
        opaque_left, opaque_right = self.is_opaque(left), self.is_opaque(right)
        for a, opaque, b in ((left, opaque_left, right), (right, opaque_right, left)):
            for label in np.unique(a[opaque]):
                self.freeze(b[a == label], self.opaque[int(label)])
        neutral_right = right == NEUTRAL
        unreal_left, unreal_right = (left == NEUTRAL) | opaque_left, neutral_right | opaque_right
        real = ~(unreal_left | unreal_right)
        if real.any():
            self.sets.union(left[real], right[real])
        return self.sets.find(np.where(unreal_left & ~neutral_right, right, left))

    def merge(self, labels: IntArray, axis: int) -> IntArray:
        """Unite all labels along ``axis`` and return one for them, with the axis kept at size 1."""
        if labels.shape[axis] == 1:
            return self.sets.find(labels)
        real = np.where((labels == NEUTRAL) | self.is_opaque(labels), -1, labels).max(axis=axis, keepdims=True)
        pivot = np.where(real < 0, labels.max(axis=axis, keepdims=True), real)
        self.combine(np.broadcast_to(pivot, labels.shape), labels)
        return self.sets.find(pivot)

    def unify(self, labels: Tensor, dims: Sequence[int]) -> Tensor:
        """Unite the labels along ``dims`` (what differs there goes or stays together) and return the result."""
        array: IntArray = core(labels).numpy()
        for dim in dims:
            if array.shape[dim] > 1:
                array = self.merge(array, dim)
        return torch.from_numpy(np.ascontiguousarray(array)).expand(labels.shape)

    def channels(self, labels: Tensor, dim: int) -> IntArray:
        """Return one label per index along ``dim``, uniting those that differ elsewhere."""
        return self.merge(column(labels, dim).numpy(), 1)[:, 0]

    def unite_slot(self, labels: IntArray, param: Param, dim: int) -> IntArray:
        """Unite the indices of a parameter along ``dim`` with one label each and return the labels that stand for both."""
        return self.combine(labels, self.slot_labels(param, dim))

    def sources(self, call: Call, value: int) -> list[Source]:
        """Return the attributes of modules that the number ``value`` in a call may come from."""
        return [] if self.sizes is None else self.sizes.number(call.node, value)

    def source_list(self, call: Call, values: Sequence[int]) -> list[Source]:
        """Return the items of the list, an attribute of a module, that the numbers in a call come from; or nothing."""
        return [] if self.sizes is None else self.sizes.numbers(call.node, values)

    def view_sources(self, call: Call, shape: Sequence[int]) -> list[Source | None]:
        """Return for each dimension of a view the attribute of a module that its size comes from."""
        return [None] * len(shape) if self.sizes is None else self.sizes.dims(call.node, shape)

    def link(self, sources: Sequence[Source], labels: IntArray) -> IntArray:
        """Let attributes count the channels ``labels``; an attribute that is read twice ties what it counts each time."""
        for source in sources:
            known = self.links.get(source)
            labels = self.sets.find(labels) if known is None else self.combine(known, labels)
            self.links[source] = labels
        return labels

    def constant(self, node: Any) -> Tensor | None:
        """Return the value of a node that depends on nothing but constants and buffers of whole numbers; None for others."""
        return self.constants(node) if isinstance(node, Node) else None

    def link_call(self, argument: Argument, new: CallLink) -> None:
        """Let an argument of a call in the code count channels; a call that runs twice ties what it counts each time."""
        known = self.call_links.setdefault(argument, new)
        same = (known.kind, known.sign, known.labels.shape) == (new.kind, new.sign, new.labels.shape)
        if known is not new and same and np.array_equal(known.at, new.at):
            self.call_links[argument] = replace(known, labels=self.combine(known.labels, new.labels))
        elif known is not new:
            self.freeze([known.labels, new.labels], "a call in the code counts different channels each time it runs")

    def labels_of(self, call: Call, value: Any, other: Tensor | None = None) -> Tensor:
        """Return the label tensor of an operand of an element-wise operator.

        A parameter gets a label per index along the one dimension that has more than one, or along which the ``other``
        operand's channels lie; one that spans several is refused.
        """
        if isinstance(value, Tensor):
            return value
        if not isinstance(value, Param):
            return neutral(())
        wide = [dim for dim, size in enumerate(value.shape) if size > 1]
        if len(wide) > 1 and other is not None:
            offset = other.dim() - len(value.shape)
            wide = [dim for dim in wide if dim + offset in varying(other)]
        if not wide:
            return neutral(value.shape)
        if len(wide) == 1:
            return along(self.slot(value, wide[0])[0], value.shape, wide[0])
        reason = self.reason_at(
            call, f"the tensor '{value.name}' of shape {list(value.shape)} is used in a way that is not understood"
        )
        self.freeze(value, reason)
        return constant(self.opaque_label(reason), value.shape)

    def join(self, call: Call, names: Sequence[str], *, residual: bool = False) -> Tensor:
        """Unite the labels of an element-wise operator's operands, broadcast as usual, and return the output's."""
        shape = call.shape
        tensors = [call.args[name] for name in names if isinstance(call.args.get(name), Tensor)]
        largest = max(tensors, key=lambda t: len(varying(t)), default=None)
        operands = {name: self.labels_of(call, call.args.get(name), largest) for name in names}
        vary = {dim + len(shape) - t.dim() for t in operands.values() for dim in varying(t)}
        wide = [1 if dim not in vary else size for dim, size in enumerate(shape)]
        total: IntArray | None = None
        total_active = False
        for name, labels in operands.items():
            active = name in call.active
            if vary and not varying(labels):
                label = int(core(labels).reshape(-1)[0]) if labels.numel() else NEUTRAL
                offset = labels.dim() - len(shape)
                wide_here = any(dim + offset >= 0 and labels.size(dim + offset) > 1 for dim in vary)
                if label in self.opaque and wide_here:
                    self.freeze(list(operands.values()), self.opaque[label])
                elif label != NEUTRAL and label not in self.opaque and active and not wide_here:
                    self.freeze(labels, self.reason_at(call, BROADCAST))
                if label == NEUTRAL or label in self.opaque or not wide_here:
                    continue
                # Else the channels have been united to a single one.
            array: IntArray = (
                core(labels).expand(wide).numpy() if vary else core(labels).reshape(()).expand(wide).numpy()
            )
            if total is None:
                total, total_active = self.sets.find(array), active
                continue
            if residual and active and total_active:
                a, b = self.sets.find(array), total
                differ = (a != b) & (a != NEUTRAL) & (b != NEUTRAL) & ~self.is_opaque(a) & ~self.is_opaque(b)
                if differ.any():
                    self.residual.append(np.unique(a[differ]))
            total, total_active = self.combine(total, array), total_active or active
        if total is None:
            return neutral(shape)
        return compress(torch.from_numpy(np.array(total, order="C"))).expand(shape)


def table(rule: Rule, names: str) -> dict[str, Rule]:
    """Return one rule for several of torch's operators, named without "aten." and with spaces between."""
    return {f"aten.{name}": rule for name in words(names)}


npt_bool = np.ndarray[Any, np.dtype[np.bool_]]
