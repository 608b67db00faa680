"""A search that is killed at any moment loses nothing and does nothing twice."""

from __future__ import annotations

from pathlib import Path

import pytest

from autoprune.searching._kept import remove_kept

from .._kills import AGENTS, GOALS, Case, trial, undisturbed
from .._sample import SEED, count, pick


def test_killed_and_continued_is_the_undisturbed_run() -> None:
    """About two kills a trial: 100 in all under ``.ci/full``, 1,000 with ``benchmarks/kill.py``."""
    for seed in range(count(65, 4)):
        found = trial(1000 * SEED + seed)
        assert found.outcome == found.undisturbed, found.done


@pytest.mark.parametrize(("agent", "goal"), pick([(agent, goal) for agent in AGENTS for goal in range(len(GOALS))], 5))
def test_with_two_workers_a_run_is_the_same_run(agent: str, goal: int) -> None:
    """Whose policy a network is, where several agents proposed it, does not hang on who was faster."""
    one = undisturbed(Case(agent, goal, 1))
    for _ in range(3):
        undisturbed.cache_clear()
        assert undisturbed(Case(agent, goal, 2)).outcome == one.outcome


def test_what_else_lies_among_finished_networks_stays(tmp_path: Path) -> None:
    for name in ("a.safetensors", "mine.txt"):
        (tmp_path / name).touch()
    remove_kept(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]
    (tmp_path / "mine.txt").unlink()
    remove_kept(tmp_path)
    assert not tmp_path.exists()
