"""Which entry of a weights file is a network's state: wrappers, averaged weights, prefixes, and what profilers leave behind."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from torch import Tensor

from autoprune.errors import UsageError

PLAIN = ("state_dict", "model_state_dict", "model_state", "model", "net", "network", "weights", "params", "module")
"""Keys under which training code saves a network's state, the likeliest first."""
AVERAGED = (
    "state_dict_ema",
    "ema_state_dict",
    "model_state_dict_ema",
    "model_ema_state_dict",
    "model_ema",
    "ema_model",
    "net_ema",
    "params_ema",
    "ema",
    "swa_model",
)
"""Keys of moving averages of it."""
_LEFT_BEHIND = ("total_ops", "total_params", "n_averaged")
_NESTED = 3  # wrappers in wrappers that are opened
State = dict[str, Tensor]
Say = Callable[[str], None]


def find_state(found: Any, weights: str, entry: str | None, say: Say) -> State:
    """Open the wrappers around a state dict.

    Args:
        found: What the file holds.
        weights: What the user called it, for messages.
        entry: The entry to take, where the user named one.
        say: Told what was taken where there was a choice.

    Raises:
        UsageError: if there is no state dict, or not under this entry.
    """
    opened = entry is None
    for _ in range(_NESTED):
        if _is_state(found) or not isinstance(found, Mapping):
            break
        held = [name for name in (*PLAIN, *AVERAGED) if isinstance(found.get(name), Mapping) and found[name]]
        if entry is not None and entry in found:
            name, opened = entry, True
        elif held:
            name = held[0]
            if not opened:
                _refuse_entry(weights, entry, held)
            _tell(name, [other for other in held if other in AVERAGED and other != name], weights, say)
        else:
            break
        found, entry = found[name], None
    if not opened:
        _refuse_entry(weights, entry, [])
    if not _is_state(found):
        raise UsageError(f"The weights '{weights}' are no state dict (names to tensors); save model.state_dict().")
    return {str(name): value for name, value in found.items()}


def _refuse_entry(weights: str, entry: str | None, held: Sequence[str]) -> None:
    there = f"There are: {', '.join(held)}" if held else "They have no entries"
    raise UsageError(f"The weights '{weights}' have no entry '{entry}'. {there}.")


def _tell(name: str, averaged: Sequence[str], weights: str, say: Say) -> None:
    if name in AVERAGED:
        say(f"Of '{weights}' the averaged weights '{name}' are taken")
    elif averaged:
        say(
            f"Of '{weights}' the entry '{name}' is taken; it also has averaged weights, for which give "
            f"{weights}#{averaged[0]}"
        )


def _is_state(found: Any) -> bool:
    return isinstance(found, Mapping) and bool(found) and all(isinstance(value, Tensor) for value in found.values())


def fitting(own: Sequence[str], state: Mapping[str, Tensor], weights: str, say: Say) -> dict[str, Tensor]:
    """Return the state under the names of the network: without a prefix that wrappers put before them, nor what profilers add.

    Args:
        own: Names that the network cannot do without.
        state: Names to tensors.
        weights: What the user called them, for messages.
        say: Told what was taken where there was a choice, and what was left out.

    Raises:
        UsageError: if several networks in the file fit.
    """
    left = [name for name in state if name.rpartition(".")[2] in _LEFT_BEHIND and name not in own]
    if left:
        kinds = ", ".join(sorted({name.rpartition(".")[2] for name in left}))
        say(f"Of '{weights}' {len(left)} entries are left out that are no weights ({kinds})")
        state = {name: value for name, value in state.items() if name not in set(left)}
    if not own or set(own) <= set(state):
        return dict(state)
    prefixes = _prefixes(own, state)
    plain = [prefix for prefix in prefixes if not _is_averaged(prefix)]
    if len(plain) > 1:
        raise UsageError(
            f"The weights '{weights}' hold several networks that fit, under {' and '.join(map(repr, plain[:3]))}; save the state "
            "of the one that is meant."
        )
    if not prefixes:
        return _unwrapped(own, state)
    prefix = (plain or prefixes)[0]
    found = {name.removeprefix(prefix): value for name, value in state.items() if name.startswith(prefix)}
    others = sorted({name.split(".")[0] for name in state if not name.startswith(prefix)})
    if others:
        rest = f"; left out is what is under {', '.join(map(repr, others[:3]))}"
        say(f"Of '{weights}' the weights under '{prefix.rstrip('.')}' are taken{rest}")
    return found


def _prefixes(own: Sequence[str], state: Mapping[str, Tensor]) -> list[str]:
    """Return the prefixes under which all of a network's names are there, the shortest first."""
    anchor = max(own, key=len)
    found = [name.removesuffix(anchor) for name in state if name.endswith(f".{anchor}")]
    return sorted(
        (prefix for prefix in found if all(prefix + name in state for name in own)), key=lambda p: (len(p), p)
    )


def _is_averaged(prefix: str) -> bool:
    return any(part in AVERAGED for part in prefix.split("."))


def _unwrapped(own: Sequence[str], state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Take off the prefix that all names share and the network's do not; so that what does not fit is named without it."""
    found = dict(state)
    while found and not set(own) & set(found):
        first = next(iter(found)).partition(".")[0] + "."
        if not all(name.startswith(first) for name in found):
            return dict(state)
        found = {name.removeprefix(first): value for name, value in found.items()}
    return found
