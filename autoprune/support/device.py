"""From a device's name to the device."""

from __future__ import annotations

import torch

from autoprune.errors import UsageError


def resolve_device(device: str | torch.device) -> torch.device:
    """Return the torch device.

    Raises:
        UsageError: if the name is wrong, or CUDA is asked for where there is none.
    """
    try:
        found = torch.device(device)
    except (RuntimeError, TypeError, ValueError) as error:
        raise UsageError(f"Unknown device '{device!s:.60}'; give cpu or cuda (cuda:1, ...).") from error
    if found.type == "cuda" and not torch.cuda.is_available():
        raise UsageError(f"The device '{device}' was asked for but torch finds no CUDA here; use --device cpu.")
    return found
