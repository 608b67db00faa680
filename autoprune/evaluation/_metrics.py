"""Metrics of outputs against targets: maps of classes, images, numbers.

Each says of an image one or several numbers, sums of which over images make the metric, so that its standard error and paired
tests are known: those of a mean, or by the jackknife (Quenouille 1956, Tukey 1958). The first tensor of an output is compared
with the first of a target. Numbers are those of ``torchmetrics`` (which `ssim` needs: ``pip install autoprune[metrics]``).
"""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Iterable, Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor
from torch.utils import _pytree as pytree

from autoprune.errors import UsageError
from autoprune.evaluation._answers import Measure, bounded
from autoprune.evaluation._metric import Metric
from autoprune.evaluation._outputs import Outputs
from autoprune.registry import Registry, nearest
from autoprune.support.packages import lazy

image_metrics = lazy("torchmetrics.functional.image", "The metric ssim needs")
IGNORED = (255, -100)
"""Classes in maps of targets that stand for places which do not count."""


class TargetMetric(Measure):
    """A metric of outputs against targets; one class a metric, registered by name.

    Attributes:
        maximize: Whether larger is better.
        span: Largest less smallest number in all targets; 1 where they are all the same.
    """

    maximize: ClassVar[bool]

    def __init__(self, metric: Metric) -> None:
        self.metric = metric
        self.span = 1.0

    def prepare(self, targets: Iterable[Any]) -> None:
        """See all targets once, before any network is measured.

        Raises:
            UsageError: if one is NaN or infinite, or none is a tensor of numbers.
        """
        low, high = math.inf, -math.inf
        for target in targets:
            found = tensor_in(target).float()
            if not bool(torch.isfinite(found).all()):
                raise UsageError(
                    f"A target is NaN or infinite, so that there is no {self.metric.name}; remove or mend it."
                )
            low, high = min(low, float(found.min())), max(high, float(found.max()))
        self.span = high - low if high > low else 1.0

    def values(self, found: Outputs, targets: Any, reference: Sequence[Tensor] | None, distance: Tensor) -> Tensor:
        """Return the numbers of each image, shape (n, k)."""
        return self.numbers(found.tensors[0], tensor_in(targets))

    @abstractmethod
    def numbers(self, output: Tensor, target: Tensor) -> Tensor:
        """Return the numbers of each image, shape (n, k).

        Args:
            output: Shape (n, ...).
            target: Shape (n, ...).
        """

    @abstractmethod
    def combined(self, sums: Tensor, count: float) -> Tensor:
        """Return the metric of images.

        Args:
            sums: Sums of their numbers, shape (..., k), in double precision.
            count: How many images.
        """

    def total(self, values: Tensor) -> float:
        """Return the metric of some images."""
        return float(self.combined(values.double().sum(0), len(values)))

    def each(self, values: Tensor) -> Tensor:
        """Return the jackknife's pseudovalues, shape (n,); of a mean its values."""
        count, sums = len(values), values.double().sum(0)
        if count < 2:
            return self.combined(sums, count).expand(count)
        whole, others = self.combined(sums, count), self.combined(sums - values.double(), count - 1)
        return count * whole - (count - 1) * others


metrics: Registry[type[TargetMetric]] = Registry(
    "metric", "autoprune.metrics", reserved=("accuracy", "agreement", "divergence")
)


class _Mean(TargetMetric):
    """A mean over images."""

    def combined(self, sums: Tensor, count: float) -> Tensor:
        """Return the mean."""
        return sums[..., 0] / count


@metrics.register("mae")
class MeanAbsoluteError(_Mean):
    """Mean absolute error, over all numbers."""

    maximize = False

    def numbers(self, output: Tensor, target: Tensor) -> Tensor:
        """Return each image's mean absolute error."""
        return bounded(_differences(output, target, self.metric).abs().mean(1))[:, None]


