"""Quality and loss of a model on one part of the data."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from statistics import median
from typing import Any, cast

import torch
from torch import Tensor, nn

from autoprune.data import Expected, Images, RunBatch, is_function, moved
from autoprune.errors import AutopruneError, UsageError
from autoprune.evaluation._answers import Agreement, Answers, Apart, Classes, Measure, bounded, clearly_worse, joined
from autoprune.evaluation._batches import Batch, Batches
from autoprune.evaluation._divergence import Divergence
from autoprune.evaluation._metric import ACCURACY, AGREEMENT, DIVERGENCE, Metric
from autoprune.evaluation._metrics import TargetMetric, metrics
from autoprune.evaluation._outputs import Outputs
from autoprune.evaluation._reference import Reference
from autoprune.evaluation._significance import error_of
from autoprune.evaluation._task import Task, answered, notes_of, outputs_to
from autoprune.evaluation._user import Evaluate, UserEvaluation
from autoprune.model_guard import ModelInputs, eval_mode, unchanged
from autoprune.support.device import clock
from autoprune.surgery import run_in_layout

Part = Images | Evaluate
PEEK_STEPS = (4, 2)
"""A race looks after every fourth batch of the images was run, and after every second."""
ENOUGH = 9
"""Batches whose median says what a pass takes."""
EQUAL = 1e-4
"""The most that a divergence may say of equal outputs, which is rounding."""


class Evaluator:
    """Scores models on one data part, always the same images in the same order.

    Args:
        part: Images that `autoprune.data.adapt` understands, or a callable ``model -> {"accuracy", "loss"}``.
        name: What the part is called in messages ("search").
        device: Where the model runs.
        batch_size: Images per forward pass (a loader keeps its own).
        expected: What the model takes and gives, as far as it is known.
        task: What models are judged by. Without labels the first model is to be referred to, see `refer`.

    Attributes:
        answers: What the last model answered; None if a callable does the work that gives one number only.
        distance: How far the last model's answers are from the reference's; NaN where there is none.
        seconds: What the last model takes for all images by the median of its batches, so that no hiccup and no warming up
            counts; NaN where images are not held in memory, or in too few batches to tell.

    Raises:
        UsageError: if the part holds no images, or some that cannot be understood.
    """

    def __init__(
        self,
        part: Part,
        *,
        name: str,
        device: torch.device,
        batch_size: int = 64,
        expected: Expected | None = None,
        task: Task | None = None,
    ) -> None:
        self.name = name
        self.device = device
        self.answers: Answers | None = None
        self.distance = math.nan
        self.seconds = math.nan
        self._task = task or Task()
        self._call: UserEvaluation | None = None
        self._batches: Batches | None = None
        self._measure: Measure | None = None
        self._divergence: Divergence | None = None
        self._reference: Reference | None = None
        self._refers = False
        self._notes: dict[str, None] = {}
        self._plain: bool | None = None  # whether the first network could not take images channels-last
        if is_function(part):
            self._call = UserEvaluation(cast(Evaluate, part), name, self._task.metric or ACCURACY)
            return
        self._batches = Batches(
            cast(Images, part),
            name=name,
            device=device,
            batch_size=batch_size,
            expected=expected,
            labelled=self._task.labels is not False,
        )

    @property
    def size(self) -> int | None:
        """Number of images, as they are seen, or None if a callable does the work (or a stream was not read yet)."""
        return None if self._batches is None else self._batches.size

    @property
    def keys(self) -> Tensor | None:
        """A number for each image that equal images share (see `image_keys`), shape (size,), once all were seen."""
        return None if self._batches is None else self._batches.keys

    @property
    def labels(self) -> Tensor | None:
        """The class of each image, shape (size,), once all were seen; None where none are read."""
        return None if self._batches is None else self._batches.labels

    @property
    def notes(self) -> tuple[str, ...]:
        """What the user should know of the part, in sentences, as far as it was read."""
        found = () if self._batches is None else tuple(self._batches.notes)
        return (*found, *self._notes, *(() if self._call is None else self._call.notes))

    @property
    def by_function(self) -> bool:
        """Whether a function of the user's measures."""
        return self._call is not None

    @property
    def metric(self) -> Metric:
        """What is measured; without labels it is known once a model was referred to."""
        if self._measure is not None:
            return self._measure.metric
        return self._task.metric or ACCURACY

    def some(self, count: int) -> Tensor | ModelInputs | None:
        """Return up to so many images from all over the part, shape (n, ...); None where they are not held in memory."""
        return None if self._batches is None else self._batches.some(count)

    @property
    def races(self) -> bool:
        """Whether a model can be stopped in a race: the images are held, so that a few of all kinds can be run first."""
        return self._batches is not None and self._batches.held

    def total(self, answers: Answers) -> float:
        """Return the metric over some answers."""
        assert self._measure is not None
        return self._measure.total(answers.values)

    def each(self, answers: Answers) -> Tensor:
        """Return one number for each image whose mean is the metric, shape (n,); bool where an image is right or wrong."""
        assert self._measure is not None
        return self._measure.each(answers.values)

    def error(self, value: float) -> float | None:
        """Return the standard error of the metric of the last model; None where it is not known."""
        by_image = None if self.answers is None else self.each(self.answers).cpu().numpy()
        return error_of(value, by_image, self.size, share=self.metric.share)

    @torch.no_grad()
    def __call__(self, model: nn.Module, baseline: Answers | None = None) -> tuple[float, float]:
        """Return (metric, mean loss) of ``model`` in eval mode, by default top-1 accuracy in [0, 1] and cross-entropy in nats.

        `distance` is set too. In a race a model that is clearly worse is stopped after a quarter or half of the batches. What is
        returned is then the baseline's result over all images, and the mean difference on those that were seen.

        Args:
            model: The model.
            baseline: What another model answered to all images, to race against.

        Raises:
            AutopruneError: if a user's callable returns something else than a dict with an accuracy in [0, 1].
        """
        self.distance = math.nan
        with eval_mode(model):
            if self._call is not None:
                return self._called(model, self._call)
            assert self._batches is not None
            if baseline is not None and self.races:
                return self._raced(model, baseline, list(enumerate(self._batches)))
            held = self._batches.held
            self.answers, paces = self._answered(model, self._batches)
            self.seconds = len(self.answers.seen) * median(paces) if held and len(paces) >= ENOUGH else math.nan
            return self._told(self._means(self.answers))

    def _called(self, model: nn.Module, call: UserEvaluation) -> tuple[float, float]:
        """Return what a function of the user's says, and keep what it says of each sample."""
        found = call(model)
        self._measure, self.answers = self._measure or Apart(self.metric), None
        if call.by_sample is not None:
            unknown = torch.full_like(call.by_sample, math.nan)
            self.answers = Answers(call.by_sample, unknown, unknown, torch.arange(len(unknown)))
        return found

    def _raced(self, model: nn.Module, baseline: Answers, left: list[tuple[int, Batch]]) -> tuple[float, float]:
        done: list[Answers] = []
        for step in (*PEEK_STEPS, 1):
            if not (now := [batch for number, batch in left if number % step == 0]):
                continue  # there are fewer batches
            done.append(self._answered(model, now)[0])
            left = [(number, batch) for number, batch in left if number % step]
            self.answers = found = joined(done)
            same = baseline.of(found.seen)
            if left and clearly_worse(found.loss - same.loss):
                whole, own, theirs = self._means(baseline), self._means(found), self._means(same)
                value, loss, distance = (w + o - t for w, o, t in zip(whole, own, theirs, strict=True))
                value = min(1.0, max(0.0, value)) if self.metric.share else value
                return self._told((value, loss, max(0.0, distance)))
        return self._told(self._means(found))

    def _told(self, means: tuple[float, float, float]) -> tuple[float, float]:
        value, loss, self.distance = means
        return value, loss

    def _means(self, answers: Answers) -> tuple[float, float, float]:
        return self.total(answers), float(answers.loss.double().mean()), float(answers.distance.double().mean())

    @torch.no_grad()
    def refer(self, model: nn.Module) -> tuple[float, float]:
        """Return what a call does, and from now on say how far other models' answers are from this one's.

        See `autoprune.evaluation.divergences`: for class scores that is the Kullback-Leibler divergence of softmaxes of
        temperature 4 (Hinton et al., "Distilling the Knowledge in a Neural Network", 2015): a cooler one, like the loss, rewards
        answers for being timid. Only with a part whose images are known.

        Args:
            model: The dense network. Where its outputs are too many to be kept, it is run again beside every other.

        Raises:
            UsageError: if an answer is NaN or infinite, or outputs cannot be compared.
        """
        self._refers, self._reference = True, None
        try:
            value, loss = self(model)
        finally:
            self._refers = False
        if self._call is not None:
            self._call.check_dense(loss)
            return value, loss
        found = cast(Answers, self.answers)
        if (wrong := torch.isnan(found.loss).nonzero()).numel():
            raise UsageError(
                f"The dense network's answer to item {int(wrong[0])} of the {self.name} part is NaN or infinite, and to "
                f"{len(wrong)} of {self.size} in all; give a network whose answers are finite."
            )
        reference = cast(Reference | None, self._reference)
        if reference is not None:
            reference.close()
            self.distance = 0.0
            if not reference.kept:
                self._notes[
                    f"The dense network's outputs on the {self.name} part are too large to keep: it is run beside every network "
                    "that is scored, which doubles the time of a score."
                ] = None
        return value, loss

    def _answered(self, model: nn.Module, batches: Iterable[Batch]) -> tuple[Answers, list[float]]:
        """Return what a model answers, and the seconds an image took in each batch."""
        found, paces = [], []
        for first, images, labels in batches:
            began = clock(self.device)
            images = images.to(self.device)
            outputs = self._outputs(model, images)
            count = outputs.count
            if isinstance(images, RunBatch):
                cast(Batches, self._batches).counted(count)
            labels = None if labels is None else moved(labels, self.device)
            seen = torch.arange(first, first + count, device=self.device)
            found.append(self._judged(model, outputs, images, labels, seen))
            if self.device.type == "cuda":
                torch.cuda.synchronize(self.device)
            paces.append((clock(self.device) - began) / count)
        return joined(found), paces

    def _judged(self, model: nn.Module, outputs: Outputs, images: Any, labels: Any, seen: Tensor) -> Answers:
        """Return the answers to one batch."""
        measure = self._measure or self._begun(outputs)
        reference = None
        if self._refers:
            distance = self._referred(model, outputs, seen)
        elif self._reference is None:
            distance = torch.full((len(seen),), math.nan, device=seen.device)
        else:
            self._reference.check(outputs)
            reference = self._reference.at(seen, images)
            distance = cast(Divergence, self._divergence)(outputs.tensors, reference, self._reference.variances)
            distance = distance if isinstance(measure, Classes) else bounded(distance)
        values = measure.values(outputs, labels, reference, distance)
        return Answers(values, measure.loss(outputs, labels, distance), distance, seen)

    def _begun(self, outputs: Outputs) -> Measure:
        """Choose what is measured by the first outputs."""
        if not self._task.labels and not self._refers:
            raise AutopruneError(
                f"The {self.name} part has no labels: give the dense network first, which others are compared with."
            )
        task = self._task.completed(outputs)
        metric = cast(Metric, task.metric)
        self._measure = measure_of(metric)
        if isinstance(self._measure, TargetMetric):
            self._measure.prepare(labels for _, _, labels in cast(Batches, self._batches))
        if not task.labels and self.name == "search":
            self._notes.update(dict.fromkeys(notes_of(task, outputs)))
        return self._measure

    def _referred(self, model: nn.Module, outputs: Outputs, seen: Tensor) -> Tensor:
        """Take outputs of the dense network, and return their divergence from themselves, NaN where they are not finite."""
        if self._reference is None:
            self._divergence = Divergence(self._task.divergence, outputs)

            def again(images: Any) -> Outputs:
                with unchanged(model), eval_mode(model):
                    return self._outputs(model, images)

            needed = [not by_kl for by_kl in self._divergence.by_kl]
            self._reference = Reference(again, self.name, needed)
        self._reference.add(outputs)
        divergence = cast(Divergence, self._divergence)
        if isinstance(self._measure, Classes):  # the loss says whether they are finite
            return torch.zeros(len(seen), device=seen.device)
        own = divergence(outputs.tensors, outputs.tensors, [1.0] * len(outputs.tensors)).float()
        if bool((own.abs() > EQUAL).any()):
            raise UsageError(
                f"The divergence {', '.join(dict.fromkeys(divergence.names))} of equal outputs is {float(own.abs().max()):.4g}, "
                "but must be 0."
            )
        return own * 0.0

    def _outputs(self, model: nn.Module, images: Any) -> Outputs:
        return outputs_to(images, self._run(model, images))

    def _run(self, model: nn.Module, images: Any) -> Any:
        if isinstance(images, RunBatch | ModelInputs):
            return answered(self._task.run, model, images)
        answer, plain = run_in_layout(model, images.contiguous() if self._plain else images)
        self._plain = plain if self._plain is None else self._plain  # the same for every later network, in any order
        return answer


def measure_of(metric: Metric) -> Measure:
    """Return what measures a metric of ours."""
    own: dict[str, Callable[[Metric], Measure]] = {
        ACCURACY.name: Classes,
        AGREEMENT.name: Agreement,
        DIVERGENCE.name: Apart,
    }
    return own[metric.name](metric) if metric.name in own else metrics.get(metric.name)(metric)
