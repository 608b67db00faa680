"""Calls in a model's code whose arguments may count channels: ``x.view(n, 8, 16)``, ``x[:, :8]``, ``x.split([4, 12], 1)``.

Such a number is written in the code, or computed from something that does not follow the channels, so no attribute can be
changed. What can be changed is the call: it is known by the module in whose forward it runs, by the call instructions that
lead to it from there, and by how often they have been executed before. Surgery lets that one call have other numbers.
"""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from types import FrameType
from typing import Any

import torch
from torch import Tensor, nn
from torch.fx import Node
from torch.fx.traceback import annotate, preserve_node_meta
from torch.overrides import TorchFunctionMode

from autoprune.model_guard import modes_as_they_were

Path = tuple[int | str, ...]
"""Where a number stands in a call: position or keyword, then the place in a tuple, then "start" or "stop" of a slice."""

VIEWS = ("view", "reshape", "expand", "unflatten")
CUTS = ("split", "split_with_sizes", "chunk", "tensor_split", "unsafe_split", "unsafe_chunk")
_INDEXED = ("__getitem__", "__setitem__")
CALLS = frozenset({*VIEWS, *CUTS, *_INDEXED, "narrow", "select", "roll", "index_select"})
"""Names of the functions and methods that are recorded."""

_TAG = "autoprune_call"
_KEYWORDS = frozenset({"size", "shape", "sizes"})


@dataclass(frozen=True)
class Site:
    """One call in a module's forward.

    Attributes:
        module: Path of the module.
        frames: Function and instruction of each call that leads there, the innermost first.
        number: How often these have been executed before in one forward of the module.
    """

    module: str
    frames: tuple[tuple[str, int], ...]
    number: int = 0


def locate(frame: FrameType | None) -> tuple[tuple[tuple[str, int], ...], FrameType | None]:
    """Return the calls that lead from the innermost running module to ``frame``, and the frame in which torch calls that module.

    Frames of torch itself and of what watches calls do not count.
    """
    frames: list[tuple[str, int]] = []
    while frame is not None:
        name = str(frame.f_globals.get("__name__", ""))
        if name == "torch.nn.modules.module" and "self" in frame.f_code.co_varnames + frame.f_code.co_freevars:
            return tuple(frames), frame
        inside = name == "torch" or (name.startswith("torch.") and not name.startswith("torch.nn."))
        if not inside and name not in (__name__, "autoprune.surgery._calls"):
            frames.append((frame.f_code.co_qualname, frame.f_lasti))
        frame = frame.f_back
    return tuple(frames), None


def owner(frame: FrameType) -> dict[str, Any]:
    """Return the attributes of the module that a frame of torch calls: the exporter wraps modules, but shares these."""
    attributes: dict[str, Any] = vars(frame.f_locals["self"])
    return attributes


def name_of(function: Callable[..., Any]) -> str:
    """Return the name that a function or method of torch is recorded under."""
    return str(getattr(function, "__name__", ""))


@dataclass(frozen=True, eq=False)
class RecordedCall:
    """A call as it was made: where, of what, with which arguments (tensors left out)."""

    site: Site
    function: str
    args: tuple[Any, ...]
    kwargs: Mapping[str, Any]


def _without_tensors(value: Any) -> Any:
    if isinstance(value, list):
        return [_without_tensors(item) for item in value]
    if isinstance(value, tuple):
        return tuple(_without_tensors(item) for item in value)
    if isinstance(value, dict):
        return {key: _without_tensors(item) for key, item in value.items()}
    return Tensor if isinstance(value, Tensor) else value


class _Recorder(TorchFunctionMode):
    def __init__(self, paths: Mapping[int, str], calls: list[RecordedCall]) -> None:
        super().__init__()
        self.paths = paths
        self.calls = calls
        self.running: dict[str, FrameType] = {}
        self.counts: dict[str, Counter[Any]] = {}

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        site = self.site() if name_of(func) in CALLS else None
        if site is None:
            return func(*args, **kwargs)
        self.calls.append(RecordedCall(site, name_of(func), _without_tensors(args), _without_tensors(kwargs)))
        with preserve_node_meta(), annotate({_TAG: len(self.calls) - 1}):
            return func(*args, **kwargs)

    def site(self) -> Site | None:
        frames, frame = locate(sys._getframe(1))
        path = None if frame is None else self.paths.get(id(owner(frame)))
        if frame is None or path is None:
            return None
        if self.running.get(path) is not frame:  # another forward of the module
            self.running[path], self.counts[path] = frame, Counter()
        number = self.counts[path][frames]
        self.counts[path][frames] += 1
        return Site(path, frames, number)


@contextmanager
def recorded_calls(model: nn.Module) -> Iterator[list[RecordedCall]]:
    """Note the calls that a model makes when it runs within, and mark the nodes that a tracer makes of them."""
    calls: list[RecordedCall] = []
    recorders: list[_Recorder] = []
    paths: dict[int, str] = {}
    for path, module in model.named_modules():
        paths.setdefault(id(vars(module)), path)

    def enter(*_: Any) -> None:
        calls.clear()
        recorders.append(_Recorder(paths, calls))
        recorders[-1].__enter__()  # type: ignore[no-untyped-call]

    def leave(*_: Any) -> None:
        recorders.pop().__exit__(None, None, None)  # type: ignore[no-untyped-call]

    if isinstance(model, torch.jit.ScriptModule):
        yield calls
        return
    # Entered first and left last: calls that are changed by then (the model has been pruned before) are seen as they are changed.
    hooks = [
        model.register_forward_pre_hook(enter, prepend=True),
        model.register_forward_hook(leave, always_call=True),
    ]
    with modes_as_they_were():  # of a forward that fails within torch.export no hook tells the end
        try:
            yield calls
        finally:
            for hook in hooks:
                hook.remove()


