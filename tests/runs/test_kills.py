"""A search that is killed at any moment loses nothing and does nothing twice."""

from __future__ import annotations

from .._kills import trial
from .._sample import SEED, count


def test_killed_and_continued_is_the_undisturbed_run() -> None:
    """About two kills a trial: 100 in all under ``.ci/full``, 1,000 with ``benchmarks/kill.py``."""
    for seed in range(count(65, 4)):
        found = trial(1000 * SEED + seed)
        assert found.outcome == found.undisturbed, found.done
