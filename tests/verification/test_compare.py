from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from autoprune.errors import AutopruneError
from autoprune.verification import TIE, TOLERANCE, Comparison, compare


class Says(nn.Module):
    """Gives the logits of the images it is told: image number i (the value of its pixel) has row i."""

    def __init__(self, rows: list[list[float]], batch: int | None = None) -> None:
        super().__init__()
        self.rows = torch.tensor(rows)
        self.batch = batch

    def forward(self, images: Tensor) -> Tensor:
        assert self.batch is None or len(images) == self.batch
        return self.rows[images.flatten().long()]


IMAGES = torch.arange(3.0).view(3, 1, 1, 1)
DENSE = [[10.0, 0.0, 0.0], [0.0, 5.0, 4.0], [1.0, 1.0 + 0.5e-3, 0.0]]


def changed(row: int, values: list[float]) -> list[list[float]]:
    return [values if number == row else old for number, old in enumerate(DENSE)]


def run(rows: list[list[float]]) -> Comparison:
    return compare(Says(DENSE), Says(rows), IMAGES.split(2))


def test_equal_networks() -> None:
    found = run(DENSE)
    assert (found.images, found.top1_different, found.ties, found.max_difference) == (3, 0, 0, 0.0)
    assert found.largest_logit == 10.0
    assert found.failure() is None


def test_rounding_passes_and_more_fails() -> None:
    small, large = 0.5 * TOLERANCE * 10, 2 * TOLERANCE * 10
    found = run(changed(0, [10.0, small, 0.0]))
    assert found.max_difference == pytest.approx(small)
    assert found.failure() is None
    assert run(changed(0, [10.0, large, 0.0])).failure() == "logits differ by up to 0.02 where 0.01 is allowed"


def test_another_class_is_wrong_unless_it_was_a_tie() -> None:
    tie = run(changed(2, [1.0 + 1e-3, 1.0, 0.0]))  # 5e-4 apart before
    assert TIE * 10 > 0.5e-3
    assert (tie.top1_different, tie.ties) == (1, 1)
    assert tie.failure() is None
    wrong = run(changed(1, [0.0, 4.0, 5.0]))
    assert (wrong.top1_different, wrong.ties) == (1, 0)
    assert "the top-1 class differs on 1 of 3 images and logits differ by up to 1 " in str(wrong.failure())


def test_what_is_not_a_number_fails() -> None:
    assert "logits differ by up to inf" in str(run(changed(1, [0.0, float("nan"), 0.0])).failure())
    assert "logits differ by up to inf" in str(run(changed(1, [0.0, float("inf"), 0.0])).failure())
    with pytest.raises(AutopruneError, match="own network gives logits that are not finite"):
        compare(Says(changed(0, [float("nan")] * 3)), Says(DENSE), [IMAGES])


def test_other_shapes_and_no_images() -> None:
    with pytest.raises(AutopruneError, match=r"shape \(3, 2\), the run's network's \(3, 3\)"):
        compare(Says(DENSE), Says([row[:2] for row in DENSE]), [IMAGES])
    with pytest.raises(AutopruneError, match="no images"):
        compare(Says(DENSE), Says(DENSE), [])


def test_networks_of_one_batch_size_get_whole_batches() -> None:
    found = compare(Says(DENSE, 2), Says(DENSE, 2), IMAGES.split(2), batch=2)
    assert found.images == 3


def test_tolerance_follows_the_size_of_the_logits() -> None:
    tiny = [[1e-10, 0.0, 0.0]]
    image = torch.zeros(1, 1, 1, 1)
    assert compare(Says(tiny), Says([[1e-10, 1e-12, 0.0]]), [image]).failure() is not None
    assert compare(Says(tiny), Says([[1e-10, 1e-16, 0.0]]), [image]).failure() is None
