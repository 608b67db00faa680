"""One small registry for everything a user can plug in: agents, rewards, selections."""

from __future__ import annotations

import difflib
import hashlib
import sys
from collections.abc import Callable, Collection, Iterator
from importlib import import_module
from importlib.metadata import entry_points
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType
from typing import Generic, TypeVar, cast

from autoprune.errors import UsageError
from autoprune.registry._trust import require, trusted

T = TypeVar("T")


def nearest(name: str, known: list[str]) -> str:
    """Return `` Did you mean 'x'?`` for the known name nearest to ``name``, or an empty string."""
    close = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
    return f" Did you mean '{close[0]}'?" if close else ""


def import_object(spec: str, what: str) -> object:
    """Import ``package.module:name`` or ``path/to/file.py:name``.

    Args:
        spec: The specification.
        what: What it is for, for messages ("model").

    Raises:
        UsageError: if the module or the name in it does not exist, or if the module fails when it is imported.
        NotAllowedError: if a file names it and nobody else (see `autoprune.registry`).
    """
    module_name, _, attribute = spec.rpartition(":")
    is_file = module_name.endswith(".py")
    if not all([*([] if is_file else module_name.split(".")), *attribute.split(".")]):
        raise UsageError(
            f"The {what} '{spec}' cannot be imported: it must be like package.module:name or path/to/file.py:name."
        )
    require(spec, what)
    try:
        with trusted():
            found: object = _import_file(Path(module_name)) if is_file else import_module(module_name)
            for part in attribute.split("."):
                if is_file and not hasattr(found, part):
                    raise AttributeError(f"'{module_name}' has no '{part}'")
                found = getattr(found, part)
    except (ImportError, AttributeError) as error:
        raise UsageError(f"The {what} '{spec}' cannot be imported: {str(error).rstrip('.')}.") from error
    except Exception as error:  # whatever the user's module raises
        raise UsageError(f"The {what} '{spec}' cannot be imported: {type(error).__name__}: {error}.") from error
    return found


def _import_file(path: Path) -> ModuleType:
    """Import a source file under a name made from its path, its folder being importable meanwhile."""
    path = path.expanduser().resolve()
    if not path.is_file():
        raise ImportError(f"there is no file '{path}'")
    name = f"_autoprune_{path.stem}_{hashlib.sha256(str(path).encode()).hexdigest()[:8]}"
    if name in sys.modules:
        return sys.modules[name]
    module_spec = spec_from_file_location(name, path)
    if module_spec is None or module_spec.loader is None:
        raise ImportError(f"'{path}' is no Python source file")
    module = module_from_spec(module_spec)
    sys.modules[name] = module
    sys.path.insert(0, str(path.parent))
    try:
        module_spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise
    finally:
        sys.path.remove(str(path.parent))
    return module


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
