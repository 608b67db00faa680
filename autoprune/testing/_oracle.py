"""An oracle for surgery that shares no code with the graph's proof: eager PyTorch, hooks on torch's own functions.

The pruned network must compute what the dense one computes when its layers do not read the removed channels and its channel
norms do not count them; it must cost what `torch.utils.flop_counter` and ``numel`` say.
"""

from __future__ import annotations

import dataclasses
import math
from collections import Counter
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode
from torch.utils import _pytree as pytree

from autoprune.cost import CostModel, counted_macs
from autoprune.graph import Group, IntArray, PruningGraph
from autoprune.model_guard import ModelInputs, as_inputs, unchanged
from autoprune.surgery import Kept, prune_model
from autoprune.testing._weights import LayerWeights, MaskedProducts


class SurgeryCheck(NamedTuple):
    """How a network's surgery compares with the oracle, over some random policies.

    Attributes:
        policies: How many policies were compared.
        distance: Largest norm of (pruned - masked output), relative to the masked output's; infinite where shapes differ.
        effect: Smallest norm of (masked - dense output), relative to the dense output's: at 0 nothing was compared.
        macs_wrong: Policies whose counted MACs are not those of the closed form.
        params_wrong: Policies whose number of parameters is not that of the closed form.
    """

    policies: int
    distance: float
    effect: float
    macs_wrong: int
    params_wrong: int


def randomised(model: nn.Module, *, seed: int = 0) -> nn.Module:
    """Give constant vectors and running statistics random values, in place, so that no branch is silent; in eval mode.

    Freshly made networks start residual branches with zeros or 1e-6, which would hide what pruning does there.
    """
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, tensor in [*model.named_parameters(), *model.named_buffers()]:
            if not tensor.is_floating_point() or tensor.numel() == 0:
                continue
            noise = torch.rand(tensor.shape, generator=generator).to(tensor)
            if name.endswith("running_mean"):
                tensor.copy_(noise - 0.5)
            elif name.endswith("running_var"):
                tensor.copy_(noise + 0.5)
            elif isinstance(tensor, nn.Parameter) and bool((tensor == tensor.flatten()[0]).all()):
                tensor.copy_(noise - 0.5 if name.endswith("bias") else noise + 0.5)
    return model.eval()


def random_kept(graph: PruningGraph, *, seed: int) -> dict[str, IntArray]:
    """Return a random policy: for every prunable group a count from 1 to its size, and that many random channels."""
    rng = np.random.default_rng(seed)
    return {
        group.name: np.sort(rng.permutation(group.size)[: rng.integers(1, group.size + 1)]).astype(np.int64)
        for group in prunable(graph)
    }


def prunable(graph: PruningGraph) -> tuple[Group, ...]:
    """Return the groups that may be pruned, inner and residual."""
    return tuple(group for group in graph.groups if group.reason is None)


@torch.no_grad()
def masked_outputs(model: nn.Module, graph: PruningGraph, kept: Kept, images: Any) -> list[Tensor]:
    """Return the tensors of the dense network's output when it ignores the channels that are not kept.

    Args:
        model: The network, in eval mode; not touched.
        graph: Its coupling graph.
        kept: Group name -> channels kept.
        images: A batch: a tensor (N, ...), a tuple, a dict; see `autoprune.model_guard.as_inputs`.
    """
    inputs = as_inputs(images, model)
    masked = prune_model(model, graph, {})  # a deep copy, also of models that `copy.deepcopy` refuses
    tensors = dict(masked.named_parameters(remove_duplicate=False))
    computed: dict[int, Callable[[Tensor], Tensor]] = {}
    small: list[Tensor] = []
    if graph.computed:
        with LayerWeights() as calls:
            inputs.call(prune_model(model, graph, kept))
        small = calls.seen
    for number, layer in enumerate(graph.layers):
        if layer.node in graph.computed and layer.reads_channels:
            reads = _stays(graph, kept, layer.in_group, layer.in_unit)
            writes = _stays(graph, kept, layer.out_group, layer.out_unit)
            standardised = graph.computed[layer.node].scale is None
            computed[number] = partial(
                _reading, reads=reads, writes=writes, own=small[number] if standardised else None
            )
        elif layer.reads_channels:  # a grouped convolution's outputs go with its inputs: whoever reads those is masked
            weight = tensors[layer.weight]
            reads = _stays(graph, kept, layer.in_group, layer.in_unit).to(weight)
            dim = 0 if layer.op == "conv_transpose" else 1
            reads = reads[: weight.shape[dim]]  # the same in every group
            weight.mul_(reads.view([-1 if d == dim else 1 for d in range(weight.dim())]))
    counted = {
        (statistic.op, statistic.number): (statistic.dim, _stays(graph, kept, statistic.group, statistic.unit))
        for statistic in graph.statistics
    }
    summed = {
        (product.op, product.number): (
            product.operand,
            product.dim,
            _stays(graph, kept, product.group, product.unit),
        )
        for product in graph.products
        if product.dim is not None
    }
    norms = _MaskedNorms(_scales(graph, kept, tensors))
    with norms, LayerWeights(computed), _Statistics(counted), MaskedProducts(summed):
        return leaves(inputs.call(masked))