@metrics.register("rmse")
class RootMeanSquaredError(TargetMetric):
    """Root of the mean squared error over all numbers."""

    maximize = False

    def numbers(self, output: Tensor, target: Tensor) -> Tensor:
        """Return each image's mean squared error."""
        return bounded(_differences(output, target, self.metric).square().mean(1))[:, None]

    def combined(self, sums: Tensor, count: float) -> Tensor:
        """Return the root of the mean."""
        return (sums[..., 0] / count).clamp(min=0).sqrt()


@metrics.register("psnr")
class PeakSignalToNoise(_Mean):
    """Peak signal-to-noise ratio in dB, averaged over images; the peak is the span of all targets of the part."""

    maximize = True

    def numbers(self, output: Tensor, target: Tensor) -> Tensor:
        """Return each image's ratio."""
        squares = bounded(_differences(output, target, self.metric).square().mean(1)).double().clamp(min=1e-12)
        return (10 * torch.log10(self.span**2 / squares))[:, None]


@metrics.register("ssim")
class StructuralSimilarity(_Mean):
    """Structural similarity (Wang et al. 2004), averaged over images of shape (C, H, W)."""

    maximize = True

    def numbers(self, output: Tensor, target: Tensor) -> Tensor:
        """Return each image's similarity."""
        _differences(output, target, self.metric)
        if output.dim() not in (4, 5):
            raise UsageError(
                f"The metric ssim needs images (N, C, H, W), but the output has shape {tuple(output.shape)}."
            )
        each = image_metrics.structural_similarity_index_measure(
            output.float(), target.float(), data_range=self.span, reduction="none"
        )
        return torch.nan_to_num(each, nan=-1.0).reshape(len(output), -1).mean(1)[:, None]


class _Overlap(TargetMetric):
    """A ratio of counted places for each class, averaged over the classes that there are."""

    maximize = True

    def numbers(self, output: Tensor, target: Tensor) -> Tensor:
        """Return for each image and class how many places are of it in both, in the output, and in the target."""
        classes, found, target = _maps(output, target, self.metric)
        counts = _counted(target)
        at = torch.arange(0 if classes > 1 else 1, max(classes, 2), device=found.device)[None, :, None]
        ours, theirs = (found[:, None] == at) & counts[:, None], (target[:, None] == at) & counts[:, None]
        return torch.cat([(ours & theirs).sum(2), ours.sum(2), theirs.sum(2)], dim=1).double()

    def combined(self, sums: Tensor, count: float) -> Tensor:
        """Return the mean ratio."""
        both, ours, theirs = sums.chunk(3, dim=-1)
        above, below = self.ratio(both, ours, theirs)
        there = below > 0
        ratios = torch.where(there, above / below.clamp(min=1), torch.zeros_like(below))
        return ratios.sum(-1) / there.sum(-1).clamp(min=1)

    @abstractmethod
    def ratio(self, both: Tensor, ours: Tensor, theirs: Tensor) -> tuple[Tensor, Tensor]:
        """Return what is divided by what, given counts of places."""


@metrics.register("pixel-accuracy")
class PixelAccuracy(TargetMetric):
    """Share of places whose largest class score is the target's, over all images; of one map by its sign."""

    maximize = True

    def numbers(self, output: Tensor, target: Tensor) -> Tensor:
        """Return of each image how many places are right, and how many count."""
        _, found, target = _maps(output, target, self.metric)
        counts = _counted(target)
        return torch.stack([((found == target) & counts).sum(1), counts.sum(1)], dim=1).double()

    def combined(self, sums: Tensor, count: float) -> Tensor:
        """Return the share."""
        return sums[..., 0] / sums[..., 1].clamp(min=1)


@metrics.register("miou")
class MeanIntersectionOverUnion(_Overlap):
    """Intersection over union of the maps of each class over all images, averaged over classes; of two by one map the other's."""

    def ratio(self, both: Tensor, ours: Tensor, theirs: Tensor) -> tuple[Tensor, Tensor]:
        """Return intersections and unions."""
        return both, ours + theirs - both


