"""From a device's name to the device, and what computing there takes."""

from __future__ import annotations

import time

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


def clock(device: torch.device) -> float:
    """Return seconds that differences are taken of: CPU time of this process, which other work does not lengthen.

    On another device than the CPU it is wall time.
    """
    return time.process_time() if device.type == "cpu" else time.perf_counter()
