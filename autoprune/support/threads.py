"""How many threads torch computes with, for a while."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from autoprune.errors import UsageError


@contextmanager
def pinned_threads(threads: int | None) -> Iterator[int]:
    """Let torch compute with so many threads (None: as many as it does now); gives the number.

    Raises:
        UsageError: for less than one.
    """
    before = torch.get_num_threads()
    if threads is not None and threads < 1:
        raise UsageError(f"The number of threads is {threads}, but must be at least 1.")
    torch.set_num_threads(before if threads is None else threads)
    try:
        yield torch.get_num_threads()
    finally:
        torch.set_num_threads(before)
