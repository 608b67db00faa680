"""Weights: read them without running anything, check that they fit, and tell two sets of them apart."""

from __future__ import annotations

import pickle
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from autoprune.errors import UsageError
from autoprune.files import load_safetensors
from autoprune.fingerprint import fingerprint

_WRAPPERS = ("state_dict", "model_state_dict", "model", "net", "weights")


def read_weights(path: str | Path) -> dict[str, Tensor]:
    """Read a state dict from ``.safetensors``, or with torch's weights-only reader from anything else (``.pth``, ``.pt``).

    A dict that wraps the state dict ("state_dict", "model", ...) is opened, a prefix "module." that all keys share is taken off.

    Raises:
        UsageError: if the file is missing, damaged, or holds anything but tensors.
    """
    path = Path(path)
    if not path.is_file():
        raise UsageError(f"The weights '{path}' are not there; give the path of a .safetensors or .pth file.")
    try:
        if path.suffix == ".safetensors":
            return _unwrap(load_safetensors(path), path)
        found = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise UsageError(
            f"The weights '{path}' hold more than tensors (or are damaged), and other objects are never loaded; "
            "save the state dict alone, best as .safetensors."
        ) from error
    except (RuntimeError, EOFError, OSError, KeyError) as error:
        raise UsageError(f"The weights '{path}' cannot be read ({_first_line(error)}); save them again.") from error
    return _unwrap(found, path)


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0][:200]


def _unwrap(found: Any, path: Path) -> dict[str, Tensor]:
    for _ in range(2):
        if isinstance(found, Mapping):
            inner = next((found[name] for name in _WRAPPERS if isinstance(found.get(name), Mapping)), None)
            found = found if inner is None else inner
    if not isinstance(found, Mapping) or not found or not all(isinstance(value, Tensor) for value in found.values()):
        raise UsageError(f"The weights '{path}' are no state dict (names to tensors); save model.state_dict().")
    state = {str(name): value for name, value in found.items()}
    if all(name.startswith("module.") for name in state):
        state = {name.removeprefix("module."): value for name, value in state.items()}
    return state


def load_into(model: nn.Module, state: Mapping[str, Tensor], *, weights: str) -> None:
    """Copy ``state`` into ``model``, all of it or nothing.

    ``num_batches_tracked`` may be missing, and so may a tied tensor of which another name is there.

    Args:
        model: The network.
        state: Names to tensors.
        weights: What the user called them, for messages.

    Raises:
        UsageError: if keys or shapes differ (the first three of each are named), or if a value is NaN or infinite.
    """
    own = model.state_dict()
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
