"""The numbers that layers keep beside their tensors (``in_channels``, ``num_features``), read off the new shapes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from torch import Tensor, nn
from torch.nn.modules.batchnorm import _NormBase
from torch.nn.modules.conv import _ConvNd, _ConvTransposeNd

from autoprune.groups import ModuleSize

SIZES = frozenset(
    {
        *("normalized_shape", "shape", "size", "num_features", "num_channels", "num_parameters", "channels", "dim"),
        *("in_channels", "out_channels", "in_features", "out_features", "hidden_size"),
    }
)
"""Attributes of modules that are not torch's which may say the size of the module's own tensors."""


class Change(NamedTuple):
    """One of a module's own tensors that was narrowed: its name and its shape before and after."""

    name: str
    before: tuple[int, ...]
    after: tuple[int, ...]


def update_attributes(module: nn.Module, kept: Tensor | None, changes: Sequence[Change] = ()) -> None:
    """Bring the attributes of a module in line with the shapes of its tensors.

    Of modules that are not torch's (a layer norm or a layer scale of one's own), attributes with usual names are updated if they
    say the old size of one of the module's tensors; whether that is all of it is what the proof finds out.

    Args:
        module: A module whose tensors have been narrowed.
        kept: Indices kept of its weight's first dimension, None if all are.
        changes: Its tensors that have been narrowed.
    """
    if isinstance(module, _ConvNd):
        _update_conv(module, kept)
    elif isinstance(module, nn.Linear):
        module.out_features, module.in_features = module.weight.shape
    elif isinstance(module, nn.Bilinear):
        module.out_features, module.in1_features, module.in2_features = module.weight.shape
    elif isinstance(module, _NormBase):  # BatchNorm*, SyncBatchNorm, InstanceNorm*
        known = [t for t in (module.weight, module.running_mean) if t is not None]
        if known:
            module.num_features = known[0].shape[0]
    elif isinstance(module, nn.GroupNorm):
        if module.weight is not None:
            _update_group_norm(module, kept)
    elif isinstance(module, (nn.LayerNorm, nn.RMSNorm)):
        if module.weight is not None:
            module.normalized_shape = tuple(module.weight.shape)
    elif isinstance(module, nn.PReLU):
        module.num_parameters = module.weight.numel()
    elif isinstance(module, nn.RNNBase):
        module.input_size = module.get_parameter("weight_ih_l0").shape[1]
        module._init_flat_weights()  # it keeps its weights in a list, too
    elif isinstance(module, nn.RNNCellBase):
        module.input_size = module.weight_ih.shape[1]
    elif isinstance(module, nn.Embedding):
        module.num_embeddings, module.embedding_dim = module.weight.shape
    else:
        _update_sizes(module, changes)


def update_sizes(model: nn.Module, sizes: Sequence[tuple[ModuleSize, int]]) -> None:
    """Let the attributes that a forward cuts channels by say how many are left.

    Args:
        model: The pruned model.
        sizes: The attributes and their new numbers.
    """
    for size, count in sizes:
        own = vars(model.get_submodule(size.module))
        if size.item is None:
            own[size.attribute] = count
        else:
            numbers = list(own[size.attribute])
            numbers[size.item] = count
            own[size.attribute] = type(own[size.attribute])(numbers)


def _update_conv(module: _ConvNd, kept: Tensor | None) -> None:
    """Where whole convolution groups went, fewer are left; where each lost channels, their number stays."""
    first, second = module.weight.shape[:2]
    transposed = isinstance(module, _ConvTransposeNd)
    before = module.in_channels if transposed else module.out_channels
    if module.groups > 1 and kept is not None:
        module.groups = _groups_left(kept, before // module.groups, module.groups)
    second *= module.groups
    module.in_channels, module.out_channels = (first, second) if transposed else (second, first)


def _groups_left(kept: Tensor, per_group: int, groups: int) -> int:
    """Return how many of ``groups`` groups are left: fewer only if every one has lost all its channels or none."""
    counts = (kept // per_group).bincount(minlength=groups)
    whole = bool(((counts == 0) | (counts == per_group)).all())
    return int((counts > 0).sum()) if whole else groups


def _update_sizes(module: nn.Module, changes: Sequence[Change]) -> None:
    """Replace the sizes that an unknown module's attributes say, where they can mean one thing only."""
    sizes: dict[int, set[int]] = {}
    for change in changes:
        for before, after in zip(change.before, change.after, strict=True):
            sizes.setdefault(before, set()).add(after)
    new = {before: after.pop() for before, after in sizes.items() if len(after) == 1}
    for name in SIZES & module.__dict__.keys():
        value = module.__dict__[name]
        if type(value) is int:
            module.__dict__[name] = new.get(value, value)
        elif isinstance(value, (tuple, list)) and type(value) in (tuple, list) and all(type(v) is int for v in value):
            module.__dict__[name] = type(value)(new.get(v, v) for v in value)


def _update_group_norm(module: nn.GroupNorm, kept: Tensor | None) -> None:
    """Where whole normalisation groups went, fewer are left; where each lost channels, their number stays."""
    if kept is not None:
        module.num_groups = _groups_left(kept, module.num_channels // module.num_groups, module.num_groups)
    module.num_channels = module.weight.shape[0]