def _reading(weight: Tensor, *, reads: Tensor, writes: Tensor, own: Tensor | None) -> Tensor:
    """Return a computed weight that reads only some channels.

    Args:
        weight: The dense one, shape (out, in / groups, ...).
        reads: Which input channels stay.
        writes: Which output channels stay.
        own: The pruned network's, where it is computed from what is left (standardised over fewer inputs).
    """
    reads = reads[: weight.shape[1]].to(weight.device)
    if own is None:
        return weight * reads.view(1, -1, *[1] * (weight.dim() - 2))
    columns, rows = reads.nonzero()[:, 0], writes.to(weight.device).nonzero()[:, 0]
    wide = torch.zeros_like(weight).index_select(0, rows).index_copy_(1, columns, own)
    return weight.index_copy(0, rows, wide)


def leaves(output: Any) -> list[Tensor]:
    """Return the tensors of any nested output, flat; a dataclass counts as the list of its fields."""
    found: list[Tensor] = []
    for leaf in pytree.tree_leaves(output):
        if isinstance(leaf, Tensor):
            found.append(leaf)
        elif dataclasses.is_dataclass(leaf) and not isinstance(leaf, type):
            found += leaves([getattr(leaf, entry.name) for entry in dataclasses.fields(leaf)])
    return found


def distance(left: list[Tensor], right: list[Tensor]) -> float:
    """Return the norm of the difference relative to that of ``right``; infinite where shapes differ or a value is not finite."""
    if [a.shape for a in left] != [b.shape for b in right]:
        return math.inf
    gap = math.sqrt(sum(float((a.double() - b.double()).square().sum()) for a, b in zip(left, right, strict=True)))
    size = math.sqrt(sum(float(b.double().square().sum()) for b in right))
    return gap / size if math.isfinite(gap) and math.isfinite(size) and size > 0 else math.inf


def check_surgery(
    model: nn.Module, graph: PruningGraph, images: Any, *, policies: int = 20, seed: int = 0
) -> SurgeryCheck:
    """Compare the pruned network with the oracle for random channel counts in all prunable groups at once.

    Args:
        model: The network, in eval mode; not touched.
        graph: Its coupling graph, proved.
        images: A batch, as for `masked_outputs`; double precision tells wrong from rounding most clearly.
        policies: How many.
        seed: Seed of the first; the next ones count up.
    """
    with unchanged(model):
        return _checked(model, graph, as_inputs(images, model), policies, seed)


def _checked(model: nn.Module, graph: PruningGraph, inputs: ModelInputs, policies: int, seed: int) -> SurgeryCheck:
    groups = prunable(graph)
    cost = CostModel(graph, groups)
    with unchanged(model), torch.no_grad():
        dense = leaves(inputs.call(model))
    worst, effect, macs_wrong, params_wrong = 0.0, math.inf, 0, 0
    for number in range(policies):
        kept = random_kept(graph, seed=seed + number)
        counts = [len(kept[group.name]) for group in groups]
        small = prune_model(model, graph, kept)
        expected = masked_outputs(model, graph, kept, inputs)
        with torch.no_grad():
            worst = max(worst, distance(leaves(inputs.call(small)), expected))
        effect = min(effect, distance(expected, dense))
        # One image where that can be: what no image reaches is counted once for all of them.
        macs_wrong += counted_macs(small, inputs[:1] if graph.dynamic_batch else inputs) != cost.macs(counts)
        params_wrong += sum(parameter.numel() for parameter in small.parameters()) != cost.params(counts)
    return SurgeryCheck(policies, worst, effect, macs_wrong, params_wrong)


def _stays(graph: PruningGraph, kept: Kept, groups: IntArray, units: IntArray) -> Tensor:
    """Return for each channel whether it stays, as a bool vector."""
    stays = torch.ones(len(groups), dtype=torch.bool)
    for index in np.unique(groups[groups >= 0]).tolist():
        if graph.groups[index].name in kept:
            own = groups == index
            stays[torch.from_numpy(own)] = torch.from_numpy(np.isin(units[own], kept[graph.groups[index].name]))
    return stays


