"""What a network is called with as JSON, shapes and types only, and back: so that a file leads to the same trace."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from autoprune.errors import UsageError
from autoprune.model_guard._inputs import ModelInputs

MOST_ELEMENTS = 2**30
_TYPES = {
    str(kind).removeprefix("torch."): kind
    for kind in (torch.float64, torch.float32, torch.float16, torch.bfloat16, torch.int64, torch.int32, torch.int16)
} | {"int8": torch.int8, "uint8": torch.uint8, "bool": torch.bool}
_PLAIN = (bool, int, float, str, type(None))


def described(inputs: ModelInputs) -> dict[str, Any] | None:
    """Return the nesting of inputs, with each tensor's shape and type, as JSON-ready values.

    Returns:
        What `from_description` takes; None where something is neither a tensor, a list, tuple or dict of such, nor a plain value.
    """
    try:
        return {
            "args": [_told(item) for item in inputs.args],
            "kwargs": {k: _told(v) for k, v in inputs.kwargs.items()},
        }
    except TypeError:
        return None


def _told(value: Any) -> Any:
    if isinstance(value, Tensor):
        name = str(value.dtype).removeprefix("torch.")
        if name not in _TYPES or not value.dim():
            raise TypeError(name)
        return {"tensor": list(value.shape[1:]), "dtype": name}
    if type(value) in (list, tuple):
        return {type(value).__name__: [_told(item) for item in value]}
    if type(value) is dict and all(isinstance(key, str) for key in value):
        return {"dict": {key: _told(item) for key, item in value.items()}}
    if type(value) in _PLAIN and (not isinstance(value, float) or math.isfinite(value)):
        return value
    raise TypeError(type(value).__name__)


def from_description(content: object, count: int = 2) -> ModelInputs:
    """Return inputs of the shapes and types that `described` told: noise, and zeros of whole numbers.

    Args:
        content: What a file says.
        count: Items in the batch.

    Raises:
        UsageError: if it is damaged.
    """
    generator = torch.Generator().manual_seed(0)
    try:
        if not isinstance(content, Mapping) or content.keys() != {"args", "kwargs"}:
            raise TypeError("it must hold args and kwargs")
        args, kwargs = content["args"], content["kwargs"]
        if not isinstance(args, list) or not isinstance(kwargs, Mapping):
            raise TypeError("args must be a list and kwargs an object")
        return ModelInputs(
            tuple(_made(item, count, generator) for item in args),
            {str(key): _made(item, count, generator) for key, item in kwargs.items()},
        )
    except (TypeError, KeyError, ValueError, RecursionError) as error:
        raise UsageError(f"What the network is called with cannot be read ({error}); restore the file.") from None


def _made(value: Any, count: int, generator: torch.Generator) -> Any:
    if type(value) in _PLAIN:
        return value
    if not isinstance(value, Mapping):
        raise TypeError(f"{value!r:.40} is no description of an input")
    if value.keys() == {"tensor", "dtype"}:
        sizes, kind = value["tensor"], _TYPES[value["dtype"]]
        if not isinstance(sizes, list) or any(type(size) is not int or size < 0 for size in sizes):
            raise TypeError(f"{sizes!r:.40} is no shape")
        if count * math.prod(sizes) > MOST_ELEMENTS:
            raise ValueError(f"a tensor of shape {sizes} is too large")
        if not kind.is_floating_point:
            return torch.zeros(count, *sizes, dtype=kind)
        return torch.randn(count, *sizes, generator=generator).to(kind)
    ((form, items),) = value.items()
    if form == "dict" and isinstance(items, Mapping):
        return {str(key): _made(item, count, generator) for key, item in items.items()}
    if form not in ("list", "tuple") or not isinstance(items, list):
        raise TypeError(f"{form!r:.40} is no nesting")
    found = [_made(item, count, generator) for item in items]
    return found if form == "list" else tuple(found)
