"""Numbers that a model's own code cuts channels by: attributes of its modules such as ``self.splits`` or ``self.width``.

A forward that writes ``torch.split(x, self.splits, 1)`` works with fewer channels if ``splits`` says the new counts. Which
attribute a number comes from is read off the source line and the attributes' values; that it is right, the proof finds out.
"""

from __future__ import annotations

import inspect
import linecache
import re
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass

import torch
from torch import nn
from torch.fx import Node

FRAME = re.compile(r'File "([^"]+)", line (\d+)')
"""A frame in the stack trace that a traced node keeps: file and line."""
_OWN = re.compile(r"\bself\.(\w+)")
_STATEMENT_LINES = 6
_VIEWS = re.compile(r"\.(?:view|reshape)\(((?:[^()]|\([^()]*\))*)\)")
_COMMA = re.compile(r",(?![^(]*\))")


@dataclass(frozen=True)
class Source:
    """An attribute of a module, or one of the numbers in it.

    Attributes:
        module: Path of the module.
        attribute: Name of the attribute.
        item: Place of the number in a list or tuple; None if the attribute is the number.
    """

    module: str
    attribute: str
    item: int | None = None


def _read(module: nn.Module) -> dict[str, tuple[int, ...]]:
    """Return the attributes that hold a number (as a tuple of one) or a list of numbers."""
    own: dict[str, tuple[int, ...]] = {}
    for name, value in vars(module).items():
        if type(value) is int and value > 0:
            own[name] = (value,)
        elif isinstance(value, (list, tuple)) and len(value) > 1 and all(type(v) is int for v in value):
            own[name] = tuple(value)
    return own


def _statement(node: Node) -> str:
    """Return the source of the statement that a node comes from (and of what follows it within a few lines)."""
    frames = FRAME.findall(str(node.meta.get("stack_trace") or ""))
    if not frames:
        return ""
    file, first = frames[-1][0], int(frames[-1][1])
    text = ""
    for number in range(first, first + _STATEMENT_LINES):
        text += linecache.getline(file, number)
        if text.count("(") <= text.count(")"):
            break
    return text


def _source(kind: type[nn.Module]) -> str:
    """Return the source of a class's methods, inherited ones too, but for constructors and those of torch's own classes."""
    texts = []
    for base in kind.__mro__:
        if base.__module__.startswith("torch.nn."):
            continue
        for name, value in vars(base).items():
            if name != "__init__" and inspect.isfunction(value):
                with suppress(OSError, TypeError):  # made without a file
                    texts.append(inspect.getsource(value))
    return "\n".join(texts)


class SizeFinder:
    """Finds the attributes that numbers in a traced program come from.

    Args:
        model: The model that was traced.
    """

    def __init__(self, model: nn.Module) -> None:
        self._modules = {
            path: module for path, module in model.named_modules() if not isinstance(module, torch.jit.ScriptModule)
        }
        self._sources: dict[int, str] = {}

    def _module(self, node: Node) -> tuple[str, nn.Module | None]:
        """Return the module that a node was called in, and its path."""
        stack = list((node.meta.get("nn_module_stack") or {}).values())
        path = str(stack[-1][0]) if stack else ""
        return path, self._modules.get(path) if stack else None

    def _source(self, kind: type[nn.Module]) -> str:
        if id(kind) not in self._sources:
            self._sources[id(kind)] = _source(kind)
        return self._sources[id(kind)]

    def _candidates(self, node: Node, values: tuple[int, ...]) -> tuple[str, list[str]]:
        """Return the path of the module that a node was called in, and its attributes that ``values`` may come from.

        They are those that the node's statement names; where it names no number (the traced frame is a call of another
        method), the only one that any method names.
        """
        path, module = self._module(node)
        if module is None:
            return path, []
        own = _read(module)
        named = set(_OWN.findall(_statement(node))) & own.keys()
        if named:
            return path, sorted(name for name in named if own[name] == values)
        fitting = [
            name for name in sorted(set(_OWN.findall(self._source(type(module)))) & own.keys()) if own[name] == values
        ]
        return path, fitting if len(fitting) == 1 else []

    def number(self, node: Node, value: int) -> list[Source]:
        """Return the attributes that say ``value`` in the statement of a node."""
        path, names = self._candidates(node, (value,))
        return [Source(path, name) for name in names]

    def dims(self, node: Node, shape: Sequence[int]) -> list[Source | None]:
        """Return for each dimension of a view the attribute that its code names there (``x.view(n, self.heads, -1)``).

        That is looked for in the node's statement, and where it is not there (the traced frame is a call of another method),
        in all methods.
        """
        path, module = self._module(node)
        own = {} if module is None else _read(module)
        for text in (_statement(node), *([] if module is None else [self._source(type(module))])):
            fitting: dict[tuple[Source | None, ...], None] = {}
            for found in _VIEWS.findall(text):
                words = [word.strip() for word in _COMMA.split(found.strip().strip("()"))]
                names = [match.group(1) if (match := _OWN.fullmatch(word)) else "" for word in words]
                if len(names) == len(shape):
                    sizes = zip(names, shape, strict=True)
                    fitting[tuple(Source(path, name) if own.get(name) == (size,) else None for name, size in sizes)] = (
                        None
                    )
            fitting.pop((None,) * len(shape), None)
            if len(fitting) == 1:
                return list(next(iter(fitting)))
        return [None] * len(shape)

    def numbers(self, node: Node, values: Sequence[int]) -> list[Source]:
        """Return the items of the list that the statement of a node names and that equals ``values``; or nothing."""
        path, names = self._candidates(node, tuple(values))
        return [Source(path, names[0], item) for item in range(len(values))] if len(names) == 1 < len(values) else []
