"""Whether a forward pass asks how many channels there are, other than to say the size of a tensor.

A forward may compare ``x.shape[1]`` with a number, look it up in a table or count a loop by it, and do something else for some
counts. Numbers of channels are handed to the user's code as numbers that note what is asked of them; what is asked with other
answers once channels are gone is what a proof must try further counts for.
"""

from __future__ import annotations

import dis
import operator
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import cache
from types import CodeType, FrameType
from typing import Any, SupportsIndex

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils import _pytree as pytree

_BETWEEN = (__name__, "torch.overrides", "torch._tensor")
"""Modules that stand between a question and the code that asks it."""


@dataclass(frozen=True)
class Question:
    """Something that the code asked of a number.

    Attributes:
        where: File, line and what was asked.
        values: The numbers that it was asked of.
        noted: For each of them whether it is one of those that are watched.
    """

    where: tuple[str, int, str]
    values: tuple[float, ...]
    noted: tuple[bool, ...]


@dataclass
class _Log:
    questions: list[Question] = field(default_factory=list)
    idle: dict[int, tuple[tuple[str, int, str], Any]] = field(default_factory=dict)

    def taken(self, number: Any, where: tuple[str, int, str]) -> Any:
        """Note a number that the code took out of a shape; it is idle until something is done with it."""
        self.idle[id(number)] = (where, number)
        return number

    def used(self, *numbers: Any) -> None:
        for number in numbers:
            self.idle.pop(id(number), None)

    def asked(self, where: tuple[str, int, str], *numbers: Any) -> None:
        self.used(*numbers)
        values = tuple(float(number) if isinstance(number, (int, float)) else 0.0 for number in numbers)
        self.questions.append(Question(where, values, tuple(isinstance(n, (_Count, _Ratio)) for n in numbers)))

    def closed(self) -> list[Question]:
        """Return all questions, with the numbers at the end that nothing was seen to be done with: a list's index, a range."""
        rest = [Question(where, (float(number),), (True,)) for where, number in self.idle.values()]
        return self.questions + rest


def _frame() -> FrameType | None:
    """Return the frame of the code that uses a number; None if that is torch's own."""
    frame: FrameType | None = sys._getframe(1)
    while frame is not None and frame.f_globals.get("__name__") in _BETWEEN:
        frame = frame.f_back
    if frame is None or str(frame.f_globals.get("__name__")).split(".")[0] == "torch":
        return None
    return frame


def _caller() -> tuple[str, int, str] | None:
    """Return where the code that uses a number stands; None if that is torch's own."""
    frame = _frame()
    return None if frame is None else (frame.f_code.co_filename, frame.f_lineno, "")


@cache
def _unpacked(code: CodeType, offset: int) -> tuple[bool, ...]:
    """Return for each name that a shape is unpacked into at an instruction whether the code ever uses it; () if it is not."""
    steps = list(dis.get_instructions(code))
    place = next((number for number, step in enumerate(steps) if step.offset == offset), None)
    if place is None or not steps[place].opname.startswith("UNPACK_SEQUENCE"):
        return ()
    loaded = {name for step in steps if step.opname.startswith("LOAD_") for name in _names(step)}
    stored: list[str] = []
    for step in steps[place + 1 :]:
        if not step.opname.startswith("STORE_"):
            break
        stored += _names(step)
    return tuple(name in loaded for name in stored)


def _names(step: dis.Instruction) -> tuple[str, ...]:
    value = step.argval
    return value if isinstance(value, tuple) else (value,) if isinstance(value, str) else ()


class _Count(int):
    log: _Log


class _Ratio(float):
    log: _Log


def _noting(value: Any, log: _Log) -> Any:
    """Return a number that notes what is asked of it."""
    if type(value) is int or type(value) is _Count:
        count = _Count(value)
        count.log = log
        return count
    if type(value) is float or type(value) is _Ratio:
        ratio = _Ratio(value)
        ratio.log = log
        return ratio
    return value


def _question(name: str, kind: type) -> Callable[..., Any]:
    plain = getattr(kind, name)

    def asked(self: Any, *others: Any) -> Any:
        where = _caller()
        if where is not None:
            self.log.asked((*where[:2], name), self, *others)
        return plain(self, *others)

    return asked


def _arithmetic(name: str, kind: type) -> Callable[..., Any]:
    plain = getattr(kind, name)

    def computed(self: Any, *others: Any) -> Any:
        self.log.used(self, *others)
        mixed = kind is int and len(others) == 1 and isinstance(others[0], float) and hasattr(float, name)
        found = getattr(float, name)(float(self), *others) if mixed else plain(self, *others)
        if isinstance(found, tuple):
            return tuple(_noting(value, self.log) for value in found)
        where = _caller()
        if found is NotImplemented or where is None:
            return found
        return self.log.taken(_noting(found, self.log), where)

    return computed


