"""The built-in selections keep the contract, and ones that break it are caught."""

import numpy as np
import pytest

from autoprune.select import Selection
from autoprune.testing import SelectionContract


class TestLasso(SelectionContract):
    selection = "lasso"


class TestMagnitude(SelectionContract):
    selection = "magnitude"


class TestObs(SelectionContract):
    selection = "obs"


class TestThiNet(SelectionContract):
    selection = "thinet"


class Greedy(Selection):
    """Always keeps one too many."""

    def keep(self, inputs, count):
        return np.arange(count + 1)


def test_a_broken_selection_is_caught():
    class Broken(SelectionContract):
        def make_selection(self):
            return Greedy()

    with pytest.raises(AssertionError):
        Broken().test_keeps_as_many_channels_as_asked_each_once_ascending()
