"""Differences of accuracy: closed forms, other libraries, and by simulation what the documentation states."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from autoprune.evaluation import Agents, Difference, Networks, stacked
from autoprune.support.answers import BoolArray

from .._benchmarks import benchmark
from .._sample import count, pick

simulations = benchmark("significance")
N = 397


def right(images: int, wrong: list[int]) -> BoolArray:
    found = np.ones(images, dtype=bool)
    found[wrong] = False
    return found


def test_of_two_networks_it_is_the_paired_test_of_their_images() -> None:
    rng = np.random.default_rng(0)
    first, second = rng.random(N) < 0.9, rng.random(N) < 0.85
    found = Networks([first.mean(), second.mean()], [first, second], N).difference(0, 1)
    gaps = first.astype(float) - second
    error = math.sqrt(gaps.var(ddof=1) / N + 2 / N**2)
    assert found.value == pytest.approx(gaps.mean())
    assert found.half_width == pytest.approx(stats.norm.ppf(0.975) * error, rel=1e-4)
    assert found.p == pytest.approx(2 * stats.norm.sf(abs(gaps.mean()) / error), rel=1e-3)
    assert found.paired


@pytest.mark.parametrize(("ahead", "behind"), [(a, b) for a in range(3, 40) for b in (0, 1, 5, 20) if a > b])
def test_of_few_images_it_says_what_the_exact_test_says(ahead: int, behind: int) -> None:
    first, second = right(N, list(range(behind))), right(N, list(range(N - ahead, N)))
    found = Networks([first.mean(), second.mean()], [first, second], N).difference(0, 1)
    exact = stats.binomtest(ahead, ahead + behind).pvalue
    if not 0.03 < exact < 0.065:
        assert found.shown == (exact < 0.05)


@pytest.mark.parametrize("several", [2, 3, 6])
def test_the_threshold_is_that_of_all_pairs_to_the_image(several: int) -> None:
    """The number of images by which one network must be ahead of another, of several, by a normal sample's range."""
    draws = np.random.default_rng(1).standard_normal((400_000, several))
    needed = np.quantile(np.ptp(draws, axis=1), 0.95) / math.sqrt(2)  # of standard errors of a difference
    for ahead in range(1, 40):
        wrong = right(N, list(range(ahead)))
        networks = Networks([1.0, *([wrong.mean()] * (several - 1))], [right(N, []), *([wrong] * (several - 1))], N)
        share = ahead / N
        errors = share / math.sqrt(share * (1 - share) / (N - 1) + 2 / N**2)
        if abs(errors - needed) > 0.02:
            assert networks.difference(0, 1).shown == (errors > needed), ahead


@given(st.integers(300, 395), st.integers(300, 395), st.integers(0, 2))
def test_equal_gaps_of_two_images_are_no_difference(a: int, b: int, more: int) -> None:
    ours, theirs = [(a + more) / N, (b + more) / N], [a / N, b / N]
    assert not Agents([ours, theirs], [None, None], N).difference(0, 1).shown
    by_image = [np.stack([right(N, list(range(N - k - extra))) for k in (a, b)]) for extra in (more, 0)]
    found = Agents([ours, theirs], by_image, N).difference(0, 1)
    assert not found.shown
    assert found.p == pytest.approx(1.0) if more == 0 else found.p is not None


def test_seeds_and_images_both_count() -> None:
    """Of two agents: the pair's variance over seeds and that of the mean difference by image, with Satterthwaite's freedom."""
    rng = np.random.default_rng(2)
    first, second = rng.random((3, N)) < 0.93, rng.random((3, N)) < 0.9
    found = Agents([first.mean(1), second.mean(1)], [first, second], N).difference(0, 1)
    gaps = first.astype(float) - second
    seeds = gaps.mean(1).var(ddof=1) / 3
    images = gaps.mean(0).var(ddof=1) / N + 2 * (gaps.mean(0) ** 2).max() / N**2
    assert found.error == pytest.approx(math.sqrt(seeds + images))
    assert found.freedom == pytest.approx((seeds + images) ** 2 / (seeds**2 / 2 + images**2 / (N - 1)))
    assert found.half_width is not None
    assert found.half_width == pytest.approx(stats.t.ppf(0.975, found.freedom) * found.error)


