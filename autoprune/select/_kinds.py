"""The kinds of input that selections can name: one function each, of the dense network and one group."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor

from autoprune.errors import UsageError
from autoprune.groups import ChannelSlice, Group
from autoprune.registry import nearest
from autoprune.select._inputs import Activations, Consumer, DenseNetwork, SelectionInputs, input_kinds


@input_kinds.register("magnitude")
def magnitude(network: DenseNetwork, group: Group) -> Tensor:
    """Return the summed absolute weight of each channel over all its producers, float64 (size,)."""
    total = torch.zeros(group.size, dtype=torch.float64)
    for part in produced(network, group):
        weight = network.tensors[part.tensor].detach().double().cpu()
        norms = weight.abs().sum(dim=[dim for dim in range(weight.dim()) if dim != part.dim])
        total.index_add_(0, torch.from_numpy(part.unit), norms[torch.from_numpy(part.position)])
    return total.to(network.images.device)


@input_kinds.register("filters")
def filters(network: DenseNetwork, group: Group) -> tuple[Tensor, ...]:
    """Return for each producer its filter of every channel, float64 (size, weights of a filter).

    A channel that a producer does not make has zeros there; one that has several filters in it has them in one row.
    """
    found = []
    for part in produced(network, group):
        weight = network.tensors[part.tensor].detach().double().movedim(part.dim, 0).flatten(1)
        unit = torch.from_numpy(part.unit)
        order = torch.argsort(unit, stable=True)
        unit, rows = unit[order], weight[torch.from_numpy(part.position)[order].to(weight.device)]
        each = torch.bincount(unit, minlength=group.size)
        place = torch.arange(len(unit)) - (torch.cumsum(each, 0) - each)[unit]  # which filter of its channel
        whole = rows.new_zeros(group.size, int(each.max()), rows.shape[1])
        whole[unit.to(rows.device), place.to(rows.device)] = rows
        found.append(whole.flatten(1))
    return tuple(found)


@dataclass(frozen=True, eq=False)
class NormParameters:
    """One BatchNorm over the group's channels: γ, β and running statistics, each float64 (size,), 0 where it has none of them."""

    scale: Tensor
    shift: Tensor
    mean: Tensor
    variance: Tensor


@input_kinds.register("norms")
def norms(network: DenseNetwork, group: Group) -> tuple[NormParameters, ...]:
    """Return the parameters of every BatchNorm over the group's channels; none where there is none."""
    found = []
    for part in group.slices:
        path, _, name = part.tensor.rpartition(".")
        if name != "running_mean":
            continue
        tensors = []
        for own, default in (("weight", 1.0), ("bias", 0.0), ("running_mean", 0.0), ("running_var", 1.0)):
            values = network.tensors.get(f"{path}.{own}" if path else own)
            values = torch.full_like(network.tensors[part.tensor], default) if values is None else values.detach()
            values = values.double()[torch.from_numpy(part.position).to(values.device)]
            unit = torch.from_numpy(part.unit).to(values.device)
            sums = values.new_zeros(group.size).index_add_(0, unit, values)
            tensors.append(sums / torch.bincount(unit, minlength=group.size).clamp(min=1))
        found.append(NormParameters(*tensors))
    return tuple(found)


@input_kinds.register("moments")
def moments(network: DenseNetwork, group: Group) -> tuple[Consumer, ...]:
    """Return the group's consumers with second moments of their inputs; none where no layer reads the channels linearly."""
    return network.consumers(group)


@input_kinds.register("activations")
def activations(network: DenseNetwork, group: Group) -> tuple[Activations, ...]:
    """Return the consumers' inputs themselves, at sampled positions of the calibration images; a pass for each group."""
    return network.activations(group)


@input_kinds.register("gradients")
def gradients(network: DenseNetwork, group: Group) -> Tensor:
    """Return what a factor on each channel does to each image's loss, shape (N, size), as Molchanov et al. 2019, section 3.3.

    The loss is the cross-entropy against a class drawn from the dense network's own softmax, so that the mean of squares is
    the diagonal of the Fisher information: no label is read. Answers that are no class scores are taken as the means of normal
    distributions.
    """
    return network.gradients(group)


def produced(network: DenseNetwork, group: Group) -> list[ChannelSlice]:
    """Return where the group's channels are output channels of its producers' weights."""
    made = {
        (layer.weight, 1 if layer.op == "conv_transpose" else 0)
        for layer in network.graph.layers
        if layer.name in group.producers
    }
    made |= {(table.weight, 1) for table in network.graph.tables if table.name in group.producers}
    return [part for part in group.slices if (part.tensor, part.dim) in made]


def check_needs(needs: Iterable[str], *, selection: str) -> None:
    """Refuse what cannot be collected.

    Args:
        needs: Kinds of input.
        selection: The selection's name, for the message.

    Raises:
        UsageError: for a kind that nobody registered; names the nearest.
    """
    known = input_kinds.names()
    for kind in sorted(set(needs) - set(known)):
        raise UsageError(
            f"The selection '{selection}' needs the input '{kind}', which is not known.{nearest(kind, known)} "
            f"Known: {', '.join(known)}; further ones are registered in `autoprune.select.input_kinds`."
        )


def collect(network: DenseNetwork, group: Group, needs: Iterable[str]) -> SelectionInputs:
    """Collect what is needed of one group, and nothing else.

    Args:
        network: The network before pruning.
        group: The group.
        needs: Kinds of input.
    """
    return SelectionInputs(group.size, {kind: input_kinds.get(kind)(network, group) for kind in sorted(set(needs))})
