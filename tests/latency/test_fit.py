from __future__ import annotations

import numpy as np
import pytest

from autoprune.latency._fit import BLOCKS, Observed, Rows, predicted, terms

CHANNELS = np.random.default_rng(0).integers(1, 65, (30, 3, 4)).astype(float)
CHANNELS[..., 2] = 1.0
KEYS = ("a", "b", "a")
TRUE = {"a": np.array([1.0, 0.02, 0.05, 0.003, 0.0]), "b": np.array([0.5, 0.0, 0.1, 0.001, 0.02])}


def observed(block: int, spans: tuple[int, ...] = (0, 1, 2)) -> list[Observed]:
    found = []
    for channels in CHANNELS:
        seconds = np.array([terms(row, block) @ TRUE[key] for row, key in zip(channels, KEYS, strict=True)])
        found.append(Observed(channels, KEYS, spans, np.add.reduceat(seconds, spans)))
    return found


@pytest.mark.parametrize("block", BLOCKS)
@pytest.mark.parametrize("spans", [(0, 1, 2), (0, 2), (0,)])
def test_coefficients_are_recovered_from_segments_and_from_sums_of_them(block: int, spans: tuple[int, ...]) -> None:
    fitted = Rows(observed(block, spans), block).fit()
    for network, true in zip(observed(block, spans), observed(block), strict=True):
        assert predicted(fitted, network, block) == pytest.approx(true.seconds.sum(), rel=1e-4)
    if spans == (0, 1, 2):
        for key, values in TRUE.items():
            np.testing.assert_allclose(fitted[key], values, atol=1e-3)


def test_a_network_is_left_out() -> None:
    networks = observed(1)
    networks[3] = Observed(networks[3].channels, KEYS, (0, 1, 2), 100 * networks[3].seconds)
    fitted = Rows(networks, 1).fit(without=3)
    np.testing.assert_allclose(fitted["a"], TRUE["a"], atol=1e-3)
    assert abs(Rows(networks, 1).fit()["a"] - TRUE["a"]).max() > 0.01


def test_coefficients_are_never_negative() -> None:
    rng = np.random.default_rng(1)
    networks = [Observed(row, KEYS, (0, 1, 2), rng.uniform(0, 1, 3)) for row in CHANNELS]
    for values in Rows(networks, 4).fit().values():
        assert (values >= 0).all()


def test_channels_are_rounded_up_to_blocks() -> None:
    assert terms(np.array([3.0, 9.0, 1.0, 0.0]), 8).tolist() == [1, 8, 16, 128, 0]
    assert terms(np.array([3.0, 9.0, 0.0, 1.0]), 1).tolist() == [1, 3, 9, 0, 1]
