"""A user's module is given back as it was: whatever a forward pass, a tracer or we ourselves do to it meanwhile.

A forward may keep activations, fill caches, count, install hooks, replace submodules, draw random numbers and write to its
buffers; a tracer leaves fake tensors in what it keeps. Every function of ours that runs or changes a module which it was given
does so within `unchanged`.
"""

from __future__ import annotations

import random
from collections import OrderedDict, deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.modules.lazy import LazyModuleMixin

from autoprune.errors import UsageError

_ATOMS = (bool, int, float, complex, str, bytes, type(None), type, torch.dtype, torch.device, torch.Size, ModuleType)


@contextmanager
def eval_mode(*models: nn.Module) -> Iterator[None]:
    """Put models into eval mode and give every module its own mode back afterwards."""
    modes = [(module, module.training) for model in models for module in model.modules()]
    for model in models:
        model.eval()
    try:
        yield
    finally:
        for module, training in modes:
            module.training = training


@contextmanager
def modes_as_they_were() -> Iterator[None]:
    """Leave no torch function mode behind that code within entered: every call of torch would go through it from then on."""
    depth = torch._C._len_torch_function_stack()
    try:
        yield
    finally:
        while torch._C._len_torch_function_stack() > depth:
            torch._C._pop_torch_function_stack()


@contextmanager
def unchanged(*models: nn.Module) -> Iterator[Callable[[], None]]:
    """Give modules, and the global random numbers, back as they were; what is yielded does so at once, as often as called.

    That is, by identity and value, and however deeply nested: attributes, lists, dictionaries (hooks in their order), sets,
    parameters and buffers with their memory, gradients, flags and modes, and what is kept in objects of the models' own code.
    What a hook keeps in its closure is the closure's.

    Args:
        models: The modules. Their tensors are copied for as long as the context lasts.

    Raises:
        UsageError: if a lazy module has not got its parameters yet.
    """
    saved = _Saved(models)
    with modes_as_they_were():
        try:
            yield saved.restore
        finally:
            saved.restore()


class _Saved:
    """What modules consist of.

    Args:
        models: The modules.
    """

    def __init__(self, models: tuple[nn.Module, ...]) -> None:
        self._packages = {type(part).__module__.split(".")[0] for model in models for part in model.modules()} - {
            *("torch", "builtins")
        }
        self._seen: dict[int, Any] = {}
        self._undo: list[Callable[[], None]] = [_saved_random_numbers()]
        for model in models:
            _check_initialised(model)
        queue: list[Any] = list(models)
        while queue:
            thing = queue.pop()
            if not isinstance(thing, _ATOMS) and id(thing) not in self._seen:
                self._seen[id(thing)] = thing  # kept alive, so that no other object gets its id
                queue += self._save(thing)

    def restore(self) -> None:
        """Put everything back."""
        for undo in self._undo:
            undo()

    def _save(self, thing: Any) -> list[Any]:
        """Save a thing's own state and return what it holds."""
        if isinstance(thing, Tensor):
            self._undo.append(_saved_tensor(thing))
            return [] if thing.grad_fn is not None or thing.grad is None else [thing.grad]
        if isinstance(thing, torch.jit.ScriptModule):
            parts = [(module, module.training) for module in thing.modules()]
            self._undo.append(partial(_set_modes, parts))
            return [*thing.parameters(), *thing.buffers()]
        if isinstance(thing, dict):
            items = list(thing.items())
            self._undo.append(partial(_set_items, thing, items))
            return [value for _, value in items]
        if isinstance(thing, (list, deque)):
            held = list(thing)
            self._undo.append(partial(_set_list, thing, held))
            return held
        if isinstance(thing, set):
            self._undo.append(partial(_set_set, thing, set(thing)))
            return []
        if isinstance(thing, (tuple, frozenset)):
            return list(thing)
        if isinstance(thing, nn.Module) or self._is_own(thing):
            self._undo.append(partial(_set_class, thing, type(thing)))
            return [vars(thing)]
        return []

    def _is_own(self, thing: Any) -> bool:
        """Return whether an object belongs to the models' own code: others may lead to all there is."""
        kind = type(thing)
        return hasattr(thing, "__dict__") and (
            kind is SimpleNamespace or kind.__module__.split(".")[0] in self._packages
        )


