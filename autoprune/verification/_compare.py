"""Whether two networks compute the same."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from autoprune.errors import AutopruneError

TOLERANCE = 1e-3
"""Largest difference of logits, as a share of the largest logit. Rounding alone makes about 1e-6."""
TIE = 1e-4
"""Two classes whose logits lie this close, as a share of the largest logit, are a tie: either may be first."""


@dataclass(frozen=True)
class Comparison:
    """What two networks gave for the same images.

    Attributes:
        images: Number of images.
        top1_different: Images whose top-1 class differs, ties among them.
        ties: Those of them where the first network has both classes within ``TIE``.
        max_difference: Largest absolute difference of two logits; infinite where the second network's are not finite.
        largest_logit: Largest absolute logit of the first network.
    """

    images: int
    top1_different: int
    ties: int
    max_difference: float
    largest_logit: float

    @property
    def tolerance(self) -> float:
        """The largest difference that is allowed."""
        return TOLERANCE * self.largest_logit

    def failure(self) -> str | None:
        """Return what is wrong, in figures; None if the networks compute the same."""
        wrong = []
        real = self.top1_different - self.ties
        if real:
            wrong.append(f"the top-1 class differs on {real:,} of {self.images:,} images")
        if not self.max_difference <= self.tolerance:
            wrong.append(f"logits differ by up to {self.max_difference:.3g} where {self.tolerance:.3g} is allowed")
        return " and ".join(wrong) or None


@torch.no_grad()
def compare(
    reference: nn.Module, other: nn.Module, batches: Iterable[Tensor], *, batch: int | None = None
) -> Comparison:
    """Run two networks on the same images and compare their logits.

    Args:
        reference: What ``other`` should compute; in eval mode.
        other: The other network.
        batches: Images, shape (B, C, H, W) each.
        batch: The only batch size that both take, if they take only one; missing images are repeated ones, not compared.

    Raises:
        AutopruneError: if there are no images, the shapes of the logits differ, or the first network's are not finite.
    """
    images = different = 0
    difference = largest = 0.0
    margins: list[float] = []
    for given in batches:
        count = len(given)
        padded = given if batch is None else given[torch.arange(batch) % count]
        wanted, got = reference(padded)[:count].double(), other(padded)[:count].double()
        if got.shape != wanted.shape:
            raise AutopruneError(
                f"its outputs have shape {tuple(got.shape)}, the run's network's {tuple(wanted.shape)}"
            )
        if not wanted.isfinite().all():
            raise AutopruneError("the run's own network gives logits that are not finite")
        first, second = wanted.argmax(dim=1), got.argmax(dim=1)
        changed = (first != second).nonzero().flatten()
        margins += (wanted[changed, first[changed]] - wanted[changed, second[changed]]).tolist()
        difference = max(difference, float((wanted - got).abs().nan_to_num(nan=math.inf, posinf=math.inf).max()))
        largest = max(largest, float(wanted.abs().max()))
        different += len(changed)
        images += count
    if not images:
        raise AutopruneError("there are no images to run it on")
    ties = sum(margin <= TIE * largest for margin in margins)
    return Comparison(images, different, ties, difference, largest)
