"""See that a network takes what it is called with, mostly one tensor of images; else say in one sentence why not."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import is_dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from autoprune.errors import UsageError
from autoprune.model_guard._guard import eval_mode, unchanged
from autoprune.model_guard._inputs import ModelInputs, as_inputs

_WRAP = "pass a module whose forward(images) calls the model with what it needs"
_GIVE = "give all that it needs as the example input: a tuple, or a dict by name"
_Kind = inspect.Parameter


def check_example(example: Any) -> None:
    """See that an example input is one dense tensor of real numbers with a batch dimension.

    Raises:
        UsageError: if it is anything else; says what.
    """
    rule = "it must be one tensor of images, shape (N, C, H, W)"
    if isinstance(example, Mapping):
        keys = ", ".join(map(str, list(example)[:8])) or "none"
        raise UsageError(f"The example input is a dict with the keys {keys}, but {rule}; {_WRAP}.")
    if isinstance(example, tuple | list):
        raise UsageError(f"The example input is a {type(example).__name__} of {len(example)}, but {rule}; {_WRAP}.")
    if not isinstance(example, Tensor):
        found = f"{type(example).__module__}.{type(example).__qualname__}".removeprefix("builtins.")
        raise UsageError(f"The example input is of type {found}, but {rule}; convert it (torch.as_tensor).")
    _check_tensor(
        example, f"The example input is a tensor of layout {example.layout} and type {example.dtype}, but {rule},"
    )


def check_inputs(example: Any, model: nn.Module) -> ModelInputs:
    """Return how a network is called with an example input, a batch of any nesting; see `as_inputs`.

    Raises:
        UsageError: if it holds no tensors, or others than dense ones of real numbers; says what.
    """
    if not isinstance(example, Mapping | tuple | list | ModelInputs) and not is_dataclass(example):
        check_example(example)
    inputs = as_inputs(example, model)
    for tensor in inputs.tensors:
        _check_tensor(
            tensor,
            f"The example input holds a tensor of layout {tensor.layout} and type {tensor.dtype}, but each must be",
            empty=True,
        )
    if not len(inputs):
        raise UsageError(f"The example input, of {inputs.text}, must hold at least one item.")
    if isinstance(example, list) and all(isinstance(item, Tensor) and item.dim() == 3 for item in example):
        _check_batches(model, inputs, len(example))
    return inputs


def _check_batches(model: nn.Module, inputs: ModelInputs, count: int) -> None:
    """Refuse a list of single images (C, H, W), whose first dimension is no batch: another number of items does not run then.

    Raises:
        UsageError: saying what to give.
    """
    with unchanged(model), eval_mode(model), torch.no_grad():
        try:
            inputs.call(model)
        except Exception:  # whoever runs it next says what is wrong
            return
        with suppress(Exception):
            inputs[[0] * (len(inputs) + 1)].call(model)
            return
    raise UsageError(
        f"The example input is a list of {count} single images (C, H, W), as detectors take them, but the first dimension of "
        "every tensor must be the batch; prune the part that gets a batch, its backbone for instance (--part backbone, "
        "part='backbone'), and for a search give a tensor (N, C, H, W) and run=lambda model, batch: model(list(batch))."
    )


def _check_tensor(tensor: Tensor, found: str, *, empty: bool = False) -> None:
    if tensor.layout != torch.strided or tensor.is_nested or tensor.is_quantized or tensor.is_complex():
        raise UsageError(f"{found} dense and of real numbers; convert it.")
    if not empty and (tensor.dim() == 0 or tensor.shape[0] == 0):
        raise UsageError(
            f"The example input has shape {tuple(tensor.shape)}, but it must hold at least one image, as (N, C, H, W)."
        )


def check_signature(model: nn.Module, inputs: ModelInputs) -> None:
    """See that a model's forward can be called with some inputs.

    Raises:
        UsageError: if it needs more, or takes no such inputs; names its inputs.
    """
    try:
        signature = inspect.signature(model.forward)
    except (TypeError, ValueError):  # of compiled code, which says at its first run
        return
    try:
        signature.bind(*inputs.args, **inputs.kwargs)
    except TypeError as error:
        if len(inputs.args) == 1 and not inputs.kwargs:
            _check_one(list(signature.parameters.values()))
        names = ", ".join(signature.parameters) or "nothing"
        raise UsageError(
            f"The model's forward takes {names}, but it is called with {_told(inputs)} ({why(error)}); {_GIVE}."
        ) from None


def _told(inputs: ModelInputs) -> str:
    by_place = f"{len(inputs.args)} input{'s' * (len(inputs.args) != 1)} by position" if inputs.args else ""
    by_name = f"{', '.join(inputs.kwargs)} by name" if inputs.kwargs else ""
    return " and ".join(filter(None, (by_place, by_name)))


def _check_one(parameters: list[inspect.Parameter]) -> None:
    """Refuse a forward that cannot be called with one input by position."""
    needed = [
        p for p in parameters if p.default is _Kind.empty and p.kind not in (_Kind.VAR_POSITIONAL, _Kind.VAR_KEYWORD)
    ]
    placed = [
        p for p in parameters if p.kind in (_Kind.POSITIONAL_ONLY, _Kind.POSITIONAL_OR_KEYWORD, _Kind.VAR_POSITIONAL)
    ]
    if not placed:
        named = ", ".join(p.name for p in parameters)
        found = f"takes its inputs by keyword only ({named})" if parameters else "takes no input"
        raise UsageError(f"The model's forward {found}, but it is called with one tensor of images; {_GIVE}.")
    further = [p for p in needed if p is not placed[0]]
    if further:
        names = ", ".join(p.name for p in ([placed[0]] if placed[0] not in needed else []) + needed)
        raise UsageError(
            f"The model's forward needs {len(further) + 1} inputs ({names}), but it is called with one tensor of images; {_GIVE}."
        )


class _Keys(TorchFunctionMode):
    """Notes what names a tensor is asked for as if it were a dict."""

    def __init__(self) -> None:
        super().__init__()
        self.keys: list[str] = []

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        if func is Tensor.__getitem__ and len(args) > 1 and isinstance(args[1], str):
            self.keys.append(args[1])
        return func(*args, **(kwargs or {}))


def run_once(model: nn.Module, example: Tensor | ModelInputs, *, advice: str) -> Any:
    """Return what a model gives for an example input, in the mode it is in.

    Args:
        model: The model.
        example: A batch, each tensor of shape (N, ...).
        advice: What to do where it does not fit.

    Raises:
        UsageError: if it does not run on it; says why.
    """
    inputs = as_inputs(example)
    check_signature(model, inputs)
    asked = _Keys()
    try:
        with asked:
            return inputs.call(model)
    except Exception as error:
        if isinstance(error, UsageError):
            raise
        if asked.keys:
            raise UsageError(
                f"The model's forward asks its input for '{asked.keys[0]}' as if it were a dict, but it is called with one "
                f"tensor of images; {_WRAP}."
            ) from error
        kind = _type(model, inputs.tensors[0]) if len(inputs.tensors) == 1 else ""
        raise UsageError(
            f"The model does not run on an input of {inputs.text}{kind} ({why(error)}); {advice}."
        ) from error


def _type(model: nn.Module, example: Tensor) -> str:
    """Return what to say of the type of an input that is not the weights' own."""
    with suppress(StopIteration):
        weights = next(p.dtype for p in model.parameters() if p.is_floating_point())
        if weights != example.dtype:
            return f" and type {example.dtype} with weights of type {weights}"
    return ""


def why(error: BaseException) -> str:
    """Return the first sentence of an exception's message, without its end."""
    line = next((line.strip() for line in str(error).splitlines() if line.strip()), "")
    line = line.split(". ")[0].rstrip(".")
    if not line:
        return type(error).__name__
    return f"{type(error).__name__}: {line}" if len(line.split()) < 3 else line
