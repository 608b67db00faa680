"""Weights: read them without running anything, check that they fit, and tell two sets of them apart."""

from __future__ import annotations

import logging
import pickle
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor, nn

from autoprune.errors import UsageError
from autoprune.models._entries import Say, find_state, fitting
from autoprune.support.fingerprint import fingerprint
from autoprune.support.reading import reading
from autoprune.support.tensors import load_safetensors

_log = logging.getLogger(__name__)


def read_weights(path: str | Path, *, say: Say = _log.warning) -> dict[str, Tensor]:
    """Read a state dict from ``.safetensors``, or with torch's weights-only reader from anything else (``.pth``, ``.pt``).

    A dict that wraps the state dict ("state_dict", "model", ...) is opened; averaged weights ("state_dict_ema", "ema", ...) are
    taken where there are no others, or where they are asked for: ``FILE#state_dict_ema``.

    Args:
        path: The file, or ``FILE#ENTRY``.
        say: Told which entry was taken where there is a choice.

    Raises:
        UsageError: if the file is missing, damaged, or holds anything but tensors.
    """
    named, path = str(path), Path(path)
    entry = None
    if not path.is_file() and "#" in named:
        named, _, entry = named.rpartition("#")
        path = Path(named)
    if not path.is_file():
        raise UsageError(f"The weights '{path}' are not there; give the path of a .safetensors or .pth file.")
    try:
        if path.suffix == ".safetensors":
            return find_state(load_safetensors(path), named, entry, say)
        with reading(f"The weights '{path}'", "save them again", fault="cannot be read", passes=pickle.UnpicklingError):
            found = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise UsageError(
            f"The weights '{path}' hold more than tensors (or are damaged), and other objects are never loaded; "
            "save the state dict alone, best as .safetensors."
        ) from error
    return find_state(found, named, entry, say)


def load_into(model: nn.Module, state: Mapping[str, Tensor], *, weights: str, say: Say = _log.warning) -> None:
    """Copy ``state`` into ``model``, all of it or nothing.

    ``num_batches_tracked`` may be missing, and so may a tied tensor of which another name is there. A prefix that wrappers put
    before all names ("module.", "model.", "_orig_mod.") is taken off, and what profilers add ("total_ops") is left out.

    Args:
        model: The network.
        state: Names to tensors.
        weights: What the user called them, for messages.
        say: Told what was left out.

    Raises:
        UsageError: if keys or shapes differ (the first three of each are named), or if a value is NaN or infinite.
    """
    own = model.state_dict()
    first_names = {_identity(value): name for name, value in reversed(own.items())}
    state = fitting(
        [name for name in first_names.values() if not name.endswith("num_batches_tracked")], state, weights, say
    )
    given = {_identity(own[name]) for name in own if name in state}
    missing = [name for name in own if name not in state and _identity(own[name]) not in given]
    missing = [name for name in missing if not name.endswith("num_batches_tracked")]
    unknown = [name for name in state if name not in own]
    shapes = [
        f"{name} is {_shape(state[name])}, not {_shape(own[name])}"
        for name in own
        if name in state and state[name].shape != own[name].shape
    ]
    problems = [
        f"{what} {_first(names)}"
        for what, names in (("missing:", missing), ("not in the model:", unknown), ("other shape:", shapes))
        if names
    ]
    if problems:
        raise UsageError(
            f"The weights '{weights}' do not fit the model ({'; '.join(problems)}); give the weights of this very network."
        )
    check_finite(state, weights=weights)
    model.load_state_dict(dict(state), strict=False)


def _identity(tensor: Tensor) -> tuple[object, ...]:
    """Return what two names of one tied tensor have in common."""
    return (tensor.data_ptr(), tuple(tensor.shape), tensor.stride())


def _first(names: list[str], count: int = 3) -> str:
    more = f" and {len(names) - count} more" if len(names) > count else ""
    return ", ".join(names[:count]) + more


def _shape(tensor: Tensor) -> str:
    return "x".join(str(size) for size in tensor.shape) or "scalar"


def check_finite(state: Mapping[str, Tensor], *, weights: str) -> None:
    """Refuse NaN and infinite values.

    Raises:
        UsageError: naming the first tensor that holds one.
    """
    for name, tensor in state.items():
        if tensor.is_floating_point() and not bool(torch.isfinite(tensor).all()):
            raise UsageError(
                f"The weights '{weights}' hold NaN or infinite values in '{name}'; train or save them again."
            )


def state_fingerprint(state: Mapping[str, Tensor]) -> str:
    """Return the SHA-256 (hex) of a state dict: names, types, shapes and values, whatever their order."""
    return fingerprint((name, state[name]) for name in sorted(state))