@metrics.register("dice")
class Dice(_Overlap):
    """Dice coefficient of the maps of each class over all images, averaged over classes."""

    def ratio(self, both: Tensor, ours: Tensor, theirs: Tensor) -> tuple[Tensor, Tensor]:
        """Return twice the intersections, and the sums of both maps."""
        return 2 * both, ours + theirs


def tensor_in(target: Any) -> Tensor:
    """Return the first tensor in a target of any nesting.

    Raises:
        UsageError: if there is none.
    """
    found = next((leaf for leaf in pytree.tree_leaves(target) if isinstance(leaf, Tensor)), None)
    if found is None:
        raise UsageError(
            f"A target is of type {type(target).__name__} and holds no tensor; give tensors, or evaluate with a "
            "function of your own."
        )
    return found


def _differences(output: Tensor, target: Tensor, metric: Metric) -> Tensor:
    """Return outputs less targets, shape (n, numbers)."""
    if output.shape != target.shape and output.squeeze().shape != target.squeeze().shape:
        raise UsageError(
            f"The metric {metric.name} compares outputs with targets of the same shape, but they are {tuple(output.shape)} and "
            f"{tuple(target.shape)}; reshape the targets, or evaluate with a function of your own."
        )
    return (output.float().reshape(len(output), -1) - target.float().reshape(len(output), -1)).reshape(len(output), -1)


def _maps(output: Tensor, target: Tensor, metric: Metric) -> tuple[int, Tensor, Tensor]:
    """Return the number of classes, and of output and target the class at each place, shape (n, places)."""
    classes = output.shape[1] if output.dim() > 2 else 0
    if target.dim() == output.dim() and target.shape[1] == 1:
        target = target[:, 0]
    whole = not target.is_floating_point() or bool((target == target.round()).all())
    if not classes or target.shape != output.shape[:1] + output.shape[2:] or not whole:
        raise UsageError(
            f"The metric {metric.name} compares class scores (N, classes, H, W) with maps of class numbers (N, H, W), but they "
            f"are {tuple(output.shape)} and {tuple(target.shape)} of {str(target.dtype).removeprefix('torch.')}; give such "
            "targets, or evaluate with a function of your own."
        )
    target = target.long().flatten(1)
    known = (target >= 0) & (target < max(classes, 2))
    for other in IGNORED:
        known = known | (target == other)
    if not bool(known.all()):
        raise UsageError(
            f"A target has the class {int(target[~known][0])}, but the network gives {max(classes, 2)} (0 to "
            f"{max(classes, 2) - 1}); places that do not count are {' or '.join(map(str, IGNORED))}."
        )
    found = output.argmax(1) if classes > 1 else (output[:, 0] > 0).long()
    return classes, found.flatten(1), target


def _counted(target: Tensor) -> Tensor:
    """Return which places count."""
    counts = target != IGNORED[0]
    for other in IGNORED[1:]:
        counts = counts & (target != other)
    return counts


def check_metric(metric: Metric) -> None:
    """Refuse a metric that is not built in, or the other direction of one that is.

    Raises:
        UsageError: with the nearest name, or the direction.
    """
    known = metrics.names()
    if metric.name not in known and ":" not in metric.name:
        raise UsageError(
            f"Unknown metric '{metric.name}'.{nearest(metric.name, known)} Known: accuracy, agreement, divergence, "
            f"{', '.join(known)}; any other comes from a function evaluate(model) that returns it."
        )
    found = metrics.get(metric.name)
    if found.maximize != metric.maximize:
        how = f"--maximize {metric.name}" if found.maximize else f"--minimize-metric {metric.name}"
        raise UsageError(
            f"The metric {metric.name} is better the {'larger' if found.maximize else 'smaller'} it is; ask for it with {how}."
        )


def loss_name(metric: Metric) -> str:
    """Return what ``Score.loss`` is beside a metric: the loss, or the divergence where no class is known."""
    return "divergence" if metric.name in ("agreement", "divergence", *metrics.names()) else "loss"


def loss_text(metric: Metric, loss: float) -> str:
    """Return a ``Score.loss`` as it is shown."""
    return f"{loss:.4f}" if loss_name(metric) == "loss" else f"{loss:.4g}"