def _check_initialised(model: nn.Module) -> None:
    for path, module in model.named_modules():
        if isinstance(module, LazyModuleMixin) and module.has_uninitialized_params():  # type: ignore[misc]
            raise UsageError(
                f"The module '{path}' ({type(module).__name__}) has no weights yet, since it takes their shapes from its first "
                "input; run the model once on an image before you pass it."
            )


def _saved_random_numbers() -> Callable[[], None]:
    state, numbers, own = torch.get_rng_state(), np.random.get_state(), random.getstate()  # noqa: NPY002 (the users' own)
    devices = torch.cuda.get_rng_state_all() if torch.cuda.is_initialized() else []  # type: ignore[no-untyped-call]

    def restore() -> None:
        torch.set_rng_state(state)
        np.random.set_state(numbers)  # noqa: NPY002
        random.setstate(own)
        if devices:
            torch.cuda.set_rng_state_all(devices)

    return restore


def _saved_tensor(tensor: Tensor) -> Callable[[], None]:
    leaf, wanted, gradient = tensor.is_leaf, tensor.requires_grad, tensor.grad if tensor.is_leaf else None
    memory = tensor.data  # the same memory under another name
    values = memory.clone()
    layout, version = _layout(memory), None if tensor.is_inference() else tensor._version

    def restore() -> None:
        if _layout(tensor) != layout:
            tensor.data = memory
        if not _equal(memory, values):
            with torch.inference_mode(tensor.is_inference()):
                memory.copy_(values)
        if version is not None and tensor._version != version:  # a graph that holds it can still be walked back
            torch._C._autograd._unsafe_set_version_counter((tensor,), (version,))
        if leaf:
            if tensor.requires_grad != wanted:
                tensor.requires_grad_(wanted)
            if tensor.grad is not gradient:
                tensor.grad = gradient

    return restore


def _layout(tensor: Tensor) -> tuple[Any, ...]:
    strided = tensor.layout == torch.strided
    memory = (tensor.data_ptr(), tensor.stride()) if strided and not _is_wrapper(tensor) else ()
    return (tensor.shape, tensor.dtype, tensor.device, *memory)


def _is_wrapper(tensor: Tensor) -> bool:
    """Return whether a tensor has no memory of its own to speak of."""
    return tensor.is_meta or type(tensor) not in (Tensor, nn.Parameter, nn.Buffer)


def _equal(left: Tensor, right: Tensor) -> bool:
    """Return whether two tensors hold the same values, NaN included; also where that cannot be told."""
    with suppress(RuntimeError, NotImplementedError):  # of a layout or kind that does not compare
        same = torch.equal(left, right)
        return same or bool(((left == right) | (left.isnan() & right.isnan())).all())
    return True


def _set_modes(modes: list[tuple[nn.Module, bool]]) -> None:
    for module, training in modes:
        module.training = training


def _set_items(mapping: dict[Any, Any], items: list[tuple[Any, Any]]) -> None:
    now = list(mapping.items())
    if len(now) == len(items) and all(a[0] is b[0] and a[1] is b[1] for a, b in zip(now, items, strict=True)):
        return
    kind: Any = OrderedDict if isinstance(mapping, OrderedDict) else dict
    kind.clear(mapping)
    for key, value in items:
        kind.__setitem__(mapping, key, value)


def _set_list(sequence: list[Any] | deque[Any], held: list[Any]) -> None:
    if len(sequence) != len(held) or any(a is not b for a, b in zip(sequence, held, strict=True)):
        sequence.clear()
        sequence.extend(held)


def _set_set(own: set[Any], held: set[Any]) -> None:
    if own != held:
        own.clear()
        own.update(held)


def _set_class(thing: Any, kind: type) -> None:
    if type(thing) is not kind:
        thing.__class__ = kind
