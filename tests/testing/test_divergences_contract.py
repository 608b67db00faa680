"""The built-in divergences keep the contract that is shipped for plug-in authors, and broken ones do not."""

import pytest
import torch

from autoprune.errors import UsageError
from autoprune.testing import DivergenceContract


class TestKl(DivergenceContract):
    divergence = "kl"


class TestRelative(DivergenceContract):
    divergence = "relative"
    shapes = ((6,), (6, 5), (6, 2, 7), (6, 2, 3, 4, 2))


class TestCosine(DivergenceContract):
    divergence = "cosine"
    shapes = ((6, 5), (6, 8, 3))
    grows = True


class TestOwn(DivergenceContract):
    def make_divergence(self):
        return lambda found, reference, variance: (found - reference).abs().flatten(1).mean(1)


def contract(fn):
    return type("Contract", (DivergenceContract,), {"make_divergence": lambda self: fn})()


def test_broken_divergences_are_caught():
    with pytest.raises(UsageError, match="one number for each"):
        contract(lambda found, reference, variance: (found - reference).abs().mean()).test_other_outputs_are_apart()
    with pytest.raises(UsageError, match="raised RuntimeError"):
        contract(lambda found, reference, variance: found @ found).test_an_image_counts_by_itself()
    with pytest.raises(AssertionError):
        contract(lambda found, reference, variance: 1 + found.flatten(1)[:, 0] * 0).test_equal_outputs_are_not_apart()
    with pytest.raises(AssertionError):
        contract(lambda found, reference, variance: found.flatten(1)[:, 0] * 0).test_other_outputs_are_apart()

    def of_the_batch(found, reference, variance):
        return (found - reference - (found - reference).mean(0)).abs().flatten(1).mean(1)

    with pytest.raises(AssertionError):
        contract(of_the_batch).test_an_image_counts_by_itself()

    def in_place(found, reference, variance):
        return found.sub_(reference).abs().flatten(1).mean(1)

    with pytest.raises(AssertionError):
        contract(in_place).test_outputs_are_left_as_they_were()

    def capped(found, reference, variance):
        return (found - reference).abs().flatten(1).amax(1).clamp(max=1e-3)

    with pytest.raises(AssertionError):
        contract(capped).test_what_is_further_away_is_worth_more()
    assert torch.get_default_dtype() == torch.float32
