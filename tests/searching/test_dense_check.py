"""A dense network that is no better than chance stops a search, and no other does."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy.stats import binom
from torch import nn
from torch.utils.data import TensorDataset
from torchvision.models import ResNet18_Weights

import autoprune
from autoprune.errors import AutopruneError
from autoprune.models._torchvision import promised
from autoprune.searching._dense_check import ABOVE_CHANCE, OF_PROMISED, Z, check_dense, wilson


def refused(right: int, images: int, classes: int | None, published: tuple[str, float] | None = None) -> bool:
    try:
        check_dense("accuracy", right / images, images, classes, published)
    except AutopruneError:
        return True
    return False


@pytest.mark.parametrize(("right", "images"), [(0, 5), (3, 10), (700, 2000), (50, 50)])
def test_bounds_are_where_the_share_seen_is_as_unlikely(right: int, images: int) -> None:
    share = right / images
    for bound in wilson(share, images):
        assert (share - bound) ** 2 == pytest.approx(Z**2 * bound * (1 - bound) / images, abs=1e-12)


@pytest.mark.parametrize("classes", [2, 3, 10, 100, 1000])
@pytest.mark.parametrize("images", [1, 10, 30, 100, 400, 2000, 50000])
def test_a_network_that_is_fine_is_stopped_hardly_ever(classes: int, images: int) -> None:
    """What is likely is summed over all that can be seen, by the binomial law itself."""
    chance = 1 / classes
    fine = chance + ABOVE_CHANCE * (1 - chance)
    seen = np.arange(images + 1)
    likely = binom.pmf(seen, images, fine)
    some = seen[likely > 1e-7]
    assert sum(likely[right] for right in some if refused(int(right), images, classes)) < 0.002
    good = binom.pmf(seen, images, OF_PROMISED * 0.7)
    some = seen[good > 1e-7]
    stopped = (right for right in some if refused(int(right), images, None, ("ImageNet-1K", 0.7)))
    assert sum(good[right] for right in stopped) < 0.002


@pytest.mark.parametrize(("classes", "images"), [(10, 400), (10, 2000), (100, 200), (1000, 200), (2, 2000)])
def test_guessing_is_found_out_where_there_are_images(classes: int, images: int) -> None:
    assert refused(images // classes, images, classes)
    assert not refused(images, images, classes)


def test_published_accuracies_are_those_of_the_weights() -> None:
    data, share = promised(ResNet18_Weights.IMAGENET1K_V1) or ("", 0.0)
    assert (data, share) == ("ImageNet-1K", pytest.approx(0.69758))
    assert refused(100, 1000, 1000, (data, share))
    assert not refused(500, 1000, 1000, (data, share))
    assert not refused(2, 6, 1000, (data, share))


def test_nothing_is_said_of_what_is_no_accuracy_or_of_unknown_images() -> None:
    check_dense("agreement", 0.0, 5000, 10, None)
    check_dense("accuracy", 0.0, math.nan, 10, None)
    check_dense("accuracy", 0.0, 5000, 1, None)


def test_a_search_stops_before_it_begins_unless_it_is_told_to_go_on() -> None:
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Conv2d(4, 4, 3), nn.Flatten(), nn.Linear(64, 10)).eval()
    images = torch.randn(400, 1, 8, 8)
    with torch.no_grad():
        wrong = (net(images).argmax(1) + 1) % 10
    given = {"calibration": images[:32], "agent": "uniform", "finish_steps": 0, "baselines": "none"}

    def found(**options: object) -> autoprune.SearchResult:
        return autoprune.search(net, images[:2], **{**given, **options})  # type: ignore[arg-type]

    labelled = TensorDataset(images, wrong)
    with pytest.raises(
        AutopruneError, match=r"right on 0\.00 % of 400 search images, no more than guessing one of 10"
    ) as caught:
        found(evaluate=labelled)
    assert caught.value.exit_code == 1
    assert "--accept-dense" in str(caught.value)
    assert found(evaluate=labelled, accept_dense=True).report["dense"]["search_accuracy"] == 0
    assert found(evaluate=labelled, labels=False).report["dense"]["search_accuracy"] == 1
    assert found(evaluate=TensorDataset(images[:30], wrong[:30])).report["dense"]["search_accuracy"] == 0