def test_without_answers_it_is_wider_and_without_a_number_of_images_or_with_one_seed_nothing_is_shown() -> None:
    rng = np.random.default_rng(3)
    base = rng.random((4, N)) < 0.9
    better = base | (rng.random((4, N)) < 0.5)
    accuracies = [better.mean(1), base.mean(1)]
    by_image, without = (Agents(accuracies, some, N).difference(0, 1) for some in ([better, base], [None, None]))
    assert by_image.shown
    assert by_image.half_width is not None
    assert without.half_width is not None
    assert without.half_width > 1.2 * by_image.half_width
    assert without.paired is False
    unknown = Agents(accuracies, [None, None], None).difference(0, 1)
    single = Agents([row[:1] for row in accuracies], [better[:1], base[:1]], N).difference(0, 1)
    for found in (unknown, single, Networks([1.0, 0.0], [None, None], None).difference(0, 1)):
        assert (found.half_width, found.p, found.shown) == (None, None, False)
        assert "no difference shown" in found.verdict


def test_a_difference_is_kept_as_plain_values() -> None:
    for found in (Difference(0.03, 0.01, 5.5, 8, paired=True), Difference(0.01, 0.002), Difference(0.5)):
        assert Difference.from_dict(found.to_dict()) == found
        assert found.to_dict()["shown"] == found.shown == (found.p is not None and found.p < 0.05)


def test_answers_of_seeds_go_together_only_where_all_are_known() -> None:
    one, two = right(5, [1]), right(5, [])
    together = stacked([one, two])
    assert together is not None
    assert together.tolist() == [one.tolist(), two.tolist()]
    assert stacked([one, None]) is None
    assert stacked([one, right(4, [])]) is None


SETTINGS = [(world, agents, seeds) for world in simulations.WORLDS for agents in (4, 8, 14) for seeds in (2, 4)]


@pytest.mark.parametrize(
    ("world", "agents", "seeds"), pick(SETTINGS, 2), ids=lambda value: getattr(value, "name", str(value))
)
def test_any_difference_among_equal_agents_is_said_in_at_most_7_percent(world: object, agents: int, seeds: int) -> None:
    times = count(1000, 30)
    assert simulations.false_differences(world, agents, seeds, times) <= stats.binom.ppf(0.99, times, 0.07)


@pytest.mark.parametrize("agents", [4, 14])
def test_a_gap_of_3_points_is_found_in_80_percent_with_4_seeds(agents: int) -> None:
    times = count(1000, 15)
    for world in pick(simulations.WORLDS[:3], 1):
        assert simulations.found_gaps(world, agents, 4, times) >= stats.binom.ppf(0.01, times, 0.8)


@pytest.mark.parametrize("images", [400, 2000])
@pytest.mark.parametrize("alike", [0.0, 0.5])
def test_a_network_that_loses_too_much_is_seldom_the_result(images: int, alike: float) -> None:
    times = count(1000, 15)
    twice = simulations.outcomes(simulations.Policies.alike(2.0), 1.0, images, times, alike)
    assert (twice[:, 0] > 1).sum() <= stats.binom.ppf(0.99, times, 0.05)
    more = simulations.outcomes(simulations.Policies.alike(1.01), 1.0, images, times, alike)
    assert (more[:, 0] > 1).sum() <= stats.binom.ppf(0.99, times, 0.065)


@pytest.mark.parametrize("policies", [1, 100])
def test_a_network_that_loses_nothing_is_the_result_in_half_of_the_searches(policies: int) -> None:
    times = count(1000, 60 if policies == 1 else 15)
    found = simulations.outcomes(simulations.Policies.alike(0.0, policies), 1.0, 2000, times)
    assert (found[:, 1] < 1).sum() >= stats.binom.ppf(0.01, times, 0.5)
