"""The test of a drop of accuracy: against a brute-force likelihood, exact probabilities, and its own limit."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import optimize, stats

from autoprune.budget import Drop, drop_between
from autoprune.budget._drop import _statistic

from .._sample import pick


@st.composite
def drops(draw: st.DrawFn) -> Drop:
    images = draw(st.integers(1, 3000))
    worse = draw(st.integers(0, images))
    return Drop(worse, draw(st.integers(0, images - worse)), images)


@pytest.mark.parametrize("counts", [(15, 15, 1000), (3, 8, 200), (40, 20, 1000), (1, 0, 100), (7, 1, 50)])
@pytest.mark.parametrize("allowed", [0.005, 0.01, 0.05])
def test_the_statistic_is_that_of_the_restricted_likelihood(counts: tuple[int, int, int], allowed: float) -> None:
    worse, better, images = counts

    def unlikely(share: float) -> float:
        """Minus the log-likelihood of so many images that only the small network gets right, at a loss of ``allowed``."""
        with np.errstate(divide="ignore", invalid="ignore"):
            terms = (worse * np.log(share + allowed), better * np.log(share) if better else 0.0)
            return float(-sum(terms) - (images - worse - better) * np.log(1 - 2 * share - allowed))

    found = optimize.minimize_scalar(
        unlikely, bounds=(0.0, (1 - allowed) / 2), method="bounded", options={"xatol": 1e-12}
    )
    variance = images * (2 * found.x + allowed * (1 - allowed))
    expected = (worse - better - images * allowed) / math.sqrt(variance)
    assert _statistic(Drop(worse, better, images), allowed) == pytest.approx(expected, abs=2e-3)


@given(drops(), st.sampled_from([0.0, 0.002, 0.01, 0.1, 0.5]))
def test_it_is_confirmed_exactly_where_the_upper_limit_is_no_larger(drop: Drop, allowed: float) -> None:
    assert drop.value <= drop.most <= 1.0
    if abs(drop.most - allowed) > 1e-6:
        assert drop.confirms(allowed) == (drop.most <= allowed)
    if drop.value > allowed:
        assert not drop.confirms(allowed)


SIZES = [(200, 0.01), (200, 0.05), (1000, 0.005), (1000, 0.01), (2500, 0.01)]


@pytest.mark.parametrize(("images", "allowed"), pick(SIZES, 3))
@pytest.mark.parametrize("rare", [0.0, 0.002, 0.01, 0.03])
def test_a_network_that_loses_just_more_is_seldom_confirmed(images: int, allowed: float, rare: float) -> None:
    shares = [allowed + rare, rare]
    total = 0.0
    for worse in range(
        int(stats.binom.ppf(1e-7, images, shares[0])), int(stats.binom.ppf(1 - 1e-7, images, shares[0])) + 1
    ):
        rest = rare / (1 - shares[0])
        passing = [b for b in range(images - worse + 1) if Drop(worse, b, images).confirms(allowed)][:1]
        if passing:  # with more images that only the small one gets right it passes all the more
            total += stats.binom.pmf(worse, images, shares[0]) * stats.binom.sf(passing[0] - 1, images - worse, rest)
    assert total <= 0.065


def test_counts_are_of_the_images_that_one_of_both_got_right() -> None:
    dense, small = np.array([True, True, True, False, False]), np.array([False, False, True, True, False])
    drop = drop_between(dense, small)
    assert drop == Drop(2, 1, 5)
    assert drop.value == 0.2
    none = drop_between(dense[:0], small[:0])
    assert not none.confirms(0.5)
    assert none.value == 0.0
