"""An oracle for any pruning tool, which looks at nothing but the dense network and the pruned one.

Which channels a layer still reads is told from its weights: what is left of them is a part of the dense ones, no two values of
which are the same. The dense network is then run with every layer reading only those channels, and with every norm over channels
counting only those that it has left. A pruned network is right if its output is the same.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils import _pytree as pytree

from autoprune.graph import IntArray, PruningGraph
from autoprune.testing._weights import MaskedProducts

_LAYERS = {torch.conv1d, torch.conv2d, torch.conv3d, F.linear}
_TRANSPOSED = {torch.conv_transpose1d, torch.conv_transpose2d, torch.conv_transpose3d}
_NORMS = {
    torch.layer_norm: ["input", "normalized_shape", "weight", "bias", "eps"],
    torch.rms_norm: ["input", "normalized_shape", "weight", "eps"],
    torch.group_norm: ["input", "num_groups", "weight", "bias", "eps"],
}
_REDUCTIONS = ("mean", "var", "std", "sum", "var_mean", "std_mean")
_CHECKS = ("has_torch_function", "has_torch_function_unary", "has_torch_function_variadic")


class UnlikeError(Exception):
    """The pruned network's weights are no part of the dense one's."""


def leaves(output: Any) -> list[Tensor]:
    """Return the tensors of any output, flat; a dataclass counts as the list of its fields."""
    if hasattr(output, "__dataclass_fields__"):
        output = [getattr(output, name) for name in output.__dataclass_fields__]
    return [leaf for leaf in pytree.tree_leaves(output) if isinstance(leaf, Tensor)]


@torch.no_grad()
def distinct(model: nn.Module, *, seed: int = 0) -> nn.Module:
    """Change all weights a little, in place, so that no two values of one are the same."""
    generator = torch.Generator().manual_seed(seed)
    for parameter in model.parameters():
        if parameter.is_floating_point():
            parameter.mul_(1 + 1e-3 * torch.rand(parameter.shape, generator=generator, dtype=torch.float64))
    return model


class _Watch(TorchFunctionMode):
    """Sees the weights of all layers and of all norms over channels, call by call.

    Args:
        path: Names of the modules that are running, the innermost last.
    """

    def __init__(self, path: Sequence[str] = ()) -> None:
        super().__init__()
        self.path = path
        self.owners: list[str] = []
        self.layers: list[Tensor] = []
        self.transposed: list[bool] = []
        self.norms: list[Tensor | None] = []

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = dict(kwargs or {})
        if func in _LAYERS or func in _TRANSPOSED:
            x = kwargs.pop("input") if "input" in kwargs else args[0]
            weight = kwargs.pop("weight") if "weight" in kwargs else args[1]
            self.layers.append(weight)
            self.owners.append(self.path[-1] if self.path else "")
            self.transposed.append(func in _TRANSPOSED)
            return func(x, self.replaced(weight), *args[2:], **kwargs)
        if func in _NORMS:
            given = dict(zip(_NORMS[func], args, strict=False)) | kwargs
            self.norms.append(given.get("weight"))
            return self.norm(func, given, args, kwargs)
        return self.other(func, args, kwargs)

    def replaced(self, weight: Tensor) -> Tensor:
        return weight

    def norm(
        self, func: Callable[..., Any], given: dict[str, Any], args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Any:
        return func(*args, **kwargs)

    def other(self, func: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        return func(*args, **kwargs)


class _Masked(_Watch):
    """Runs the dense network as if only some channels were there.

    Args:
        weights: For each layer's call what it reads the channels that are left with.
        stays: For each norm's call where its scale stays.
        counted: (operator, number of the call) -> dimension and channels that a mean or the like is taken over.
    """

    def __init__(
        self,
        weights: Sequence[Tensor],
        stays: Sequence[Tensor | None],
        counted: dict[tuple[str, int], tuple[int, Tensor]],
    ) -> None:
        super().__init__()
        self.weights = weights
        self.stays = stays
        self.counted = counted
        self.calls: Counter[str] = Counter()
        self.ops = {getattr(torch, name): f"aten.{name}" for name in _REDUCTIONS}
        self.ops |= {getattr(Tensor, name): f"aten.{name}" for name in _REDUCTIONS[:4]}
        self.ops |= dict.fromkeys((torch.norm, Tensor.norm, torch.linalg.vector_norm), "aten.linalg_vector_norm")

    def replaced(self, weight: Tensor) -> Tensor:
        return self.weights[len(self.layers) - 1]

    def norm(
        self, func: Callable[..., Any], given: dict[str, Any], args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Any:
        stays = self.stays[len(self.norms) - 1]
        if stays is None or bool(stays.all()):
            return func(*args, **kwargs)
        return _norm(given, stays, centre=func is not torch.rms_norm)

    def other(self, func: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        op = self.ops.get(func)
        if op is not None:
            dim, index = self.counted.get((op, self.calls[op]), (0, None))
            self.calls[op] += 1
            if index is not None:
                args = (args[0].index_select(dim, index), *args[1:])
        return func(*args, **kwargs)


def _norm(given: dict[str, Any], stays: Tensor, *, centre: bool) -> Tensor:
    """Layer, RMS or group norm whose mean and variance are those of the channels that stay."""
    x: Tensor = given["input"]
    weight, bias = given["weight"], given.get("bias")
    share = stays.to(x.dtype)
    values = x
    dims = tuple(range(-stays.dim(), 0))
    if "num_groups" in given:
        groups = given["num_groups"]
        values = x.reshape(x.shape[0], groups, x.shape[1] // groups, -1)
        share = share.view(1, groups, -1, 1).expand(1, groups, -1, values.shape[-1])
        dims = (2, 3)
        weight, bias = (None if v is None else v.view(1, -1, *[1] * (x.dim() - 2)) for v in (weight, bias))
    number = share.sum(dims, keepdim=True).clamp_min(1)
    if centre:
        values = values - (values * share).sum(dims, keepdim=True) / number
    eps = given.get("eps")
    eps = (1e-5 if centre else torch.finfo(x.dtype).eps) if eps is None else eps
    out = (values / ((values.square() * share).sum(dims, keepdim=True) / number + eps).sqrt()).reshape(x.shape) * weight
    return out if bias is None else out + bias


def _places(dense: Tensor, small: Tensor) -> tuple[Tensor, Tensor] | None:
    """Return the rows and columns (first two dimensions) of ``dense`` that ``small`` is made of; None if it is not."""
    if dense.dim() != small.dim() or dense.shape[2:] != small.shape[2:]:
        return None
    if dense.shape == small.shape:
        rows, columns = torch.arange(dense.shape[0]), torch.arange(dense.shape[1])
    else:
        flat, order = dense.reshape(-1).sort()
        size = dense[0, 0].numel()
        first = small.flatten(2)[:, :, 0] if small.dim() > 2 else small
        rows = order[_nearest(flat, first[:, 0])] // (dense.shape[1] * size)
        columns = order[_nearest(flat, first[0])] // size % dense.shape[1]
    return (rows, columns) if torch.allclose(dense[rows][:, columns], small, rtol=1e-7, atol=1e-12) else None


def _nearest(values: Tensor, wanted: Tensor) -> Tensor:
    right = torch.searchsorted(values, wanted.contiguous()).clamp(1, len(values) - 1)
    left = right - 1
    return torch.where((values[left] - wanted).abs() < (values[right] - wanted).abs(), left, right)


def _reading(
    dense: Tensor, small: Tensor, transposed: bool, sources: tuple[Tensor | None, Tensor | None]
) -> tuple[Tensor, Tensor]:
    """Return a weight of the dense size that reads what the small one reads, and the output channels that are left."""
    found = _places(dense, small)
    if found is not None:
        rows, columns = found
        dim, kept = (0, rows) if transposed else (1, columns)
        mask = torch.zeros(dense.shape[dim], dtype=dense.dtype).index_fill_(0, kept, 1)
        return dense * mask.view([-1 if d == dim else 1 for d in range(dense.dim())]), columns if transposed else rows
    before, after = sources  # the weight is computed from the inputs that are left
    found = None if before is None or after is None else _places(before, after)
    if found is None:
        raise UnlikeError(f"a weight of shape {tuple(small.shape)} is no part of the dense one, {tuple(dense.shape)}")
    rows, columns = found
    wide = torch.zeros(len(rows), *dense.shape[1:], dtype=dense.dtype).index_copy_(1, columns, small)
    return dense.index_copy(0, rows, wide), rows


@contextmanager
def _running(model: nn.Module) -> Iterator[list[str]]:
    """Yield a list that names the modules that are running, the innermost last."""
    path: list[str] = []
    hooks = []
    for name, module in model.named_modules():
        if isinstance(module, torch.jit.ScriptModule):  # takes no hooks
            continue
        hooks.append(module.register_forward_pre_hook(lambda *_, name=name: path.append(name)))
        hooks.append(module.register_forward_hook(lambda *_: [path.pop(), None][1]))
    try:
        yield path
    finally:
        for hook in hooks:
            hook.remove()


@contextmanager
def _all_calls_seen() -> Iterator[None]:
    """Let functions that are made of others show the calls inside them."""
    before = {name: getattr(F, name) for name in _CHECKS}
    fast = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    for name in _CHECKS:
        setattr(F, name, lambda *values: False)
    try:
        yield
    finally:
        torch.backends.mha.set_fastpath_enabled(fast)
        for name, function in before.items():
            setattr(F, name, function)


def _left(graph: PruningGraph, rows: Sequence[Tensor]) -> Callable[[IntArray, IntArray], list[bool]]:
    """Return what tells which channels, given as groups and units, are among the layers' output channels that are left."""
    left = {
        (int(layer.out_group[row]), int(layer.out_unit[row]))
        for layer, own in zip(graph.layers, rows, strict=True)
        for row in own.tolist()
    }
    return lambda group, unit: [
        channel[0] < 0 or channel in left for channel in zip(group.tolist(), unit.tolist(), strict=True)
    ]


