"""Whether a training step is faster in bfloat16 on this machine: measured, not guessed."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import AbstractContextManager

import torch

_ROUNDS = 2


def autocast(device: torch.device, precision: str) -> AbstractContextManager[object]:
    """Return the context in which forward passes run: autocast to bfloat16 for "bf16", nothing for "fp32"."""
    return torch.autocast(device.type, torch.bfloat16, enabled=precision == "bf16")


def faster(step: Callable[[str], object], device: torch.device) -> str:
    """Return "bf16" or "fp32", whichever takes less time for one step each (the least of two after one to warm up).

    Args:
        step: Does one training step in the precision it is given.
        device: Where.
    """
    return min(("fp32", "bf16"), key=lambda precision: _seconds(step, precision, device))


def _seconds(step: Callable[[str], object], precision: str, device: torch.device) -> float:
    times = []
    for _ in range(_ROUNDS + 1):
        _wait(device)
        started = time.perf_counter()
        step(precision)
        _wait(device)
        times.append(time.perf_counter() - started)
    return min(times[1:])


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
