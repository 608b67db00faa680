"""Which scored policy is the best, and fronts: against brute force."""

from __future__ import annotations

import math
from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from autoprune.budget import Budget
from autoprune.evaluation import Score
from autoprune.runs import Episode
from autoprune.searching import area, descent, front, knee, ranked, thinned


def episode(number: int, macs: int, accuracy: float, *, reward: float = 0.0, feasible: bool = True) -> Episode:
    score = Score(accuracy, 1 - accuracy, macs, 10 * macs, reward, costs={"latency": macs / 7})
    return Episode("a", number, {"g": number}, score, feasible, False, 0.0)


points = st.lists(st.tuples(st.integers(1, 9), st.integers(0, 9)), min_size=1, max_size=12).map(
    lambda pairs: [episode(number, macs, a / 9) for number, (macs, a) in enumerate(pairs)]
)


@given(points)
def test_a_front_holds_exactly_what_no_other_dominates(found: list[Episode]) -> None:
    def dominated(one: Episode) -> bool:
        return any(
            other.score.macs <= one.score.macs
            and other.score.accuracy >= one.score.accuracy
            and (other.score.macs, other.score.accuracy) != (one.score.macs, one.score.accuracy)
            for other in found
        )

    wanted = {(e.score.macs, e.score.accuracy) for e in found if not dominated(e)}
    for kind in ("macs", "params", "latency"):
        made = front(found, kind)
        assert {(e.score.macs, e.score.accuracy) for e in made} == wanted
        assert len(made) == len(wanted)
        assert [e.score.macs for e in made] == sorted(e.score.macs for e in made)


@given(points)
def test_the_area_is_that_of_the_dominated_rectangle_by_rectangle(found: list[Episode]) -> None:
    dense = Score(1.0, 0.0, 9, 90)
    expected = 0.0
    for cell in range(9):  # the dense cost in ninths: all costs are whole
        reached = [e.score.accuracy for e in found if e.score.macs <= cell]
        expected += max(reached, default=0.0) / 9
    assert math.isclose(area(front(found, "macs"), "macs", dense), expected, abs_tol=1e-12)


def test_the_knee_is_farthest_above_the_line_between_the_ends() -> None:
    made = [episode(0, 1, 0.1), episode(1, 2, 0.8), episode(2, 6, 0.9), episode(3, 9, 0.95)]
    assert knee(made, "macs") is made[1]
    assert knee(made[:1], "macs") is made[0]


def test_the_order_is_by_reward_or_by_size() -> None:
    found = [
        episode(0, 5, 0.9, reward=0.9),
        episode(1, 3, 0.8, reward=0.8),
        episode(2, 2, 0.7, reward=0.95, feasible=False),
        episode(3, 3, 0.85, reward=0.85),
        episode(4, 4, 0.9, reward=0.9),
    ]
    assert [e.episode for e in ranked(found, Budget(0.5))] == [0, 4, 3, 1]
    assert [e.episode for e in ranked(found, Budget(max_drop=1.0))] == [3, 1, 4, 0]
    assert [e.episode for e in ranked(found, Budget(minimize="macs"))] == [3, 4]
    twice = [found[0], Episode("b", 7, found[0].counts, found[0].score, True, True, 1.0)]
    assert len(ranked(twice, Budget(0.5))) == 1


@given(st.integers(1, 60), st.integers(2, 20))
def test_thinning_keeps_both_ends(count: int, most: int) -> None:
    kept = thinned(range(count), most)
    assert kept[0] == 0
    assert kept[-1] == count - 1
    assert len(kept) == len(set(kept)) == min(count, most)


def test_within_a_drop_is_a_one_sided_test_also_above_the_dense_accuracy() -> None:
    budget = Budget(max_drop=1.0)
    assert budget.within(0.92, 0.93)
    assert not budget.within(0.9199, 0.93)
    for gap in (-0.02, 0.0, 0.004, 0.009):  # how much was lost
        for error in (0.001, 0.003, 0.0061, 0.02):
            expected = stats.norm.sf((0.01 - gap) / error) <= 0.05
            assert budget.within(0.93 - gap, 0.93, error) == expected
    assert Budget(0.5).within(0.0, 1.0)


@given(points, st.integers(1, 9), st.sampled_from([0.0, 20.0, 60.0]))
def test_what_is_tried_for_a_drop_gets_smaller_and_less_accurate_and_ends_with_the_smallest_within(
    found: list[Episode], most: int, allowed: float
) -> None:
    budget, dense = Budget(max_drop=allowed), 1.0
    tried = descent(found, budget, Score(dense, 0.0, 0, 0), max(most, 2))
    within = [e for e in found if 100 * (dense - e.score.accuracy) <= allowed + 1e-6]
    assert bool(tried) == bool(within)
    assert len(tried) <= max(most, 2)
    for larger, smaller in pairwise(tried):
        assert larger.score.macs > smaller.score.macs
        assert larger.score.accuracy > smaller.score.accuracy
    if tried:
        assert tried[-1].score.macs == min(e.score.macs for e in within)
        assert tried[0].score.accuracy == max(e.score.accuracy for e in within)
