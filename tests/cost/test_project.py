"""The projection against exhaustive search on small random costs."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any, cast

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from autoprune.cost import CostModel, Projector
from autoprune.cost._quadratic import IntArray
from autoprune.errors import UsageError
from autoprune.groups import Group, Layer, PruningGraph, allowed_counts

from ..surgery._networks import owned

thorough = settings(deadline=None, max_examples=150)


def cost_of(sizes: list[int], layers: list[tuple[int, list[int], list[int]]]) -> CostModel:
    """Layers as (scale, groups whose channels go in, groups whose channels come out); -1 is three fixed channels."""
    groups = tuple(Group(f"g{i}", i, size, "inner", (), (), ()) for i, size in enumerate(sizes))
    spatial: dict[str, Any] = dict.fromkeys(("kernel", "stride", "padding", "dilation"), ())
    made = []
    for number, (scale, inputs, outputs) in enumerate(layers):
        ends = [owned(*((i, sizes[i] if i >= 0 else 3, 1) for i in side)) for side in (inputs, outputs)]
        (in_group, in_unit), (out_group, out_unit) = ends
        name = f"l{number}"
        made.append(
            Layer(
                name=name,
                node=name,
                op="linear",
                weight=name,
                bias=None,
                in_channels=len(in_group),
                out_channels=len(out_group),
                **spatial,
                groups=1,
                in_shape=(1, len(in_group)),
                out_shape=(1, len(out_group)),
                in_group=in_group,
                in_unit=in_unit,
                out_group=out_group,
                out_unit=out_unit,
                norm=None,
                macs=scale * len(in_group) * len(out_group),
            )
        )
    return CostModel(PruningGraph(cast(Any, None), tuple(made), groups), groups, shapes={})


@st.composite
def problems(draw: st.DrawFn, largest: int = 6, most: int = 4) -> tuple[CostModel, list[tuple[int, ...]]]:
    """A random network: chains, concatenations, layers from a group to itself, free groups, gaps between levels."""
    count = draw(st.integers(1, most))
    sizes = draw(st.lists(st.integers(1, largest), min_size=count, max_size=count))
    side = st.lists(st.integers(-1, count - 1), min_size=1, max_size=2, unique=True)
    layers = draw(st.lists(st.tuples(st.integers(1, 50), side, side), min_size=1, max_size=5))
    levels = [tuple(sorted({size, *draw(st.sets(st.integers(1, size), max_size=largest))})) for size in sizes]
    return cost_of(sizes, layers), levels


def ratios_for(levels: list[tuple[int, ...]]) -> st.SearchStrategy[list[float]]:
    return st.lists(st.floats(0, 1), min_size=len(levels), max_size=len(levels))


def raised(counts: tuple[int, ...], levels: list[tuple[int, ...]]) -> list[tuple[int, ...]]:
    """All policies with one group one level up."""
    result = []
    for i, (k, allowed) in enumerate(zip(counts, levels, strict=True)):
        place = allowed.index(k)
        if place + 1 < len(allowed):
            result.append((*counts[:i], allowed[place + 1], *counts[i + 1 :]))
    return result


def budget_for(data: st.DataObject, cost: CostModel, levels: list[tuple[int, ...]]) -> int:
    smallest = cost.macs([allowed[0] for allowed in levels])
    return data.draw(st.integers(smallest, cost.dense_macs + 5), label="budget")


@thorough
@given(problem=problems(largest=30, most=8), data=st.data())
def test_exact_uses_the_budget_and_never_exceeds_it(problem: tuple[CostModel, Any], data: st.DataObject) -> None:
    cost, levels = problem
    budget = budget_for(data, cost, levels)
    projector = Projector([(cost.macs_form, budget)], levels)
    asked = data.draw(ratios_for(levels))
    counts = projector.project(asked)
    assert all(k in allowed for k, allowed in zip(counts, levels, strict=True))
    assert cost.macs(counts) <= budget
    assert all(cost.macs(other) > budget for other in raised(counts, levels))
    assert projector.is_full(counts)
    assert projector.project(asked) == counts
    assert projector.fill(counts) == counts
    assert Projector([(cost.macs_form, budget)], levels, rising=True).project(asked) == counts
    # What already uses the budget is left alone.
    assert projector.project([k / size for k, size in zip(counts, cost.sizes, strict=True)]) == counts


class Counted:
    """A cost that counts how often it is asked."""

    def __init__(self, cost: Any) -> None:
        self.cost, self.asked = cost, 0

    def __call__(self, counts: Any) -> float:
        self.asked += 1
        return float(self.cost(counts))

    def many(self, counts: Any) -> Any:
        self.asked += len(counts)
        return self.cost.many(counts)


@thorough
@given(problem=problems(largest=30, most=8), data=st.data())
def test_filling_asks_once_for_every_step_and_once_for_every_group_that_has_none(
    problem: tuple[CostModel, Any], data: st.DataObject
) -> None:
    cost, levels = problem
    counted = Counted(cost.macs_form)
    projector = Projector([(counted, budget_for(data, cost, levels))], levels, rising=True)
    start = tuple(allowed[0] for allowed in levels)
    counts = projector.fill(start)
    steps = sum(allowed.index(count) for allowed, count in zip(levels, counts, strict=True))
    assert counted.asked <= 1 + steps + len(levels)  # one for the start


@thorough
@given(problem=problems(largest=30, most=8), data=st.data())
def test_at_most_only_shrinks(problem: tuple[CostModel, Any], data: st.DataObject) -> None:
    cost, levels = problem
    budget = budget_for(data, cost, levels)
    projector = Projector([(cost.macs_form, budget)], levels, "at-most")
    wanted = tuple(data.draw(st.sampled_from(allowed)) for allowed in levels)
    counts = projector.project([k / size for k, size in zip(wanted, cost.sizes, strict=True)])
    if cost.macs(wanted) <= budget:
        assert counts == wanted
    else:
        assert cost.macs(counts) <= budget
        assert all(k <= w for k, w in zip(counts, wanted, strict=True))
        for other in raised(counts, levels):
            within = all(k <= w for k, w in zip(other, wanted, strict=True))
            assert not within or cost.macs(other) > budget
    assert projector.fill(counts) == counts


@thorough
@given(problem=problems(), data=st.data())
def test_bounds_equal_exhaustive_search(problem: tuple[CostModel, Any], data: st.DataObject) -> None:
    cost, levels = problem
    budget = budget_for(data, cost, levels)
    exact, at_most = (
        Projector([(cost.macs_form, budget)], levels),
        Projector([(cost.macs_form, budget)], levels, "at-most"),
    )
    prefix = [data.draw(st.sampled_from(a)) for a in levels[: data.draw(st.integers(0, len(levels) - 1))]]
    place = len(prefix)
    reachable = {
        level: [cost.macs([*prefix, level, *rest]) for rest in itertools.product(*levels[place + 1 :])]
        for level in levels[place]
    }
    fitting = [level for level, found in reachable.items() if min(found) <= budget]
    using = [level for level, found in reachable.items() if max(found) >= budget]
    high = max(fitting, default=levels[place][0])
    low = min(high, min(using, default=high))
    assert exact.bounds(prefix) == (low, high)
    assert at_most.bounds(prefix) == (levels[place][0], high)


@thorough
@given(problem=problems(largest=20, most=6), data=st.data())
def test_walking_within_the_bounds_ends_on_the_budget(problem: tuple[CostModel, Any], data: st.DataObject) -> None:
    cost, levels = problem
    budget = budget_for(data, cost, levels)
    projector = Projector([(cost.macs_form, budget)], levels)
    counts: list[int] = []
    for allowed in levels:
        low, high = projector.bounds(counts)
        counts.append(data.draw(st.sampled_from([k for k in allowed if low <= k <= high])))
    assert cost.macs(counts) <= budget
    filled = projector.fill(counts)
    assert all(a >= b for a, b in zip(filled, counts, strict=True))
    assert projector.is_full(filled)


@thorough
@given(data=st.data())
def test_larger_ratios_keep_more_of_equal_groups(data: st.DataObject) -> None:
    """Twelve groups that cost the same: who asked for more gets at least as much, to within one level of filling."""
    cost = cost_of([24] * 12, [(1, [-1], [i]) for i in range(12)])
    levels = [allowed_counts(24)] * 12
    asked = data.draw(ratios_for(levels))
    counts = Projector([(cost.macs_form, cost.dense_macs // 2)], levels).project(asked)
    assert cost.macs(counts) == cost.dense_macs // 2
    for a, b in itertools.permutations(range(12), 2):
        assert asked[a] < asked[b] or counts[a] >= counts[b] - 1


class Monotone:
    """A random cost that never falls: a table per group, added up, and a maximum over some of them."""

    def __init__(self, steps: list[list[int]], peak: int) -> None:
        self.tables = [np.cumsum([0, *group]) for group in steps]
        self.peak = peak

    def __call__(self, counts: Sequence[int]) -> float:
        values = [table[k] for table, k in zip(self.tables, counts, strict=True)]
        return float(sum(values) + self.peak * max(values))

    def many(self, counts: IntArray) -> Any:
        return np.array([self(row) for row in counts.tolist()])


@st.composite
def several(draw: st.DrawFn) -> tuple[list[Monotone], list[tuple[int, ...]]]:
    sizes = draw(st.lists(st.integers(1, 12), min_size=1, max_size=5))
    levels = [tuple(sorted({size, *draw(st.sets(st.integers(1, size)))})) for size in sizes]
    one = st.builds(
        Monotone,
        st.tuples(*(st.lists(st.integers(0, 9), min_size=size, max_size=size) for size in sizes)).map(list),
        st.integers(0, 3),
    )
    return draw(st.lists(one, min_size=1, max_size=3)), levels


@thorough
@given(problem=several(), data=st.data())
def test_several_monotone_costs_are_all_met_and_no_group_could_gain(problem: Any, data: st.DataObject) -> None:
    found, levels = problem
    limits = []
    for cost in found:
        least, most = cost([a[0] for a in levels]), cost([a[-1] for a in levels])
        limits.append(data.draw(st.floats(max(least, 0.5), most + 1)))
    projector = Projector(list(zip(found, limits, strict=True)), levels)
    asked = data.draw(ratios_for(levels))
    for counts in (projector.project(asked), projector.fill(projector.smallest)):
        assert all(cost(counts) <= limit for cost, limit in zip(found, limits, strict=True))
        for other in raised(counts, levels):
            assert any(cost(other) > limit for cost, limit in zip(found, limits, strict=True))
    prefix: list[int] = []
    for allowed in levels:
        low, high = projector.bounds(prefix)
        prefix.append(data.draw(st.sampled_from([k for k in allowed if low <= k <= high])))
    assert projector.fits(prefix)
    assert projector.usage(prefix) == pytest.approx(projector.usage_many([prefix])[0])


def test_equal_ratios_stay_equal() -> None:
    cost = cost_of([100] * 3, [(1, [0], [1]), (1, [1], [2]), (1, [2], [0])])
    for budget, expected in ((3 * 50 * 50, 50), (3 * 7 * 7, 7), (3 * 100 * 100, 100)):
        projector = Projector([(cost.macs_form, budget)], [allowed_counts(100)] * 3)
        for asked in (0.01, 0.3, 0.5, 1.0):
            assert projector.project([asked] * 3) == (expected,) * 3


def test_asking_for_nothing_or_too_much_is_clipped() -> None:
    cost = cost_of([8, 8], [(1, [-1], [0]), (1, [0], [1])])
    projector = Projector([(cost.macs_form, cost.dense_macs // 2)], [allowed_counts(8)] * 2)
    for asked in ([-1.0, 2.0], [0.0, 0.0], [9.0, 9.0]):
        assert projector.is_full(projector.project(asked))


def test_errors() -> None:
    cost = cost_of([8, 8], [(1, [-1], [0]), (1, [0], [1])])
    levels = [(4, 8), (4, 8)]
    with pytest.raises(UsageError, match=r"smallest policy allowed needs 1\.037 times"):
        Projector([(cost.macs_form, 27)], levels).project([0.5, 0.5])
    projector = Projector([(cost.macs_form, 40)], levels)
    assert (projector.smallest, projector.largest) == ((4, 4), (8, 8))
    with pytest.raises(UsageError, match="2 keep ratios"):
        projector.project([float("nan"), 0.5])
    with pytest.raises(UsageError, match="2 keep ratios"):
        projector.project([0.5])
    with pytest.raises(UsageError, match="not among the allowed"):
        projector.fill([5, 8])
    with pytest.raises(UsageError, match="exceeds the budget"):
        projector.fill([8, 8])
    assert not projector.is_full((8, 8))


def test_large_networks_do_not_overflow() -> None:
    cost = cost_of([4096] * 20, [(10**8, [i], [i + 1]) for i in range(19)])
    assert cost.dense_macs == 19 * 10**8 * 4096**2
    counts = Projector([(cost.macs_form, cost.dense_macs // 2)], [allowed_counts(4096)] * 20).project([0.7] * 20)
    assert 0.4995 < cost.macs(counts) / cost.dense_macs <= 0.5
    assert np.ptp(counts) < 10


@thorough
@given(st.data())
def test_where_all_fits_every_ratio_gets_the_level_nearest_to_it(data: st.DataObject) -> None:
    """By trying every level; the lower one of two that are equally near."""
    sizes = data.draw(st.lists(st.integers(1, 40), min_size=1, max_size=4))
    levels = [tuple(sorted({*data.draw(st.lists(st.integers(1, size), max_size=6)), size})) for size in sizes]
    ratios = data.draw(st.lists(st.floats(0, 1), min_size=len(sizes), max_size=len(sizes)))
    cost = cost_of(sizes, [(1, [place], [-1]) for place in range(len(sizes))])
    projector = Projector([(cost.macs_form, 1e9)], levels, mode="at-most")
    nearest = tuple(
        min(allowed, key=lambda level: (abs(level - ratio * size), level))
        for allowed, ratio, size in zip(levels, ratios, sizes, strict=True)
    )
    assert projector.project(ratios) == nearest
