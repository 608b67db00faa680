"""Scores of one group at a time: the right ones, each once, whatever stops it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from autoprune.errors import UsageError
from autoprune.evaluation import Score
from autoprune.inspection import measure_problem, plan, probes_among, read_probes
from autoprune.runs import Episode
from autoprune.support.strict_json import write_json_atomic


class Counted:
    """A problem whose accuracy is the product of the keep ratios, and that can stop after some scores."""

    def __init__(self, most: int = 99) -> None:
        self.decisions = (SimpleNamespace(name="a", size=8), SimpleNamespace(name="b", size=16))
        self.levels = (tuple(range(1, 9)), tuple(range(2, 17, 2)))
        self.scored: list[tuple[int, ...]] = []
        self.most = most

    def score(self, counts: Sequence[int]) -> Score:
        if len(self.scored) == self.most:
            raise KeyboardInterrupt
        self.scored.append(tuple(counts))
        return Score(counts[0] / 8 * counts[1] / 16, float("inf"), 1, 1)


def test_plan_is_the_nearest_allowed_counts_and_never_the_whole_group() -> None:
    assert plan([("a", 8), ("b", 1)], [range(1, 9), (1,)]) == [("a", 2), ("a", 4), ("a", 6)]
    assert plan([("a", 16)], [(8, 16)]) == [("a", 8)]


def test_a_stopped_measurement_goes_on_where_it_was(tmp_path: Path) -> None:
    path = tmp_path / "sensitivity.json"
    first: Any = Counted(most=4)
    with pytest.raises(KeyboardInterrupt):
        measure_problem(first, path, {})
    known = {(probe.group, probe.kept): probe for probe in read_probes(path)}
    assert len(known) == 4
    second: Any = Counted()
    probes = measure_problem(second, path, known)
    assert first.scored + second.scored == [(2, 16), (4, 16), (6, 16), (8, 4), (8, 8), (8, 12)]
    assert [probe.accuracy for probe in probes] == [0.25, 0.5, 0.75] * 2
    assert read_probes(path) == probes
    assert json.loads(path.read_text(encoding="utf-8"))["complete"] is True


def test_probes_of_a_run_are_the_policies_with_one_smaller_group() -> None:
    def episode(number: int, **counts: int) -> Episode:
        score = Score(0.5, 0.1, 1, 1, reward=0.0)
        return Episode("sensitivity", number, counts, score, feasible=False, reused=False, elapsed_s=0.0)

    episodes = [episode(0, a=4, b=16), episode(1, a=4, b=8), episode(2, a=8, b=16), episode(3, a=8, b=2)]
    found = probes_among(episodes, {"a": 8, "b": 16})
    assert [(probe.group, probe.kept, probe.size) for probe in found] == [("a", 4, 8), ("b", 2, 16)]
    assert probes_among(episodes, {}) == []


@pytest.mark.parametrize(
    "content",
    [[], {"version": 2, "complete": True, "probes": []}, {"version": 1, "complete": True, "probes": [{"group": "a"}]}],
)
def test_damage_is_one_sentence(tmp_path: Path, content: Any) -> None:
    path = tmp_path / "sensitivity.json"
    write_json_atomic(path, content)
    with pytest.raises(UsageError, match=r"is damaged .*; remove it"):
        read_probes(path)
