"""What a network gives, as a list of tensors that can be compared image by image."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, fields, is_dataclass
from typing import Any

import torch
from torch import Tensor
from torch.utils import _pytree as pytree

from autoprune.errors import UsageError


@dataclass(frozen=True, eq=False)
class Outputs:
    """The tensors of an output of any nesting that hold real numbers for each image, in order.

    Attributes:
        tensors: Floating-point tensors, shapes (N, ...).
        form: What the output is nested like, and the type and dimensions of each tensor in it: equal for outputs of one kind.
        left_out: Why other tensors are no part of it, in words.
        count: Number of images.
    """

    tensors: tuple[Tensor, ...]
    form: tuple[Any, ...]
    left_out: tuple[str, ...] = ()
    count: int = 0

    @property
    def scores_classes(self) -> bool:
        """Whether each tensor is taken as class scores: shape (N, classes), at least two."""
        return bool(self.tensors) and all(scores_classes(tensor) for tensor in self.tensors)

    @property
    def text(self) -> str:
        """The shapes, for messages."""
        return ", ".join(str(tuple(tensor.shape)) for tensor in self.tensors) or "no tensor"


def scores_classes(tensor: Tensor) -> bool:
    """Return whether a tensor is taken as class scores, shape (N, classes)."""
    return tensor.dim() == 2 and tensor.shape[1] > 1


def outputs_of(answer: Any, count: int | None, lengths: Collection[int] | None = None) -> Outputs:
    """Return what of a network's output can be compared image by image.

    Args:
        answer: What the network gave: a tensor, or any nesting of them in tuples, lists, dicts and data classes.
        count: Number of images in the batch; None for the length of the first tensor of real numbers.
        lengths: Where ``count`` is None, how many images there may be. What has another length, like the boxes that a detector
            keeps, is compared as a whole: the batch counts as one image.
    """
    if count is None and lengths is not None:
        first = next((leaf for leaf in pytree.tree_leaves(_plain(answer)) if _is_real(leaf)), None)
        if first is not None and (not first.dim() or len(first) not in lengths):
            answer, count = pytree.tree_map(lambda leaf: leaf[None] if _is_real(leaf) else leaf, _plain(answer)), 1
    if (
        isinstance(answer, Tensor)
        and answer.is_floating_point()
        and answer.dim()
        and len(answer) == (count or len(answer))
    ):
        return Outputs((answer,), ("*", answer.dtype, answer.dim()), count=len(answer))
    leaves, structure = pytree.tree_flatten(_plain(answer))
    if count is None:
        real = (leaf for leaf in leaves if isinstance(leaf, Tensor) and leaf.is_floating_point() and leaf.dim())
        count = next((len(leaf) for leaf in real), 0)
    kept: list[Tensor] = []
    form: list[Any] = [structure]
    left_out: dict[str, None] = {}
    for leaf in leaves:
        form.append((leaf.dtype, leaf.dim()) if isinstance(leaf, Tensor) else type(leaf).__name__)
        if not isinstance(leaf, Tensor):
            continue
        if leaf.is_complex():
            leaf = torch.view_as_real(leaf)
        if not leaf.is_floating_point():
            left_out[f"a tensor of {str(leaf.dtype).removeprefix('torch.')}, shape {tuple(leaf.shape)}"] = None
        elif not leaf.dim() or len(leaf) != count:
            left_out[f"a tensor of shape {tuple(leaf.shape)} for {count} images"] = None
        elif leaf.numel():
            kept.append(leaf)
    return Outputs(tuple(kept), tuple(form), tuple(left_out), count)


def _is_real(leaf: Any) -> bool:
    return isinstance(leaf, Tensor) and leaf.is_floating_point()


def _plain(value: Any) -> Any:
    """Return the same nesting with data classes as dicts, which torch does not look into."""
    if is_dataclass(value) and not isinstance(value, type):
        return {item.name: _plain(getattr(value, item.name)) for item in fields(value)}
    if type(value) in (tuple, list):
        return type(value)(_plain(item) for item in value)
    if type(value) is dict:
        return {key: _plain(item) for key, item in value.items()}
    return value


def check_comparable(found: Outputs, what: str) -> None:
    """Refuse outputs of which nothing can be compared.

    Raises:
        UsageError: saying what there is.
    """
    if not found.tensors:
        seen = f" (only {', '.join(found.left_out)})" if found.left_out else ""
        raise UsageError(
            f"{what} gives no tensor of real numbers whose first dimension is the batch{seen}, so that nothing tells a pruned "
            "network from it; say with run=... what is to be compared (--run module:function), or evaluate with a function."
        )
