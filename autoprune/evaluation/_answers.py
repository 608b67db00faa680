"""What a network answered, image by image, and what follows from it over all images."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from autoprune.evaluation._metric import Metric
from autoprune.evaluation._outputs import Outputs
from autoprune.evaluation._rewards import MOST_DIVERGENCE

Z_THRESHOLD = 3.0
"""Standard errors by which a model's loss must be larger, image by image, to be clearly worse: one in 740 is so by chance."""


@dataclass(frozen=True, eq=False)
class Answers:
    """What a model answered, image by image.

    Attributes:
        values: What the metric says of each image, shape (n,): whether it was right (bool) for accuracy and agreement, a number
            for others; shape (n, k) where it is made of several numbers summed over images.
        loss: Cross-entropy in nats, shape (n,); the divergence where no classes are known.
        distance: Divergence from the reference's answers, see `Evaluator.refer`, shape (n,).
        seen: Which of the evaluator's images these are, shape (n,).
    """

    values: Tensor
    loss: Tensor
    distance: Tensor
    seen: Tensor

    def of(self, seen: Tensor) -> Answers:
        """Return the answers for some of the images, where these are for all."""
        return Answers(self.values[seen], self.loss[seen], self.distance[seen], seen)


class Measure(ABC):
    """Says how good outputs are, image by image, and what that is over all.

    Attributes:
        metric: What is measured.
    """

    metric: Metric

    @abstractmethod
    def values(self, found: Outputs, targets: Any, reference: Sequence[Tensor] | None, distance: Tensor) -> Tensor:
        """Return what the metric says of each image, see `Answers.values`.

        Args:
            found: Outputs.
            targets: What they should be, None where none are read.
            reference: The dense network's outputs; None for the dense network itself, or where there is none.
            distance: The divergence from these, shape (n,).
        """

    def loss(self, found: Outputs, targets: Any, distance: Tensor) -> Tensor:
        """Return the loss of each image, shape (n,)."""
        return distance

    def total(self, values: Tensor) -> float:
        """Return the metric of some images from what `values` said of each."""
        if values.dtype == torch.bool:
            return int(values.sum()) / len(values)
        return float(values.double().mean())

    def each(self, values: Tensor) -> Tensor:
        """Return one number for each image, the mean of which is the metric, shape (n,).

        For a metric that is no mean over images these are the pseudovalues of the jackknife (Tukey 1958): n times the metric
        of all images less n - 1 times that of all others, so that standard errors and paired tests hold for it too.
        """
        return values


class Classes(Measure):
    """Accuracy, and the cross-entropy as its loss: (N, classes) scores against class numbers, shape (N,)."""

    def __init__(self, metric: Metric) -> None:
        self.metric = metric
        self._loss: Tensor | None = None

    def values(self, found: Outputs, targets: Any, reference: Sequence[Tensor] | None, distance: Tensor) -> Tensor:
        """Return whether the largest score is the label's; never for scores that are NaN."""
        logits = found.tensors[0]
        self._loss = F.cross_entropy(logits.float(), targets, reduction="none")
        right: Tensor = (logits.argmax(dim=1) == targets) & ~torch.isnan(self._loss)
        return right

    def loss(self, found: Outputs, targets: Any, distance: Tensor) -> Tensor:
        """Return the cross-entropy that was computed beside the values."""
        assert self._loss is not None
        return self._loss


class Agreement(Measure):
    """Whether the largest class score is the dense network's, in each tensor of the output."""

    def __init__(self, metric: Metric) -> None:
        self.metric = metric

    def values(self, found: Outputs, targets: Any, reference: Sequence[Tensor] | None, distance: Tensor) -> Tensor:
        """Return whether all agree."""
        same = torch.stack(
            [
                (ours.argmax(dim=1) == theirs.argmax(dim=1)) & ~ours.isnan().any(dim=1)
                for ours, theirs in zip(found.tensors, reference or found.tensors, strict=True)
            ]
        )
        agreed: Tensor = same.all(dim=0)
        return agreed


class Apart(Measure):
    """The divergence from the dense network's outputs, or what a function of the user's says of each sample."""

    def __init__(self, metric: Metric) -> None:
        self.metric = metric

    def values(self, found: Outputs, targets: Any, reference: Sequence[Tensor] | None, distance: Tensor) -> Tensor:
        """Return the divergence."""
        return distance


def bounded(distance: Tensor) -> Tensor:
    """Return divergences with what is NaN or infinite as large as any counts."""
    return torch.nan_to_num(distance.float(), nan=MOST_DIVERGENCE, posinf=MOST_DIVERGENCE).clamp(max=MOST_DIVERGENCE)


def joined(parts: Sequence[Answers]) -> Answers:
    """Return the answers to several batches together."""
    return Answers(
        *(torch.cat([getattr(part, name) for part in parts]) for name in ("values", "loss", "distance", "seen"))
    )


def clearly_worse(differences: Tensor) -> bool:
    """Return whether losses are larger than a baseline's beyond chance, given their differences image by image, shape (n,)."""
    if len(differences) < 2:
        return False
    error = float(differences.double().std()) / math.sqrt(len(differences))
    return float(differences.mean()) > Z_THRESHOLD * error