_QUESTIONS = ("__lt__", "__le__", "__gt__", "__ge__", "__eq__", "__ne__", "__bool__", "__hash__")
_ARITHMETIC = (
    *("__add__", "__radd__", "__sub__", "__rsub__", "__mul__", "__rmul__", "__floordiv__", "__rfloordiv__", "__mod__"),
    *(
        "__rmod__",
        "__truediv__",
        "__rtruediv__",
        "__pow__",
        "__rpow__",
        "__neg__",
        "__abs__",
        "__divmod__",
        "__round__",
    ),
    *("__and__", "__or__", "__rshift__", "__lshift__"),
)
for _kind, _base in ((_Count, int), (_Ratio, float)):
    for _name in _QUESTIONS:
        setattr(_kind, _name, _question(_name, _base))
    for _name in _ARITHMETIC:
        if hasattr(_base, _name):
            setattr(_kind, _name, _arithmetic(_name, _base))


class _Shape(tuple[int, ...]):
    """A shape whose numbers are noted when they are taken out."""

    log: _Log

    def __getitem__(self, index: SupportsIndex | slice) -> Any:
        """Return a number, or a part as a shape."""
        found = tuple.__getitem__(self, index)
        if isinstance(found, tuple):
            return _shape(found, self.log)
        return self._taken(found, _caller())

    def __iter__(self) -> Iterator[int]:
        """Yield the numbers."""
        frame = _frame()
        where = _caller()
        used = () if frame is None else _unpacked(frame.f_code, frame.f_lasti)
        numbers = list(tuple.__iter__(self))
        used = used if len(used) == len(numbers) else (True,) * len(numbers)
        return iter([self._taken(n, where) if wanted else n for n, wanted in zip(numbers, used, strict=True)])

    def _taken(self, number: Any, where: tuple[str, int, str] | None) -> Any:
        return number if where is None else self.log.taken(_noting(int(number), self.log), where)

    def numel(self) -> int:
        """Return the product, as `torch.Size` does."""
        product: int = 1
        for number in tuple.__iter__(self):
            product = product * number
        return product


def _shape(sizes: tuple[int, ...], log: _Log) -> _Shape:
    shape = _Shape(_noting(int(size), log) for size in sizes)
    shape.log = log
    return shape


class _Watch(TorchFunctionMode):
    """Hands out sizes of tensors as numbers that note what is asked of them."""

    def __init__(self, log: _Log) -> None:
        super().__init__()
        self.log = log

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """Run ``func``; of what asks for a size the answer is noted."""
        found = func(*args, **(kwargs or {}))
        if func == Tensor.shape.__get__ or func in (Tensor.size, Tensor.numel):  # type: ignore[attr-defined]
            where = _caller()
            if where is None:
                return found
            if isinstance(found, tuple):
                return _shape(found, self.log)
            return self.log.taken(_noting(found, self.log), where) if type(found) is int else found
        if func == Tensor.__len__ and (where := _caller()) is not None:  # the builtin hands out plain numbers only
            self.log.asked((*where[:2], "len"), _noting(found, self.log))
        self.log.used(*pytree.tree_leaves((args, kwargs)))
        return found


def _noted(value: Any, dense: Any, log: _Log) -> Any:
    """Return an attribute as it is watched: numbers in it that pruning has changed note what is asked of them."""
    if type(value) is int and type(dense) is int and value != dense:
        return _noting(value, log)
    if type(value) in (list, tuple) and type(dense) is type(value) and len(value) == len(dense):
        return type(value)(_noted(own, other, log) for own, other in zip(value, dense, strict=True))
    return value


def _attributes(model: nn.Module, other: nn.Module, log: _Log) -> None:
    """Let a model's attributes that differ from another's note what is asked of them."""
    others = dict(other.named_modules())
    for path, module in model.named_modules():
        if path in others and not isinstance(module, torch.jit.ScriptModule):
            own, dense = vars(module), vars(others[path])
            for name in own.keys() & dense.keys():
                if not name.startswith("_"):
                    own[name] = _noted(own[name], dense[name], log)


def questions(model: nn.Module, other: nn.Module, call: Callable[[nn.Module], object]) -> list[Question]:
    """Return what a forward asks of numbers that may be of channels, in order.

    Args:
        model: The model, which is changed.
        other: The same model with other numbers of channels, which tells what attributes they are.
        call: Runs a model.

    Raises:
        Exception: what the forward raises.
    """
    log = _Log()
    _attributes(model, other, log)
    with _Watch(log):
        call(model)
    return log.closed()


def depends(runs: list[list[Question]]) -> tuple[bool, set[int]]:
    """Return whether a forward asks differently with other numbers of channels, and the numbers that it compares those with.

    Args:
        runs: What it asked, with several numbers of channels.
    """
    if len({len(run) for run in runs}) > 1:
        return True, _constants(run for run in runs)
    found = False
    for asked in zip(*runs, strict=True):
        if len({question.where for question in asked}) > 1:
            return True, _constants(runs)
        if len({question.values for question in asked}) > 1 and not all(_equal(question) for question in asked):
            found = True
    return found, _constants(runs) if found else set()


def _equal(question: Question) -> bool:
    """Whether two watched numbers are the same: they are so whatever is pruned if they were in every run."""
    return len(question.values) == 2 and all(question.noted) and operator.eq(*question.values)


def _constants(runs: Any) -> set[int]:
    return {
        int(value)
        for run in runs
        for question in run
        for value, noted in zip(question.values, question.noted, strict=True)
        if not noted and abs(value) < 1e6
    }
