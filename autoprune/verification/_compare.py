"""Whether two networks compute the same."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from autoprune.errors import AutopruneError
from autoprune.evaluation import outputs_of, scores_classes
from autoprune.model_guard import ModelInputs, as_inputs

TOLERANCE = 1e-3
"""Largest difference of logits, as a share of the largest logit. Rounding alone makes about 1e-6."""
TIE = 1e-4
"""Two classes whose logits lie this close, as a share of the largest logit, are a tie: either may be first."""


@dataclass(frozen=True)
class Comparison:
    """What two networks gave for the same images.

    Attributes:
        images: Number of images.
        top1_different: Images whose top-1 class differs, ties among them; 0 where the outputs are no class scores (N, classes).
        ties: Those of them where the first network has both classes within ``TIE``.
        max_difference: Largest absolute difference of two logits; infinite where the second network's are not finite. Of several
            output tensors that of the one where it is the largest share of its largest number.
        largest_logit: Largest absolute logit of the first network, likewise.
        scores_classes: Whether the outputs are class scores (N, classes).
    """

    images: int
    top1_different: int
    ties: int
    max_difference: float
    largest_logit: float
    scores_classes: bool = True

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
            what = "logits" if self.scores_classes else "outputs"
            wrong.append(f"{what} differ by up to {self.max_difference:.3g} where {self.tolerance:.3g} is allowed")
        return " and ".join(wrong) or None


@torch.no_grad()
def compare(
    reference: nn.Module, other: nn.Module, batches: Iterable[Tensor | ModelInputs], *, batch: int | None = None
) -> Comparison:
    """Run two networks on the same images and compare what they give: logits, or tensors of any shapes and nesting.

    Args:
        reference: What ``other`` should compute; in eval mode.
        other: The other network.
        batches: Images, shape (B, C, H, W) each, or inputs of any nesting.
        batch: The only batch size that both take, if they take only one; missing images are repeated ones, not compared.

    Raises:
        AutopruneError: if there are no images, the shapes of the outputs differ, or the first network's are not finite.
    """
    images = different = 0
    scores = True
    spans: dict[int, tuple[float, float]] = {}  # of each tensor the largest difference and the largest number
    margins: list[float] = []
    for given in batches:
        count = len(given)
        padded = as_inputs(given if batch is None else given[torch.arange(batch) % count])
        wanted, got = _tensors(reference, padded, count), _tensors(other, padded, count)
        if [tensor.shape for tensor in wanted] != [tensor.shape for tensor in got] or not wanted:
            raise AutopruneError(f"its outputs have shape {_shapes(got)}, the run's network's {_shapes(wanted)}")
        if not all(bool(tensor.isfinite().all()) for tensor in wanted):
            raise AutopruneError("the run's own network gives logits that are not finite")
        for place, (one, two) in enumerate(zip(wanted, got, strict=True)):
            apart = float((one - two).abs().nan_to_num(nan=math.inf, posinf=math.inf).max())
            before = spans.get(place, (0.0, 0.0))
            spans[place] = max(before[0], apart), max(before[1], float(one.abs().max()))
        scores = scores and len(wanted) == 1 and scores_classes(wanted[0])
        if scores:
            first, second = wanted[0].argmax(dim=1), got[0].argmax(dim=1)
            changed = (first != second).nonzero().flatten()
            margins += (wanted[0][changed, first[changed]] - wanted[0][changed, second[changed]]).tolist()
            different += len(changed)
        images += count
    if not images:
        raise AutopruneError("there are no images to run it on")
    difference, largest = max(spans.values(), key=lambda span: span[0] / max(span[1], math.ulp(0.0)))
    ties = sum(margin <= TIE * largest for margin in margins)
    return Comparison(images, different, ties, difference, largest, scores)


def _tensors(network: nn.Module, inputs: ModelInputs, count: int) -> list[Tensor]:
    """Return the tensors of real numbers in what a network gives, of so many images each where they are of single images."""
    found = outputs_of(inputs.call(network), len(inputs))
    return [tensor[:count].double() for tensor in found.tensors]


def _shapes(tensors: Sequence[Tensor]) -> str:
    return ", ".join(str(tuple(tensor.shape)) for tensor in tensors) or "of no tensor of real numbers"
