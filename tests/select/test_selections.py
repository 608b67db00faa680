"""Each selection against the textbook computation on raw activations."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.linear_model import lasso_path

from autoprune.errors import UsageError
from autoprune.select import Consumer, NestedSelection, SelectionInputs, channel_gram, selections
from autoprune.select._obs import RIDGE

SIZE, TAPS, OUT, SAMPLES = 6, 3, 4, 200


class Raw:
    """Random activations of one consumer, (P, size, taps) -> (P, out), with correlated channels."""

    def __init__(self, seed: int, scale: float = 1.0) -> None:
        rng = np.random.default_rng(seed)
        mix = rng.normal(size=(SIZE * TAPS, SIZE * TAPS)) + 2 * np.eye(SIZE * TAPS)
        self.x = (rng.normal(size=(SAMPLES, SIZE * TAPS)) @ mix).reshape(SAMPLES, SIZE, TAPS)
        self.w = scale * rng.normal(size=(SIZE, TAPS, OUT))
        self.parts = np.einsum("pct,cto->cpo", self.x, self.w)  # what each channel contributes
        self.energy = float((self.parts.sum(axis=0) ** 2).sum() / SAMPLES)

    def consumer(self) -> Consumer:
        x = torch.from_numpy(self.x.reshape(SAMPLES, -1))
        unit = torch.arange(SIZE).repeat_interleave(TAPS)
        return Consumer(x.T @ x / SAMPLES, torch.from_numpy(self.w.reshape(-1, OUT)), unit)


def drawn(*raws: Raw) -> SelectionInputs:
    rng = np.random.default_rng(9)
    magnitude = torch.from_numpy(rng.random(SIZE))
    return SelectionInputs(SIZE, {"moments": tuple(raw.consumer() for raw in raws), "magnitude": magnitude})


RAWS = [(Raw(0),), (Raw(1), Raw(2, scale=30.0))]


def error(raws: tuple[Raw, ...], removed: list[int]) -> float:
    return sum(float((raw.parts[removed].sum(axis=0) ** 2).sum()) / SAMPLES / raw.energy for raw in raws)


@pytest.mark.parametrize("raws", RAWS)
def test_channel_gram_is_the_inner_product_of_the_contributions(raws: tuple[Raw, ...]) -> None:
    expected = sum(np.einsum("ipo,jpo->ij", raw.parts, raw.parts) / SAMPLES / raw.energy for raw in raws)
    np.testing.assert_allclose(channel_gram(drawn(*raws)["moments"], SIZE).numpy(), expected, rtol=1e-9)


@pytest.mark.parametrize("raws", RAWS)
def test_thinet_takes_the_channel_of_least_error_at_every_step(raws: tuple[Raw, ...]) -> None:
    selection = selections.get("thinet")()
    assert isinstance(selection, NestedSelection)
    order = selection.order(drawn(*raws)).tolist()
    for step in range(SIZE):
        candidates = {c: error(raws, [*order[:step], c]) for c in range(SIZE) if c not in order[:step]}
        assert order[step] == min(candidates, key=candidates.__getitem__)


def refitted_loss(raw: Raw, removed: list[int]) -> float:
    """Least squares on the raw activations with the removed channels' weights fixed at zero, solved by lstsq."""
    x = raw.x.reshape(SAMPLES, -1)
    damping = RIDGE * np.mean(np.diag(x.T @ x / SAMPLES))
    x = np.concatenate([x / np.sqrt(SAMPLES), np.sqrt(damping) * np.eye(x.shape[1])])
    w = raw.w.reshape(-1, OUT)
    stays = np.repeat(~np.isin(np.arange(SIZE), removed), TAPS)
    target = x @ w
    fit, *_ = np.linalg.lstsq(x[:, stays], target, rcond=None)
    return float(((target - x[:, stays] @ fit) ** 2).sum()) / raw.energy


@pytest.mark.parametrize("raws", RAWS)
def test_obs_removes_what_costs_least_after_a_full_refit(raws: tuple[Raw, ...]) -> None:
    selection = selections.get("obs")()
    assert isinstance(selection, NestedSelection)
    order = selection.order(drawn(*raws)).tolist()
    for step in range(SIZE - 1):
        candidates = {
            c: sum(refitted_loss(raw, [*order[:step], c]) for raw in raws) for c in range(SIZE) if c not in order[:step]
        }
        assert order[step] == min(candidates, key=candidates.__getitem__)


@pytest.mark.parametrize("count", [1, 2, 3, 5])
@pytest.mark.parametrize("raws", RAWS)
def test_lasso_equals_coordinate_descent_on_the_raw_contributions(raws: tuple[Raw, ...], count: int) -> None:
    z = np.concatenate([raw.parts.reshape(SIZE, -1).T / np.sqrt(raw.energy) for raw in raws])
    y = z.sum(axis=1)
    highest = np.abs(z.T @ y).max() / len(y)
    alphas = np.geomspace(highest, highest * 1e-6, 4000)
    _, path, _ = lasso_path(z, y, alphas=alphas, tol=1e-12, max_iter=100_000)
    active = path != 0
    place = int(np.flatnonzero(active.sum(axis=0) >= count)[0])
    assert active[:, place].sum() == count, "the grid must resolve the knot"
    kept = selections.get("lasso")().keep(drawn(*raws), count)
    assert kept.tolist() == np.flatnonzero(active[:, place]).tolist()


def test_magnitude_keeps_the_largest_norms() -> None:
    found = SelectionInputs(4, {"magnitude": torch.tensor([0.3, 2.0, 0.1, 1.0], dtype=torch.float64)})
    assert selections.get("magnitude")().keep(found, 2).tolist() == [1, 3]


def test_inputs_of_other_groups_take_part_in_the_refit_but_never_go() -> None:
    """With a perfect copy of channel 0 among the other group's inputs, channel 0 is free to go."""
    rng = np.random.default_rng(3)
    own = rng.normal(size=(500, 3)) * [5.0, 1.0, 1.0]
    x = torch.from_numpy(np.column_stack([own, own[:, 0] + 1e-6 * rng.normal(size=500)]))
    consumer = Consumer(x.T @ x / 500, torch.ones(4, 2, dtype=torch.float64), torch.tensor([0, 1, 2, -1]))
    found = SelectionInputs(3, {"moments": (consumer,), "magnitude": torch.ones(3, dtype=torch.float64)})
    assert selections.get("obs")().keep(found, 2).tolist() == [1, 2]
    assert 0 in selections.get("thinet")().keep(found, 2).tolist()


@settings(max_examples=25, deadline=None)
@given(name=st.sampled_from(["lasso", "magnitude", "obs", "thinet"]), seed=st.integers(0, 10_000))
def test_every_count_gives_that_many_channels_and_nested_ones_nest(name: str, seed: int) -> None:
    selection = selections.get(name)()
    found = drawn(Raw(seed))
    kept = [selection.keep(found, count) for count in range(1, SIZE + 1)]
    for count, units in enumerate(kept, start=1):
        assert len(units) == count
        assert (np.diff(units) > 0).all()
    if isinstance(selection, NestedSelection):
        assert all(set(small) <= set(large) for small, large in pairwise(kept))


def test_a_typo_names_the_nearest_selection() -> None:
    with pytest.raises(UsageError, match="Did you mean 'thinet'"):
        selections.get("thinnet")
