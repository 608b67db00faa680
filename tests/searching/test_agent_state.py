"""What an agent proposes is checked before anything is scored."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from autoprune.agents import Agent
from autoprune.errors import AutopruneError
from autoprune.runs import RunFolder
from autoprune.searching import checked
from autoprune.testing import ToyProblem

from .._driven import Problem, run

PROBLEM = ToyProblem(3)
GOOD = PROBLEM.projector.project([0.5] * 3)


@pytest.mark.parametrize(
    "proposed",
    [
        GOOD[:2],
        (*GOOD, 8),
        (GOOD[0], GOOD[1], GOOD[2] + 1),
        (GOOD[0], GOOD[1], -1),
        (GOOD[0], GOOD[1], 10**30),
        (float(GOOD[0]), *GOOD[1:]),
        (True, *GOOD[1:]),
        (str(GOOD[0]), *GOOD[1:]),
        (None, *GOOD[1:]),
        np.asarray(GOOD, dtype=np.float64),
        np.full((3, 2), 4),
        dict.fromkeys(range(3), 4),
        "432",
        7,
        iter(GOOD),
    ],
    ids=lambda value: type(value).__name__ + str(value)[:24],
)
def test_what_is_no_policy_is_refused_by_the_agents_name(proposed: Any) -> None:
    with pytest.raises(AutopruneError, match=r"^The agent 'mine' proposed .* in episode 4, (but|where) "):
        checked(proposed, PROBLEM, "mine", 4)


@pytest.mark.parametrize("proposed", [GOOD, list(GOOD), np.asarray(GOOD), tuple(np.int32(k) for k in GOOD)])
def test_whole_numbers_of_any_kind_are_a_policy(proposed: Any) -> None:
    found = checked(proposed, PROBLEM, "mine", 0)
    assert found == GOOD
    assert all(type(count) is int for count in found)


class Halves(Agent):
    """Proposes something, then nonsense."""

    def ask(self, episode: int) -> Any:
        return self.problem.projector.project([0.5] * 4) if episode == 0 else [1.5] * 4


def test_the_driver_stops_with_a_sentence_and_keeps_what_was_scored(tmp_path: Path) -> None:
    problem = Problem()
    with pytest.raises(AutopruneError, match=r"where group 'conv0' keeps 1.5, but must keep one of "):
        run(Halves, tmp_path, problem=problem, baselines=())
    assert len(RunFolder(tmp_path).read_episodes()) == problem.scored == 1
