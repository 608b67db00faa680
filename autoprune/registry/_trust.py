"""What a process may import by name: what its command line, its Python call or `allow` names, never what a file names.

Run folders, policies and the records of exports say how a model, data, a reward, an agent, a selection or a cost is made:
``package.module:function`` or ``path/to/file.py:function``. To make it is to run it, and the file may be a stranger's. So
everything that is imported by such a name passes `require` (in `autoprune.registry.import_object` and
`autoprune.registry.find_factory`), which refuses names that nobody in this process gave. Built-in names, torchvision's, and
what installed packages register as entry points need no leave.

The command line is closed for its whole duration (`only`). From Python, what is passed to a function is the caller's own, and
functions that read names from files close themselves (`only_named_by`).
"""

from __future__ import annotations

import inspect
import re
import shlex
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import wraps
from typing import ParamSpec, TypeVar

from autoprune.errors import UsageError

P = ParamSpec("P")
R = TypeVar("R")


class NotAllowedError(UsageError):
    """A file names code that nobody in this process named."""


@dataclass(frozen=True)
class _Scope:
    """Who may name what, for the duration of a ``with`` block.

    Attributes:
        closed: Whether only ``names`` may be imported.
        names: These names.
        command: The command line's arguments, for the message; None in Python.
    """

    closed: bool = False
    names: frozenset[str] = frozenset()
    command: tuple[str, ...] | None = None


_allowed: set[str] = set()
_scopes: list[_Scope] = [_Scope()]


def allow(*names: str) -> None:
    """Let files name these in this process, as ``--allow`` does on the command line.

        autoprune.registry.allow("my_nets:make_net", "my_data.py:load")

    Args:
        *names: Each exactly as the file has it.

    Raises:
        UsageError: for something that is no such name.
    """
    for name in names:
        check_name(name)
    _allowed.update(names)


def check_name(name: str) -> None:
    """Refuse what cannot be the name of code.

    Raises:
        UsageError: saying what can.
    """
    module, colon, function = str(name).rpartition(":")
    if not (module and colon) or not function.replace(".", "").isidentifier():
        raise UsageError(
            f"'{name}' cannot be allowed; give package.module:function or path/to/file.py:function, as the file names it."
        )


def require(spec: str, what: str) -> None:
    """Refuse to import what a file names.

    Args:
        spec: What is about to be imported.
        what: What it is for, for the message ("model").

    Raises:
        NotAllowedError: if only named code may be imported now and nobody named this; says what to type.
    """
    scope = _scopes[-1]
    if not scope.closed or spec in scope.names or spec in _allowed:
        return
    if scope.command is None:
        how = f"autoprune.registry.allow({spec!r})"
    else:
        how = shlex.join(["autoprune", *scope.command, "--allow", spec])
    raise NotAllowedError(
        f"The {what} '{spec}' is named by a file, and to import it would run that code; if you trust it: {how}"
    )


@contextmanager
def only(names: Iterable[str], *, command: Sequence[str] | None = None) -> Iterator[None]:
    """Let only these names (and those allowed) be imported, within a ``with`` block.

    Args:
        names: What the caller named.
        command: The command line's arguments, if it was that.
    """
    with _entered(_Scope(True, frozenset(names), None if command is None else tuple(command))):
        yield


@contextmanager
def trusted() -> Iterator[None]:
    """Let anything be imported while code runs that was named, within a ``with`` block: it may use autoprune itself."""
    with _entered(_Scope()):
        yield


@contextmanager
def _entered(scope: _Scope) -> Iterator[None]:
    _scopes.append(scope)
    try:
        yield
    finally:
        _scopes.pop()


def only_named_by(*arguments: str) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """Return a decorator for functions that read names from files: only what these of its arguments name is imported.

    Called from the command line it adds nothing to what that names. What a Python call names stays named in the process.
    """

    def decorator(function: Callable[P, R]) -> Callable[P, R]:
        signature = inspect.signature(function)

        @wraps(function)
        def inner(*args: P.args, **kwargs: P.kwargs) -> R:
            if _scopes[-1].closed:
                return function(*args, **kwargs)
            given = signature.bind(*args, **kwargs).arguments
            _allowed.update(name for key in arguments for name in _names(given.get(key)))
            with only(()):
                return function(*args, **kwargs)

        return inner

    return decorator


def _names(value: object) -> Iterator[str]:
    """Go through the names in what was passed: text, lists and mappings of it, and the kinds of a budget's costs."""
    if isinstance(value, str):
        yield from named_in([value])
    elif isinstance(value, Mapping):
        for item in value.values():
            yield from _names(item)
    elif isinstance(value, list | tuple):
        for item in value:
            yield from _names(item)
    else:
        yield from getattr(value, "kinds", ())


def named_in(arguments: Iterable[str]) -> frozenset[str]:
    """Return what a command line names: its arguments, and the parts of lists and assignments in them."""
    found: set[str] = set()
    for text in arguments:
        found.update((text, text.partition("=")[2], *re.split(r"[,=]", text)))
    return frozenset(name.strip() for name in found if ":" in name)
