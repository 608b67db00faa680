"""How inputs are nested: what of an item or a batch the network gets, told by an example, and what of it is the target."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import fields as fields_of
from dataclasses import is_dataclass, replace
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.utils import _pytree as pytree

from autoprune.data._check import LABEL_KEYS, Place, fields, to_tensor
from autoprune.errors import UsageError
from autoprune.model_guard import ModelInputs, as_inputs


class Split(NamedTuple):
    """What of an item or a batch counts."""

    inputs: Any
    target: Any
    note: str | None = None


class _OtherFormError(Exception):
    """A value is nested differently from the example."""


class Form:
    """Finds inputs and target in items and batches.

    Of a pair the first field is the inputs if it is nested like the example; else the whole item, or as many of its first fields
    as the example has, with the target behind. In a dict the inputs are the example's keys, the target is under a usual one.

    Args:
        example: What the network is called with: a tensor, any nesting of tensors, or `ModelInputs`.
    """

    def __init__(self, example: Any) -> None:
        as_inputs(example)  # data classes in it are nestings from here on
        if isinstance(example, ModelInputs) and not example.kwargs:
            example = example.args[0] if len(example.args) == 1 else example.args
        elif isinstance(example, ModelInputs) and not example.args:
            example = example.kwargs
        self.example = example

    def split(self, item: Any, where: Place, *, labelled: bool | None) -> Split:
        """Return the inputs in an item or a batch, and its target, None where there is none.

        Args:
            item: The item.
            where: What it is.
            labelled: Whether there must be a target; None if it is not touched.

        Raises:
            UsageError: if there are no such inputs, or no target where there must be one.
        """
        if isinstance(self.example, Tensor) and isinstance(item, Mapping):
            found = fields(item, where, labelled=labelled)
            return Split(found.image, found.label, found.note)
        split = self._split(item, where, labelled)
        if labelled and split.target is None:
            raise UsageError(f"{where} is {kind(item)} without a target; it must be a pair (inputs, target).")
        return split._replace(target=None) if labelled is None else split

    def _split(self, item: Any, where: Place, labelled: bool | None) -> Split:
        sequence = isinstance(item, tuple | list)
        if sequence and len(item) > 1 and (inputs := self._picked(item[0])) is not None:
            note = "the first is taken as the inputs, the second as the target"
            return Split(inputs, item[1], f"has {len(item)} fields an item: {note}." if len(item) > 2 else None)
        if (inputs := self._picked(item)) is not None:
            target = None
            if isinstance(item, Mapping) and labelled is not None:
                own = self.example if isinstance(self.example, Mapping) else {}
                keys = [key for key in LABEL_KEYS if key in item and key not in own]
                target = item[keys[0]] if len(keys) == 1 else None
            return Split(inputs, target)
        count = len(self.example) if isinstance(self.example, tuple | list) else len(item) if sequence else 0
        if sequence and len(item) > count and (inputs := self._picked(type(self.example)(item[:count]))) is not None:
            return Split(inputs, item[count])
        if sequence and len(item) == 1 and (inputs := self._picked(item[0])) is not None:
            return Split(inputs, None)
        raise UsageError(
            f"{where} is {kind(item)}, in which the inputs are not found: the example input is {kind(self.example)}; give items "
            "nested like it, or pairs (inputs, target), or say with run=... how a batch is run."
        )

    def _picked(self, value: Any) -> Any:
        try:
            return _pick(value, self.example)
        except _OtherFormError:
            return None


def _pick(value: Any, like: Any) -> Any:
    """Return the same nesting as ``like`` out of a value; a dict may have more keys."""
    if isinstance(like, Tensor):
        found = to_tensor(value)
        if found is None:
            raise _OtherFormError
        return found
    if isinstance(like, Mapping):
        if not isinstance(value, Mapping) or any(key not in value for key in like):
            raise _OtherFormError
        return {key: _pick(value[key], like[key]) for key in like}
    if isinstance(like, tuple | list):
        if not isinstance(value, tuple | list) or len(value) != len(like):
            raise _OtherFormError
        each = [_pick(one, other) for one, other in zip(value, like, strict=True)]
        return type(like)(*each) if hasattr(like, "_fields") else type(like)(each)
    if is_dataclass(like) and not isinstance(like, type):
        if type(value) is not type(like):
            raise _OtherFormError
        changed = {item.name: _pick(getattr(value, item.name), getattr(like, item.name)) for item in fields_of(like)}
        return replace(value, **changed)
    return value


def stacked(trees: Sequence[Any], where: Place) -> Any:
    """Return items of one nesting as a batch: tensors stacked, of anything else the first.

    Raises:
        UsageError: if tensors differ in shape or type; names where they lie.
    """
    flat = [pytree.tree_flatten(tree) for tree in trees]
    paths = [pytree.keystr(path) for path, _ in pytree.tree_flatten_with_path(trees[0])[0]]
    columns = zip(*(leaves for leaves, _ in flat), strict=True)
    joined = []
    for path, column in zip(paths, columns, strict=True):
        if not isinstance(column[0], Tensor):
            joined.append(column[0])
            continue
        kinds = {(tuple(tensor.shape), tensor.dtype) for tensor in column}
        if len(kinds) > 1:
            seen = ", ".join(sorted(f"{shape} {str(dtype).removeprefix('torch.')}" for shape, dtype in kinds))
            raise UsageError(
                f"{where}{f', field {path},' if path else ''} has tensors of several shapes or types from item to item ({seen}); "
                "pad or resize them, or give a loader with a collate_fn."
            )
        joined.append(torch.stack(column))
    return pytree.tree_unflatten(joined, flat[0][1])


def kind(value: Any) -> str:
    """Return what something is and holds, in a few words."""
    if isinstance(value, Tensor):
        return f"a tensor of shape {tuple(value.shape)}"
    if isinstance(value, Mapping):
        return f"a dict with the keys {', '.join(map(str, list(value)[:8])) or 'none'}"
    if isinstance(value, tuple | list):
        inner = ", ".join(kind(item) for item in value[:4]) + (", .." if len(value) > 4 else "")
        return f"a {type(value).__name__} of {len(value)} ({inner})"
    name = type(value).__name__
    return f"{'an' if name[0].lower() in 'aeiou' else 'a'} {name}"
