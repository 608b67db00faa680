"""Calls of a pruned model that get other arguments than its code gives them: sizes and positions that count channels.

The code of a model may say ``x.view(n, 8, 16)`` where 13 channels are left of 16. Its module then gets a pair of hooks, plain
data beside the code, that let this one call say 13. A model changed in this way is exported, copied, trained and pruned again
like any other.
"""

from __future__ import annotations

import sys
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import Any

import torch
from torch import Tensor, nn
from torch._C._dynamo.eval_frame import set_eval_frame
from torch.overrides import TorchFunctionMode, _get_current_function_mode

from autoprune.groups import Argument, CallArgument, Path, Site, locate, owner
from autoprune.model_guard import ModelInputs, unchanged

Frames = tuple[tuple[str, int], ...]
Value = int | list[int]
Changes = dict[tuple[Frames, int], dict[Path, Value]]
"""Calls, by the instructions that lead to them and how often these were executed before, and what is changed of each."""


class FixedCalls:
    """A pair of hooks that change arguments of calls in a module's forward.

    Args:
        changes: The calls and their new arguments.
        follows: Is told of each of these whether the code gives the new value by itself; None if nobody asks.
    """

    def __init__(self, changes: Changes, follows: dict[Argument, bool] | None = None) -> None:
        self.changes = changes
        self.follows = follows
        self.path = ""

    def enter(self, module: nn.Module, *_: Any) -> None:
        """Start to change calls: a forward pre-hook. ``torch.compile`` leaves the module's forward as it is."""
        mode = _Changing(self, module)
        mode.compiler = set_eval_frame(None)
        mode.__enter__()  # type: ignore[no-untyped-call]

    def leave(self, module: nn.Module, *_: Any) -> None:
        """Stop: a forward hook, called after an error, too."""
        mode = _get_current_function_mode()  # type: ignore[no-untyped-call]
        if isinstance(mode, _Changing) and mode.attributes is vars(module):  # not if a hook before `enter` raised
            mode.__exit__(None, None, None)  # type: ignore[no-untyped-call]
            set_eval_frame(mode.compiler)


class _Changing(TorchFunctionMode):
    def __init__(self, fixed: FixedCalls, module: nn.Module) -> None:
        super().__init__()
        self.fixed = fixed
        self.frames = {frames for frames, _ in fixed.changes}
        self.attributes = vars(module)
        self.compiler: Any = None
        self.counts: Counter[Frames] = Counter()

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        frames, frame = locate(sys._getframe(1))
        if frames not in self.frames or frame is None or owner(frame) is not self.attributes:
            return func(*args, **kwargs)
        number = self.counts[frames]
        self.counts[frames] += 1
        changes = self.fixed.changes.get((frames, number), {})
        if self.fixed.follows is not None:
            for path, value in changes.items():
                argument = Argument(Site(self.fixed.path, frames, number), path)
                known = self.fixed.follows.get(argument, True)
                self.fixed.follows[argument] = known and _given(func, args, kwargs, path) == value
        for path, value in changes.items():
            if path == ("pieces",):
                return _pieces(value, args, kwargs)
            args, kwargs = _replaced(args, kwargs, path, value)
        return func(*args, **kwargs)


def _given(func: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any], path: Path) -> Any:
    """Return what the code gives where ``path`` says; None where that is an error."""
    if path == ("pieces",):
        dim = kwargs.get("dim", args[2] if len(args) > 2 else 0)
        try:
            return [part.shape[dim] for part in func(*args, **kwargs)]
        except RuntimeError:  # their sum is not the number of channels
            return None
    found: Any = args if isinstance(path[0], int) else kwargs
    for place in path:
        found = getattr(found, str(place)) if isinstance(found, slice) else found[place]
    return found.tolist() if isinstance(found, Tensor) else found


def _pieces(value: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
    x = args[0] if args else next(kwargs[name] for name in ("input", "tensor", "self") if name in kwargs)
    return torch.split(x, value, kwargs.get("dim", args[2] if len(args) > 2 else 0))


def _replaced(
    args: tuple[Any, ...], kwargs: dict[str, Any], path: Path, value: Value
) -> tuple[tuple[Any, ...], dict[str, Any]]:
    first, *rest = path
    if isinstance(first, int):
        return tuple(_put(item, rest, value) if place == first else item for place, item in enumerate(args)), kwargs
    return args, {key: _put(item, rest, value) if key == first else item for key, item in kwargs.items()}


def _put(old: Any, path: Sequence[int | str], value: Value) -> Any:
    """Return an argument with ``value`` at a place in it."""
    if not path:
        return torch.tensor(value, device=old.device) if isinstance(old, Tensor) and isinstance(value, list) else value
    place, *rest = path
    if isinstance(old, slice):
        return slice(
            value if place == "start" else old.start,
            value if place == "stop" else old.stop,
            old.step,
        )
    items = [_put(item, rest, value) if number == place else item for number, item in enumerate(old)]
    return items if isinstance(old, list) else tuple(items)


def _hooks(module: nn.Module) -> FixedCalls | None:
    for hook in module._forward_pre_hooks.values():
        found = getattr(hook, "__self__", None)
        if isinstance(found, FixedCalls):
            return found
    return None


def change_calls(model: nn.Module, changes: Sequence[tuple[CallArgument, Value]]) -> None:
    """Let calls of a pruned model say how many channels are left.

    Args:
        model: The pruned model.
        changes: Arguments of calls, and what they have to be.
    """
    by_module: dict[str, Changes] = defaultdict(lambda: defaultdict(dict))
    for argument, value in changes:
        site = argument.site
        by_module[site.module][site.frames, site.number][argument.path] = value
    for path, found in by_module.items():
        module = model.get_submodule(path)
        hooks = _hooks(module)
        if hooks is None:
            hooks = FixedCalls({})
            module.register_forward_pre_hook(hooks.enter)
            module.register_forward_hook(hooks.leave, always_call=True)
        hooks.changes = {
            **hooks.changes,
            **{call: {**hooks.changes.get(call, {}), **new} for call, new in found.items()},
        }


@torch.no_grad()
def calls_that_follow(small: nn.Module, inputs: ModelInputs) -> set[Argument]:
    """Return the changed arguments of calls that a pruned model's code gives by itself (``x.shape[1] // 2``).

    Args:
        small: A pruned model, fewer channels everywhere; it runs once. Calls that it does not come to are not among them.
        inputs: What it is called with.
    """
    follows: dict[Argument, bool] = {}
    for path, module in small.named_modules():
        hooks = _hooks(module)
        if hooks is not None:
            hooks.follows, hooks.path = follows, path
    with unchanged(small), suppress(Exception):  # of another number that is fixed in the code: the proof will find out
        inputs.call(small)
    return {argument for argument, yes in follows.items() if yes}


def coded(small: nn.Module, inputs: ModelInputs | None) -> str | None:
    """Return the path of a module of a pruned model whose code does not give the changed arguments by itself; None if none is.

    Args:
        small: A pruned model, or the parts of one.
        inputs: What it is called with; None if that is not known, so that no code is taken to.
    """
    follows = set() if inputs is None else calls_that_follow(small, inputs)
    path: str
    for path, module in small.named_modules():
        hooks = _hooks(module)
        for (frames, number), changes in () if hooks is None else hooks.changes.items():
            if any(Argument(Site(path, frames, number), argument) not in follows for argument in changes):
                return path
    return None
