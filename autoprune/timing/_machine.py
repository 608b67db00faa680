"""What times were measured with."""

from __future__ import annotations

import os
import platform
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch

from autoprune.support.threads import pinned_threads
from autoprune.timing._allocator import kept_memory


def cpu_name() -> str:
    """Return the processor's name, as far as the system tells it."""
    with suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines():
            key, _, name = line.partition(":")
            if key.strip() == "model name" and name.strip():
                return name.strip()
    return platform.processor() or platform.machine()


def package_version(name: str) -> str | None:
    """Return a package's version, None if it is not installed."""
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def load_average() -> float | None:
    """Return how many processes wanted a processor during the last minute, None where the system does not tell."""
    try:
        return round(os.getloadavg()[0], 2)
    except (AttributeError, OSError):
        return None


def processors() -> int:
    """Return how many processors this process may use."""
    try:
        return len(os.sched_getaffinity(0))
    except AttributeError:  # not on every system
        return os.cpu_count() or 1


def busy_note(threads: int, load: float | None) -> str | None:
    """Return what is to be said of a machine that has not enough processors left for so many threads; None if it has."""
    if load is None or load + threads <= processors() + 0.5:
        return None
    return (
        f"The machine is busy: {load:.1f} processes wanted its {processors()} processors during the last minute, and {threads} "
        f"more thread{'s wait' if threads > 1 else ' waits'} for them; time again when it is quiet"
        + (", or with one thread" if threads > 1 else "")
    )


@contextmanager
def measuring(threads: int | None, say: Callable[[str], None]) -> Iterator[dict[str, Any]]:
    """Let torch compute with so many threads and freed memory be kept, and say so if the machine is busy.

    Args:
        threads: How many; None for as many as torch uses now.
        say: Told what is to be said of a busy machine.

    Returns:
        What is measured with, JSON-ready: ``threads``, ``cpu``, ``load`` (processes that wanted a processor in the minute
        before), ``torch``, ``onnxruntime`` (None where it is not installed), ``memory_kept`` (see
        `autoprune.timing._allocator.kept_memory`).

    Raises:
        UsageError: for less than one thread.
    """
    load = load_average()
    with pinned_threads(threads) as count, kept_memory() as kept:
        if note := busy_note(count, load):
            say(note)
        yield {
            "threads": count,
            "cpu": cpu_name(),
            "load": load,
            "torch": torch.__version__,
            "onnxruntime": package_version("onnxruntime"),
            "memory_kept": kept,
        }
