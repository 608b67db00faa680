"""What the coupling graph says about a model: its layers, and the sets of channels that must go together.

These are plain data. Everything below the search (cost, selection, reconstruction, surgery) reads them and nothing else of
the model's structure.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
from torch.export import ExportedProgram

from autoprune.groups._calls import Path, Site
from autoprune.groups._levels import allowed_counts

IntArray = npt.NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class ChannelSlice:
    """Where one group's channels lie along one dimension of one parameter or buffer.

    Attributes:
        tensor: Name of the parameter or buffer, as in ``named_parameters`` / ``named_buffers`` (the first name of tied ones).
        dim: The dimension that shrinks.
        position: Indices along ``dim``, shape (m,).
        unit: For each position the channel (0 .. group.size - 1) it belongs to, shape (m,). A channel may own several
            positions (a channel flattened into a Linear owns H*W columns), every channel of a group equally many.
    """

    tensor: str
    dim: int
    position: IntArray
    unit: IntArray


@dataclass(frozen=True, eq=False)
class Group:
    """A coupling group: ``size`` channels (units) that are interchangeable, each of which goes or stays as a whole.

    Attributes:
        name: Name of the first producing layer's weight, without the ``.weight`` ("layer1.0.conv1"). Unique.
        index: Its place in ``PruningGraph.groups``.
        size: Number of channels.
        kind: "residual" if the channels cross an addition that joins two layers' outputs, else "inner".
        slices: Every place where the channels occur in parameters and buffers.
        producers: Names of the layers and tables whose output channels these are, in execution order.
        consumers: Names of the layers whose input channels these are, in execution order.
        reason: Why the group cannot be pruned, a sentence for the user; None if it can.
    """

    name: str
    index: int
    size: int
    kind: Literal["inner", "residual"]
    slices: tuple[ChannelSlice, ...]
    producers: tuple[str, ...]
    consumers: tuple[str, ...]
    reason: str | None = None

    def levels(self, *, min_keep: float = 0.0, round_to: int = 1) -> tuple[int, ...]:
        """Return how many channels may stay, see `allowed_counts`."""
        return allowed_counts(self.size, min_keep=min_keep, round_to=round_to)


@dataclass(frozen=True, eq=False)
class Layer:
    """One call of a convolution or linear operator, in execution order.

    Attributes:
        name: The module's path ("layer1.0.conv1"), or the weight's name for a functional call; made unique per call with "#2".
        node: Name of its node in ``PruningGraph.program.graph``.
        op: The operator.
        weight: Name of the weight parameter.
        bias: Name of the bias parameter, or None.
        in_channels: Channels (features) going in.
        out_channels: Channels (features) coming out.
        kernel, stride, padding, dilation: One number per spatial dimension; empty for linear.
        groups: Number of convolution groups.
        balanced: Whether a grouped convolution loses the channels at the same place of every group, and never a group.
        in_shape, out_shape: Shapes of input and output of the traced call, batch dimension included.
        in_group, in_unit: For each input channel its group's index and channel in it, -1 where it is in none (the image's
            channels). Shape (in_channels,).
        out_group, out_unit: The same for each output channel. Shape (out_channels,).
        norm: Path of the BatchNorm that alone consumes the output, or None.
        macs: Multiply-adds of one image on the dense model.
    """

    name: str
    node: str
    op: Literal["conv", "conv_transpose", "linear"]
    weight: str
    bias: str | None
    in_channels: int
    out_channels: int
    kernel: tuple[int, ...]
    stride: tuple[int, ...]
    padding: tuple[int, ...]
    dilation: tuple[int, ...]
    groups: int
    in_shape: tuple[int, ...]
    out_shape: tuple[int, ...]
    in_group: IntArray
    in_unit: IntArray
    out_group: IntArray
    out_unit: IntArray
    norm: str | None
    macs: int
    balanced: bool = False

    @property
    def reads_channels(self) -> bool:
        """Whether the weight has input channels that go one by one (in a grouped convolution they go with its outputs)."""
        return self.groups == 1 or self.balanced


@dataclass(frozen=True, eq=False)
class Table:
    """One look-up in a table (``nn.Embedding``): it makes channels as a layer does, and multiplies nothing.

    Attributes:
        name: The module's path, or the weight's name for a functional call; made unique per call with "#2".
        node: Name of its node in ``PruningGraph.program.graph``.
        weight: Name of the table, shape (entries, channels).
        out_group, out_unit: For each channel its group's index and channel in it, -1 where it is in none. Shape (channels,).
        after: How many layers come before it.
    """

    name: str
    node: str
    weight: str
    out_group: IntArray
    out_unit: IntArray
    after: int


@dataclass(frozen=True, eq=False)
class ValueChannels:
    """Which channels a tensor that the forward computes consists of.

    Attributes:
        dim: The dimension along which they lie.
        group, unit: For each index of that dimension its group and the channel in it, -1 where it is in none.
    """

    dim: int
    group: IntArray
    unit: IntArray


@dataclass(frozen=True, eq=False)
class Extent:
    """A number that falls with the channels: the elements of a tensor, or those along one of its dimensions.

    Attributes:
        fixed: How many belong to no group.
        owned: Pairs (group's index, how many each channel of it owns).
    """

    fixed: int
    owned: tuple[tuple[int, int], ...] = ()


@dataclass(frozen=True, eq=False)
class Product:
    """A call that multiplies activations with one another (``matmul``, attention).

    Attributes:
        node: Name of its node in ``PruningGraph.program.graph``.
        op: Name of the operator ("aten.matmul").
        number: How many calls of this operator come before it.
        macs: Multiply-adds of one image on the dense model.
        extents: The dimensions along which channels lie; ``macs`` is a multiple of their sizes.
        operand, dim: Where it reads channels that it sums over: the number of the operand and its dimension; None if it does not.
        group, unit: For each index of that dimension its group and the channel in it, -1 where it is in none.
    """

    node: str
    op: str
    number: int
    macs: int
    extents: tuple[Extent, ...] = ()
    operand: int = 0
    dim: int | None = None
    group: IntArray = field(default_factory=lambda: np.zeros(0, dtype=np.int64))
    unit: IntArray = field(default_factory=lambda: np.zeros(0, dtype=np.int64))


@dataclass(frozen=True, eq=False)
class ModuleSize:
    """A number among a module's attributes that the forward cuts channels by: it follows the channels that are left.

    Attributes:
        module: Path of the module.
        attribute: Name of the attribute.
        item: Place of the number in a list or tuple; None if the attribute is the number.
        group, unit: For each channel that it counts the group and the channel in it, -1 where it is in none. Shape (value,).
    """

    module: str
    attribute: str
    item: int | None
    group: IntArray
    unit: IntArray


@dataclass(frozen=True, eq=False)
class CallArgument:
    """A number in the arguments of a call in a module's forward that follows the channels that are left, or several.

    Attributes:
        site: The call.
        path: Where the argument stands.
        kind: "count": how many of the channels are left; "pieces": how many of each piece; "picked": where the picked ones are
            among those that are left, in their order.
        group, unit: For each channel the group and the channel in it, -1 where it is in none. Shape (n,).
        at: Ends of the pieces, or numbers of the channels that are picked; empty for a count.
        sign: -1 if a count is from the end.
    """

    site: Site
    path: Path
    kind: Literal["count", "pieces", "picked"]
    group: IntArray
    unit: IntArray
    at: IntArray
    sign: int = 1


@dataclass(frozen=True, eq=False)
class Statistic:
    """A mean, a variance or the like over channels that is part of a norm written by hand.

    Attributes:
        node: Name of its node in ``PruningGraph.program.graph``.
        op: Name of the operator ("aten.mean").
        dim: The dimension of the channels.
        group, unit: For each channel its group and the channel in it, -1 where it is in none.
        number: How many calls of this operator come before it.
    """

    node: str
    op: str
    dim: int
    group: IntArray
    unit: IntArray
    number: int


@dataclass(frozen=True)
class FoldedTensor:
    """A computed tensor of a module (by spectral norm, by a mask) that the small network holds as an ordinary parameter.

    Attributes:
        module: Path of the module.
        tensor: Name of the tensor ("weight").
        kind: How it is computed, in words.
    """

    module: str
    tensor: str
    kind: str


@dataclass(frozen=True, eq=False)
class Refusal:
    """Something that cannot be pruned: where, and why in a sentence for the user."""

    where: str
    reason: str


@dataclass(frozen=True, eq=False)
class PruningGraph:
    """The coupling graph of one model.

    Attributes:
        program: The exported program (training IR, not decomposed) the graph was read from; its batch dimension is
            dynamic where the model allows it.
        layers: All convolution and linear calls, in execution order.
        groups: All coupling groups, prunable or not, in execution order of their first producer.
        refusals: Operators and tensors that made channels unprunable.
        dynamic_batch: Whether ``program`` accepts any batch size.
        proved: Whether every group without a reason has passed the proof.
        products: Calls that multiply but are no layers (attention, ``matmul``).
        assumption: What has to hold beyond the proof (the model was recorded, not exported), a sentence; None if nothing has to.
        sizes: Attributes of modules that count channels.
        calls: Arguments of calls that count channels and do not follow them by themselves.
        statistics: Means and the like over channels, taken over those that are left.
        computed: Layers (by node) whose weight the forward computes from ``weight``, and how (``ComputedWeight``).
        elements: For each tensor that a node of ``program.graph`` makes what its number of elements is a multiple of: the product
            of some extents. A value of several tensors has several; None where channels own differing numbers of elements.
        folded: Computed tensors that surgery turns into ordinary parameters: the graph is that of the model after it.
        channels: For each node of ``program.graph`` that makes a tensor its channels, where they lie along one dimension.
        tables: All look-ups in tables that are parameters, in execution order.
    """

    program: ExportedProgram
    layers: tuple[Layer, ...]
    groups: tuple[Group, ...]
    refusals: tuple[Refusal, ...] = ()
    dynamic_batch: bool = True
    proved: bool = field(default=False)
    products: tuple[Product, ...] = ()
    assumption: str | None = None
    sizes: tuple[ModuleSize, ...] = ()
    calls: tuple[CallArgument, ...] = ()
    statistics: tuple[Statistic, ...] = ()
    computed: Mapping[str, Any] = field(default_factory=dict)
    elements: Mapping[str, tuple[tuple[Extent, ...] | None, ...]] = field(default_factory=dict)
    folded: tuple[FoldedTensor, ...] = ()
    channels: Mapping[str, ValueChannels] = field(default_factory=dict)
    tables: tuple[Table, ...] = ()

    @property
    def places(self) -> dict[str, int]:
        """The names of all layers and tables, what makes channels, in execution order, and the place of each."""
        names = [layer.name for layer in self.layers]
        for table in reversed(self.tables):
            names.insert(table.after, table.name)
        return {name: place for place, name in enumerate(names)}

    @property
    def notes(self) -> tuple[str, ...]:
        """What a user should know of the graph as a whole, in sentences without a full stop."""
        found = [] if self.assumption is None else [self.assumption]
        kinds: dict[str, list[str]] = {}
        for tensor in self.folded:
            kinds.setdefault(tensor.kind, []).append(f"{tensor.module}.{tensor.tensor}".lstrip("."))
        for kind, names in kinds.items():
            few = ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
            found.append(
                f"The small network has ordinary weights where the model computes them ({kind}: {few}), with the values that "
                "they have in eval mode: what computes them does not fit fewer channels"
            )
        return tuple(found)

    def group(self, name: str) -> Group:
        """Return the group called ``name`` (KeyError if there is none)."""
        for group in self.groups:
            if group.name == name:
                return group
        raise KeyError(name)
