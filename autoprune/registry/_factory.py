"""The user's own code as a plug-in: ``package.module:factory`` and ``path/to/file.py:factory``."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import Any

from autoprune.errors import AutopruneError, UsageError
from autoprune.registry._registry import import_object
from autoprune.registry._trust import trusted


def is_factory(spec: str) -> bool:
    """Return whether ``spec`` has the form ``module:factory`` (the part behind the last colon is a name)."""
    module, colon, name = spec.rpartition(":")
    return bool(module and colon) and name.replace(".", "").isidentifier()


def find_factory(spec: str, what: str) -> Callable[..., Any]:
    """Import what ``package.module:factory`` or ``path/to/file.py:factory`` names.

    Args:
        spec: The specification.
        what: What it is for, for messages ("model").

    Raises:
        UsageError: if it does not exist, cannot be imported or cannot be called.
        NotAllowedError: if a file names it and nobody else (see `autoprune.registry`).
    """
    found = import_object(spec, what)
    if not callable(found):
        raise UsageError(
            f"The {what} '{spec}' is a {type(found).__name__} and cannot be called; name a function or a class."
        )
    return found


def call_factory(spec: str, what: str, options: Mapping[str, Any], *, factory: Callable[..., Any] | None = None) -> Any:
    """Call a factory with those of ``options`` that it has a parameter for (all of them with ``**kwargs``).

    Args:
        spec: Its specification, or its registered name.
        what: What it is for, for messages ("model").
        options: What it may have parameters for.
        factory: The factory, where it was found already.

    Raises:
        UsageError: if it cannot be found.
        AutopruneError: if it raises.
    """
    factory = find_factory(spec, what) if factory is None else factory
    try:
        parameters = inspect.signature(factory).parameters.values()
        names = {parameter.name for parameter in parameters}
        takes_all = any(parameter.kind is inspect.Parameter.VAR_KEYWORD for parameter in parameters)
    except (TypeError, ValueError):  # some built-in callables have no signature
        names, takes_all = set(), False
    try:
        with trusted():
            return factory(**{name: value for name, value in options.items() if takes_all or name in names})
    except AutopruneError:
        raise
    except Exception as error:
        raise AutopruneError(f"The {what} '{spec}' failed: {type(error).__name__}: {error}.") from error
