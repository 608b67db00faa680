"""How much of a long suite runs: a seeded sample in the gate, all of it under ``.ci/full`` (``AUTOPRUNE_SUITE=full``)."""

from __future__ import annotations

import os
import random
from collections.abc import Sequence
from typing import TypeVar

T = TypeVar("T")

FULL = os.environ.get("AUTOPRUNE_SUITE", "sample") == "full"
"""Whether every case runs."""
SEED = int(os.environ.get("AUTOPRUNE_SUITE_SEED", "0"))
"""Seed of the sample; another one runs other cases of the same suites."""


def count(full: int, sample: int) -> int:
    """Return how many cases to draw: ``full`` under ``.ci/full``, else ``sample``."""
    return full if FULL else min(sample, full)


def pick(cases: Sequence[T], sample: int) -> list[T]:
    """Return the cases to run, in their order: all of them under ``.ci/full``, else a seeded sample of ``sample``."""
    if FULL or sample >= len(cases):
        return list(cases)
    places = sorted(random.Random(SEED).sample(range(len(cases)), sample))
    return [cases[place] for place in places]