@dataclass(frozen=True)
class Argument:
    """One argument of a call, or one number in it."""

    site: Site
    path: Path


class CallFinder:
    """Finds the arguments of recorded calls that the arguments of traced operators come from.

    Args:
        calls: The recorded calls, as the traced nodes are marked with.
    """

    def __init__(self, calls: Sequence[RecordedCall] = ()) -> None:
        self._calls = list(calls)

    def call(self, node: Node) -> RecordedCall | None:
        """Return the call that a node was traced in."""
        number = (node.meta.get("custom") or {}).get(_TAG)
        return self._calls[number] if isinstance(number, int) and number < len(self._calls) else None

    def sizes(self, node: Node, shape: Sequence[int]) -> list[Argument | None]:
        """Return for each dimension of a view the number in the code that is its size; None where there is none."""
        nothing: list[Argument | None] = [None] * len(shape)
        call = self.call(node)
        if call is None or call.function not in VIEWS:
            return nothing
        first = 2 if call.function == "unflatten" else 1
        found = [
            (path, value)
            for key, argument in (*enumerate(call.args), *call.kwargs.items())
            if key in _KEYWORDS or (isinstance(key, int) and key >= first)
            for path, value in _items((key,), argument)
        ]
        if call.function == "unflatten":
            dim = call.args[1] if len(call.args) > 1 else call.kwargs.get("dim", 0)
            if not isinstance(dim, int) or len(found) > len(shape):
                return nothing
            first = dim % (len(shape) - len(found) + 1)
            fixed = [self._fixed(call, path, value) for path, value in found]
            return [*nothing[:first], *fixed, *nothing[first + len(found) :]]
        if len(found) != len(shape):
            return nothing
        return [self._fixed(call, path, value) for path, value in found]

    def _fixed(self, call: RecordedCall, path: Path, value: Any) -> Argument | None:
        return Argument(call.site, path) if type(value) is int and value > 0 else None

    def pieces(self, node: Node) -> Argument | None:
        """Return the argument that says how a tensor is split."""
        call = self.call(node)
        return None if call is None or call.function not in CUTS else Argument(call.site, ("pieces",))

    def number(self, node: Node, names: Mapping[str, int], value: int, name: str) -> Argument | None:
        """Return the argument called ``name``, at the position that ``names`` says, if it is the number ``value``."""
        call = self.call(node)
        if call is None:
            return None
        found: list[tuple[Path, Any]] = []
        position = names[name]
        if position < len(call.args):
            found = _items((position,), call.args[position])
        elif name in call.kwargs:
            found = _items((name,), call.kwargs[name])
        fitting = [path for path, given in found if type(given) is int and given == value]
        return Argument(call.site, fitting[0]) if len(found) == len(fitting) == 1 else None

    def argument(self, node: Node, names: Mapping[str, int], name: str) -> Argument | None:
        """Return the argument called ``name``, at the position that ``names`` says, whatever it is."""
        call = self.call(node)
        if call is None or name not in (call.kwargs if names[name] >= len(call.args) else names):
            return None
        return Argument(call.site, (names[name],) if names[name] < len(call.args) else (name,))

    def part(self, node: Node, start: int, stop: int) -> tuple[Argument | None, Argument | None] | None:
        """Return where an index ``[..., start:stop]`` says start and stop; None unless there is one such index."""
        call = self.call(node)
        if call is None or call.function not in _INDEXED:
            return None
        fitting = []
        for path, item in _entries(call):
            if isinstance(item, slice) and item.step in (None, 1):
                first = 0 if item.start is None else item.start
                last = sys.maxsize if item.stop is None else item.stop
                if type(first) is int and type(last) is int and (first, last) == (start, stop):
                    fitting.append((path, item))
        if len(fitting) != 1:
            return None
        path, item = fitting[0]
        return (
            None if item.start is None else Argument(call.site, (*path, "start")),
            None if item.stop is None else Argument(call.site, (*path, "stop")),
        )

    def item(self, node: Node, kind: Callable[[Any], bool]) -> Argument | None:
        """Return the item of an index that is of a kind; None unless there is one."""
        call = self.call(node)
        if call is None or call.function not in _INDEXED:
            return None
        fitting = [path for path, item in _entries(call) if kind(item)]
        return Argument(call.site, fitting[0]) if len(fitting) == 1 else None


def _items(path: Path, value: Any) -> list[tuple[Path, Any]]:
    """Return the numbers of an argument: itself, or the items of the tuple that it is."""
    if isinstance(value, (tuple, list)):
        return [((*path, place), item) for place, item in enumerate(value)]
    return [(path, value)]


def _entries(call: RecordedCall) -> list[tuple[Path, Any]]:
    """Return the items of an index; a list of numbers is one item."""
    index = call.args[1] if len(call.args) > 1 else None
    if isinstance(index, tuple):
        return [((1, place), item) for place, item in enumerate(index)]
    return [((1,), index)]