def _scales(graph: PruningGraph, kept: Kept, tensors: Mapping[str, Tensor]) -> dict[int, Tensor]:
    """Return for the parameters that lose positions along one dimension (id) where they stay, in their own shape."""
    scales: dict[int, Tensor] = {}
    for group in graph.groups:
        for piece in group.slices if group.name in kept else ():
            if piece.tensor in tensors:
                tensor = tensors[piece.tensor]
                stays = scales.setdefault(id(tensor), torch.ones(tensor.shape, dtype=torch.bool))
                lost = torch.from_numpy(piece.position[~np.isin(piece.unit, kept[group.name])])
                stays.index_fill_(piece.dim, lost, False)
    return scales


class _MaskedNorms(TorchFunctionMode):
    """Layer, RMS and group norms that take mean and variance over the channels that stay only."""

    def __init__(self, scales: Mapping[int, Tensor]) -> None:
        super().__init__()
        self.scales = scales

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """Run ``func``, the norms among them on what stays."""
        kwargs = kwargs or {}
        if func in (F.layer_norm, F.rms_norm, F.group_norm, torch.layer_norm, torch.rms_norm, torch.group_norm):
            names = ["input", "size", "weight", "bias", "eps"]
            if func in (F.rms_norm, torch.rms_norm):
                names.remove("bias")
            given = dict(zip(names, args, strict=False)) | kwargs
            weight = given.get("weight")
            stays = self.scales.get(id(weight))
            if isinstance(weight, Tensor) and stays is not None:
                centre = func not in (F.rms_norm, torch.rms_norm)
                grouped = func in (F.group_norm, torch.group_norm)
                return _norm(given, weight, stays.to(weight.device), centre=centre, grouped=grouped)
        return func(*args, **kwargs)


class _Statistics(TorchFunctionMode):
    """Means and the like over channels, call by call, taken over those that stay."""

    _NAMES = ("mean", "var", "std", "sum", "var_mean", "std_mean", "amax", "amin", "max", "min")

    def __init__(self, counted: Mapping[tuple[str, int], tuple[int, Tensor]]) -> None:
        super().__init__()
        self.counted = counted
        self.calls: Counter[str] = Counter()
        self.ops = {getattr(torch, name): f"aten.{name}" for name in self._NAMES}
        methods = ("mean", "var", "std", "sum", "amax", "amin", "max", "min")
        self.ops |= {getattr(Tensor, name): f"aten.{name}" for name in methods}
        self.ops |= dict.fromkeys(
            (torch.norm, Tensor.norm, torch.linalg.vector_norm, F.normalize), "aten.linalg_vector_norm"
        )

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """Run ``func`` on what stays."""
        op = self.ops.get(func)
        if op is not None:
            dim, stays = self.counted.get((op, self.calls[op]), (0, None))
            self.calls[op] += 1
            if stays is not None:
                x = args[0].index_select(dim, stays.to(args[0].device).nonzero()[:, 0])
                if func is F.normalize:
                    return args[0] / torch.linalg.vector_norm(x, dim=dim, keepdim=True).clamp_min(1e-12)
                args = (x, *args[1:])
        return func(*args, **(kwargs or {}))


def _norm(given: Mapping[str, Any], weight: Tensor, stays: Tensor, *, centre: bool, grouped: bool) -> Tensor:
    x: Tensor = given["input"]
    if grouped:
        groups = int(given.get("num_groups", given.get("size")))
        values = x.reshape(x.shape[0], groups, x.shape[1] // groups, -1)  # (N, G, C/G, positions)
        counted = stays.view(1, groups, -1, 1).expand(1, groups, -1, values.shape[-1])
        dims: tuple[int, ...] = (2, 3)
    else:
        values, counted, dims = x, stays, tuple(range(-stays.dim(), 0))
    share = counted.to(x.dtype)
    number = share.sum(dims, keepdim=True).clamp_min(1)
    if centre:
        values = values - (values * share).sum(dims, keepdim=True) / number
    variance = (values.square() * share).sum(dims, keepdim=True) / number
    eps = given.get("eps", None if not centre else 1e-5)
    out: Tensor = (values / (variance + (torch.finfo(x.dtype).eps if eps is None else eps)).sqrt()).reshape(x.shape)
    wide = [1, -1, *[1] * (x.dim() - 2)] if grouped else list(weight.shape)
    out = out * weight.view(wide)
    bias: Tensor | None = given.get("bias")
    return out if bias is None else out + bias.view(wide)


__all__ = ["SurgeryCheck", "check_surgery", "masked_outputs", "randomised"]
