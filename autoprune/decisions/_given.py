"""What is off limits as it is given from Python (modules, predicates, functions), turned into names."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from glob import escape
from typing import TypeAlias, cast

from torch import nn

from autoprune.decisions._restrictions import Restrictions, Share
from autoprune.errors import AutopruneError, UsageError

Bound: TypeAlias = float | tuple[float, float] | Sequence[float]
"""A fixed share of the channels that stays, or the least and the most."""
Ignore: TypeAlias = str | nn.Module | Iterable[str | nn.Module] | Callable[[str, nn.Module], bool]
"""Patterns over module paths, modules, or a predicate of (path, module)."""
Bounds: TypeAlias = Mapping[str, Bound] | Callable[[str, nn.Module], Bound | None]
"""A bound by pattern, or a function of (path, module) that returns one, or None for none."""
_COMPUTED = ".parametrizations"
"""Modules that compute a weight; the small network does not have them."""


def restrictions_of(model: nn.Module, ignore: Ignore | None = None, bounds: Bounds | None = None) -> Restrictions:
    """Return what is off limits as plain data; what a predicate or function says is recorded as names.

    Args:
        model: The network.
        ignore: Modules whose channels all stay.
        bounds: What share of the channels of others stays.

    Raises:
        UsageError: for what is of another type, out of range, or means nothing in this network.
    """
    return Restrictions(_ignored(model, ignore), _bounded(model, bounds))


def _ignored(model: nn.Module, ignore: Ignore | None) -> tuple[str, ...]:
    if ignore is None:
        return ()
    if isinstance(ignore, str | nn.Module):
        ignore = (ignore,)
    if callable(ignore):
        names = [escape(name) for name, module in _modules(model) if _asked(ignore, "ignore", name, module)]
        if not names:
            raise UsageError("The predicate given as ignore is true for no module of the network; leave it out.")
        return tuple(names)
    if not isinstance(ignore, Iterable):
        raise UsageError(
            f"What is ignored is a {type(ignore).__name__}, but must be patterns, modules or a predicate of (path, module)."
        )
    return tuple(dict.fromkeys(_pattern(model, one) for one in ignore))


def _pattern(model: nn.Module, one: object) -> str:
    if isinstance(one, str):
        return one
    if not isinstance(one, nn.Module):
        raise UsageError(f"What is ignored has a {type(one).__name__} in it, but must be patterns or modules.")
    for name, module in _modules(model):
        if module is one:
            return escape(name)
    raise UsageError(
        f"A module that is to be ignored ({type(one).__name__}) is not part of the network; give one of its own modules."
    )


def _bounded(model: nn.Module, bounds: Bounds | None) -> dict[str, Share]:
    if bounds is None:
        return {}
    if isinstance(bounds, Mapping):
        return {_pattern(model, pattern): as_share(str(pattern), bound) for pattern, bound in bounds.items()}
    if not callable(bounds):
        raise UsageError(
            f"The bounds are a {type(bounds).__name__}, but must be a mapping of patterns to a number or (least, most), or a "
            "function of (path, module)."
        )
    answers = ((name, _asked(bounds, "bounds", name, module)) for name, module in _modules(model))
    found = {escape(name): as_share(name, answer) for name, answer in answers if answer is not None}
    if not found:
        raise UsageError("The function given as bounds returns None for every module of the network; leave it out.")
    return found


def _modules(model: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    """Return the modules with weights by path, each under its first name, but not the network itself."""
    for name, module in model.named_modules():
        if name and _COMPUTED not in f".{name}" and any(True for _ in (*module.parameters(), *module.buffers())):
            yield name, module


def _asked(function: Callable[[str, nn.Module], object], what: str, name: str, module: nn.Module) -> object:
    try:
        return function(name, module)
    except AutopruneError:
        raise
    except Exception as error:
        raise UsageError(
            f"The function given as {what} raised {type(error).__name__}: {error}, for '{name}'; it is called with the path of "
            "every module and the module."
        ) from error


def as_share(pattern: str, bound: object) -> Share:
    """Read a number, or the least and the most share.

    Args:
        pattern: Whose it is, for messages.
        bound: What was given.

    Raises:
        UsageError: if it is neither.
    """
    values = (bound, bound) if isinstance(bound, int | float) else bound
    if (
        not isinstance(values, Sequence)
        or len(values) != 2
        or not all(isinstance(value, int | float) and not isinstance(value, bool) for value in values)
    ):
        raise UsageError(
            f"The bounds of '{pattern}' are {bound!r:.60}, but must be a number, or the least and the most share of the channels."
        )
    low, high = cast(Sequence[float], values)
    return float(low), float(high)