def _counted(graph: PruningGraph | None, rows: Sequence[Tensor]) -> dict[tuple[str, int], tuple[int, Tensor]]:
    """Return what the means over channels of norms written by hand are taken over."""
    if graph is None or not graph.statistics:
        return {}
    stays = _left(graph, rows)
    return {
        (found.op, found.number): (found.dim, torch.tensor(stays(found.group, found.unit)).nonzero()[:, 0])
        for found in graph.statistics
    }


def _summed(graph: PruningGraph | None, rows: Sequence[Tensor]) -> dict[tuple[str, int], tuple[int, int, Tensor]]:
    """Return the channels that products sum over."""
    if graph is None or all(product.dim is None for product in graph.products):
        return {}
    stays = _left(graph, rows)
    return {
        (found.op, found.number): (found.operand, found.dim, torch.tensor(stays(found.group, found.unit)))
        for found in graph.products
        if found.dim is not None
    }


@torch.no_grad()
def distance(dense: nn.Module, small: nn.Module, images: Tensor, graph: PruningGraph | None) -> float:
    """Return the distance of the pruned network's output from the masked dense one's, relative to that one's norm.

    Args:
        dense: The network, in eval mode and double precision, with ``distinct`` weights.
        small: The pruned one.
        images: Input, shape (N, C, H, W).
        graph: Tells which means over channels are a norm's; None where there is none.

    Raises:
        UnlikeError: if the pruned network's weights are no part of the dense one's.
    """
    with _all_calls_seen():
        with _running(dense) as path, _Watch(path) as whole:
            dense(images)
        with _Watch() as part:
            found = leaves(small(images))
        if len(whole.layers) != len(part.layers) or len(whole.norms) != len(part.norms):
            raise UnlikeError("the pruned network does not call what the dense one calls")
        before, after = (dict(network.named_parameters(remove_duplicate=False)) for network in (dense, small))
        sources = [(before.get(f"{name}.weight"), after.get(f"{name}.weight")) for name in whole.owners]
        read = [_reading(*call) for call in zip(whole.layers, part.layers, whole.transposed, sources, strict=True)]
        stays = [
            None if one is None or other is None else torch.isin(one, other)
            for one, other in zip(whole.norms, part.norms, strict=True)
        ]
        rows = [own for _, own in read]
        masked = _Masked([weight for weight, _ in read], stays, _counted(graph, rows))
        with masked, MaskedProducts(_summed(graph, rows)):
            expected = leaves(dense(images))
    if [a.shape for a in found] != [b.shape for b in expected]:
        return math.inf
    gap = math.sqrt(sum(float((a - b).square().sum()) for a, b in zip(found, expected, strict=True)))
    size = math.sqrt(sum(float(b.square().sum()) for b in expected))
    return gap / size if math.isfinite(gap) and math.isfinite(size) and size > 0 else math.inf
