from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from autoprune.cost import Projector
from autoprune.errors import UsageError
from autoprune.latency import LatencyCost, Profile
from autoprune.latency._segments import Segments

from ._synthetic import TARGET, FloatArray, Net, levels_of, measured, traced, whole_time

NET = Net()
GRAPH, DECISIONS, EXAMPLE = traced(NET)
POLICIES = np.random.default_rng(3).integers(3, 25, (40, len(DECISIONS)))


def smooth(row: FloatArray, number: int) -> float:
    return 1e-5 * (3.0 + 0.05 * row[0] + 0.1 * row[1] + 0.004 * row[0] * row[1])


def stairs(row: FloatArray, number: int) -> float:
    up = np.ceil(row[:2] / 8) * 8
    return float(1e-5 * (1.0 + 0.02 * up[0] * up[1]))


@pytest.mark.parametrize("formula", [smooth, stairs])
@pytest.mark.parametrize("parts", [True, False])
def test_what_follows_a_formula_is_predicted(formula: object, parts: bool) -> None:
    cost = LatencyCost(measured(GRAPH, DECISIONS, formula, parts=parts), GRAPH, DECISIONS)  # type: ignore[arg-type]
    segments = Segments(GRAPH, DECISIONS)
    true = np.array([whole_time(channels, formula).sum() for channels in segments.channels(POLICIES)])  # type: ignore[arg-type]
    np.testing.assert_allclose(cost.many(POLICIES), true, rtol=5e-3 if parts else 0.03)
    assert cost.error < (0.003 if parts else 0.03)
    assert cost.dense == pytest.approx(cost(segments.sizes))
    if parts:
        assert cost.block == (8 if formula is stairs else 1)


def test_a_dense_network_that_is_measured_too_slow_moves_what_is_near_it_only() -> None:
    """All networks are compared with the dense one, whose own ratio is 1 whatever the regression makes of it."""

    plain, odd = (measured(GRAPH, DECISIONS, smooth) for _ in range(2))
    odd.samples = [
        replace(one, dense_s=1.02 * one.dense_s, ratio=one.ratio / 1.02 if one.counts else 1.0) for one in odd.samples
    ]
    right, wrong = (LatencyCost(profile, GRAPH, DECISIONS) for profile in (plain, odd))
    assert wrong(wrong.sizes) == pytest.approx(1.02 * right.dense)
    small = POLICIES.clip(max=16)
    np.testing.assert_allclose(wrong.many(small), right.many(small), rtol=5e-3)


def test_what_was_measured_in_a_slow_phase_is_left_out() -> None:
    plain, slowed = (measured(GRAPH, DECISIONS, smooth) for _ in range(2))
    disturbed = {3, 8, 9, 20}
    for number in disturbed:
        one = slowed.samples[number]
        slowed.samples[number] = replace(one, dense_s=1.4 * one.dense_s, ratio=min(1.0, 1.3 * one.ratio))
    plain.samples = [one for number, one in enumerate(plain.samples) if number not in disturbed]
    right, left_out = (LatencyCost(profile, GRAPH, DECISIONS) for profile in (plain, slowed))
    np.testing.assert_allclose(left_out.many(POLICIES), right.many(POLICIES))
    assert left_out.error == right.error


def test_many_is_one_by_one_and_the_segments_add_up() -> None:
    cost = LatencyCost(measured(GRAPH, DECISIONS, smooth), GRAPH, DECISIONS)
    np.testing.assert_allclose(cost.many(POLICIES), [cost(row.tolist()) for row in POLICIES])
    named = cost.by_segment(cost.sizes)
    assert [name for name, _, _ in named] == [layer.name for layer in GRAPH.layers]
    assert sum(seconds for _, _, seconds in named) == pytest.approx(cost.dense, rel=1e-3)


def test_more_channels_never_take_less_time_and_budgets_are_met() -> None:
    cost = LatencyCost(measured(GRAPH, DECISIONS, smooth), GRAPH, DECISIONS)
    base = cost.many(POLICIES)
    for number in range(len(DECISIONS)):
        more = POLICIES.copy()
        more[:, number] = 24
        assert (cost.many(more) >= base * (1 - 1e-6)).all()
    levels = levels_of(DECISIONS)
    least = cost([allowed[0] for allowed in levels])
    budget = (least + cost.dense) / 2
    projector = Projector([(cost, budget)], levels)
    counts = projector.project([0.5] * len(levels))
    assert cost(counts) <= budget
    assert projector.is_full(counts)


def test_a_measured_network_corrects_what_is_predicted_around_it() -> None:
    def odd(row: FloatArray, number: int) -> float:
        return smooth(row, number) * (1.2 if row[1] < 12 and row[0] == 16 else 1.0)

    plain = LatencyCost(measured(GRAPH, DECISIONS, smooth), GRAPH, DECISIONS)
    profile = measured(GRAPH, DECISIONS, odd)
    cost = LatencyCost(profile, GRAPH, DECISIONS)
    segments = Segments(GRAPH, DECISIONS)
    true = np.array([whole_time(channels, odd).sum() for channels in segments.channels(POLICIES)])
    assert np.abs(cost.many(POLICIES) / true - 1).mean() < np.abs(plain.many(POLICIES) / true - 1).mean()


def test_segments_of_another_model_count() -> None:
    profile = measured(GRAPH, DECISIONS, smooth, networks=12)
    alone = LatencyCost(profile, GRAPH, DECISIONS)
    other, others, _ = traced(Net(inner=40))
    more = measured(other, others, smooth)
    profile.networks |= more.networks
    profile.samples += more.samples
    both = LatencyCost(profile, GRAPH, DECISIONS)
    np.testing.assert_allclose(both.many(POLICIES), alone.many(POLICIES), rtol=5e-3)
    assert LatencyCost(profile, other, others).dense != both.dense


def test_what_the_profile_does_not_know_is_said() -> None:
    with pytest.raises(UsageError, match="knows 0 of the model's 8 layers"):
        LatencyCost(Profile.open(TARGET, None), GRAPH, DECISIONS)
    with pytest.raises(UsageError, match="has 3 measured networks of this model, but at least 5"):
        LatencyCost(measured(GRAPH, DECISIONS, smooth, networks=3), GRAPH, DECISIONS)
    graph, decisions, _ = traced(NET, residual=True)
    with pytest.raises(
        UsageError, match="'stem' keeps fewer channels; add some with autoprune profile --include-residual"
    ):
        LatencyCost(measured(GRAPH, DECISIONS, smooth), graph, decisions)
