"""One small registry for everything a user can plug in: agents, rewards, selections."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Collection, Iterator
from importlib import import_module
from importlib.metadata import entry_points
from typing import Generic, TypeVar, cast

from autoprune.errors import UsageError
from autoprune.registry._trust import require, trusted

T = TypeVar("T")


def nearest(name: str, known: list[str]) -> str:
    """Return `` Did you mean 'x'?`` for the known name nearest to ``name``, or an empty string."""
    close = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
    return f" Did you mean '{close[0]}'?" if close else ""


def import_object(spec: str, what: str) -> object:
    """Import ``package.module:name``.

    Raises:
        UsageError: if the module or the name in it does not exist, or if the module fails when it is imported.
        NotAllowedError: if a file names it and nobody else (see `autoprune.registry`).
    """
    module_name, _, attribute = spec.partition(":")
    if not all(part for name in (module_name, attribute) for part in name.split(".")):
        raise UsageError(f"The {what} '{spec}' cannot be imported: it must be like package.module:name.")
    require(spec, what)
    try:
        with trusted():
            found: object = import_module(module_name)
            for part in attribute.split("."):
                found = getattr(found, part)
    except (ImportError, AttributeError) as error:
        raise UsageError(f"The {what} '{spec}' cannot be imported: {str(error).rstrip('.')}.") from error
    except Exception as error:  # whatever the user's module raises
        raise UsageError(f"The {what} '{spec}' cannot be imported: {type(error).__name__}: {error}.") from error
    return found


class Registry(Generic[T]):
    """Names to plug-ins of one kind. Entry points are read when a name is first looked up, never on import.

    Args:
        kind: What is registered, in the singular, for messages ("agent").
        group: The entry-point group that other packages use to add to it ("autoprune.agents").
        reserved: Names that are found before the registry is asked, and so cannot be taken.
    """

    def __init__(self, kind: str, group: str, *, reserved: Collection[str] = ()) -> None:
        self.kind = kind
        self.group = group
        self._reserved = frozenset(reserved)
        self._items: dict[str, T] = {}

    def register(self, name: str) -> Callable[[T], T]:
        """Return a decorator that registers its argument under ``name``; a name already taken is refused."""

        def decorator(item: T) -> T:
            if name in self._items or name in self._reserved:
                raise UsageError(f"The {self.kind} '{name}' is already registered; choose another name.")
            self._items[name] = item
            return item

        return decorator

    def names(self) -> list[str]:
        """Return the sorted names of the built-in and the installed plug-ins."""
        return sorted({*self._items, *(point.name for point in entry_points(group=self.group))})

    def get(self, name: str) -> T:
        """Return what is registered under ``name``, or what ``package.module:name`` names.

        Raises:
            UsageError: for an unknown name; the message lists the known ones and the nearest.
        """
        if ":" in name:
            return cast(T, import_object(name, self.kind))
        if name not in self._items:
            for point in entry_points(group=self.group):
                if point.name == name:
                    self._items.setdefault(name, point.load())
        if name not in self._items:
            known = self.names()
            raise UsageError(f"Unknown {self.kind} '{name}'.{nearest(name, known)} Known: {', '.join(known)}.")
        return self._items[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self.names())
