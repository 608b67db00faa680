"""What a network of several inputs is called with, told by its forward's parameters and the first items of its data."""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Mapping
from contextlib import suppress
from itertools import chain
from typing import Any

from torch import Tensor, nn
from torch.utils import _pytree as pytree
from torch.utils.data import Dataset, default_collate

from autoprune.data._check import LABEL_KEYS, Expected
from autoprune.data._nested import Nested, RunBatch
from autoprune.errors import AutopruneError

_ITEMS = 2
_Kind = inspect.Parameter


def examples_in(part: Any, model: nn.Module) -> tuple[list[Any], Any]:
    """Return batches of two that a network may be called with, out of the first items of data.

    Of a dict it is what the forward has parameters of these names for, or all but a label where the forward has one parameter; of
    a tuple as many of the first fields as the forward needs. Of a pair it may be the first field.

    Args:
        part: What the user passed.
        model: The network.

    Returns:
        The batches, nested as the network is called with them (see `autoprune.model_guard.as_inputs`): none where the items are
        nothing but a tensor with or without a label, or cannot be told, two of a list, which may hold items or batches; and the
        part, to be used from now on.
    """
    if isinstance(part, Mapping) or _is_columns(part):
        return _found([_first(part)], model), part
    some = part
    if isinstance(part, Iterable) and not isinstance(part, Dataset) and iter(part) is part:  # gone through only once
        first = next(part, None)
        some, part = [first], chain([first], part)
    values = []
    if isinstance(some, list | tuple):
        with suppress(TypeError, RuntimeError):  # they are no items, then
            values.append(default_collate(list(some[:_ITEMS])))
    with suppress(AutopruneError):  # what is wrong with it says whoever reads it
        found = Nested(some, name="calibration", expected=Expected(runs=True, batch=_ITEMS), labelled=None, most=_ITEMS)
        batch = found.first(_ITEMS)[0]
        values.append(batch.value if isinstance(batch, RunBatch) else batch)
    return _found([_first(value) for value in values], model), part


def _found(values: list[Any], model: nn.Module) -> list[Any]:
    return [inputs for value in values if (inputs := _inputs(value, model)) is not None]


def _first(tree: Any) -> Any:
    """Return the first two items of a batch of any nesting."""
    return pytree.tree_map_only(Tensor, lambda tensor: tensor[:_ITEMS] if tensor.dim() else tensor, tree)


def _is_columns(part: Any) -> bool:
    """Whether a part is a tuple of what all items have, and not a list of batches."""
    return isinstance(part, tuple) and all(isinstance(field, Tensor | Mapping) for field in part)


def _inputs(value: Any, model: nn.Module) -> Any:
    """Return what of a batch the network is called with; None where it is one tensor or cannot be told."""
    try:
        parameters = list(inspect.signature(model.forward).parameters.values())
    except (TypeError, ValueError):  # of compiled code
        return None
    placed = [p for p in parameters if p.kind in (_Kind.POSITIONAL_ONLY, _Kind.POSITIONAL_OR_KEYWORD)]
    needed = [p for p in placed if p.default is _Kind.empty]
    if isinstance(value, Mapping):
        named = {key: value[key] for p in parameters if (key := p.name) in value}
        if named and all(p.name in named for p in needed):
            return named if len(named) > 1 or not isinstance(next(iter(named.values())), Tensor) else None
        rest = {key: item for key, item in value.items() if key not in LABEL_KEYS}
        return rest if len(needed) <= 1 and rest else None
    if not isinstance(value, tuple | list) or not value:
        return None
    if len(needed) > 1 and len(value) >= len(needed) and isinstance(value[0], Tensor):
        return tuple(value[: len(needed)])
    if isinstance(value[0], Mapping | tuple | list):
        return _inputs(value[0], model)
    return None
