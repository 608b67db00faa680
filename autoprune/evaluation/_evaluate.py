"""Accuracy and loss of a model on one part of the data."""

from __future__ import annotations

import math
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from statistics import median
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from autoprune.data import Expected, Held, Images, Items, Stream, adapt, image_keys, is_function
from autoprune.errors import AutopruneError, UsageError
from autoprune.evaluation._divergence import divergence
from autoprune.evaluation._user import Evaluate, UserEvaluation
from autoprune.model_guard import eval_mode
from autoprune.surgery import fast_layout, run_in_layout

Part = Images | Evaluate
Batch = tuple[int, Tensor, Tensor]
"""Number of the first image, images, labels."""
MAX_CACHED_BYTES = 2**31
PEEK_STEPS = (4, 2)
"""A race looks after every fourth batch of the images was run, and after every second."""
ENOUGH = 9
"""Batches whose median says what a pass takes."""
TEMPERATURE = 4.0
"""Of distances between answers; see docs/search.md for what else was tried."""
Z_THRESHOLD = 3.0
"""Standard errors by which a model's loss must be larger, image by image, to be clearly worse: one in 740 is so by chance."""


@dataclass(frozen=True, eq=False)
class Answers:
    """What a model answered, image by image.

    Attributes:
        right: Whether the class was right, shape (n,).
        loss: Cross-entropy in nats, shape (n,).
        distance: Kullback-Leibler divergence from the reference's answers, see `Evaluator.refer`, shape (n,).
        seen: Which of the evaluator's images these are, shape (n,).
    """

    right: Tensor
    loss: Tensor
    distance: Tensor
    seen: Tensor

    def of(self, seen: Tensor) -> Answers:
        """Return the answers for some of the images, where these are for all."""
        return Answers(self.right[seen], self.loss[seen], self.distance[seen], seen)


class Evaluator:
    """Scores models on one data part, always the same images in the same order.

    Args:
        part: Images that `autoprune.data.adapt` understands, or a callable ``model -> {"accuracy", "loss"}``.
        name: What the part is called in messages ("search").
        device: Where the model runs.
        batch_size: Images per forward pass (a loader keeps its own).
        expected: What the model takes and gives, as far as it is known.

    Attributes:
        size: Number of images, as they are seen, or None if a callable does the work (or a stream was not read yet).
        answers: What the last model answered; None if a callable does the work.
        distance: How far the last model's answers are from the reference's, in nats; NaN where there is none.
        seconds: What the last model takes for all images by the median of its batches, so that no hiccup and no warming up
            counts; NaN where images are not held in memory, or in too few batches to tell.
        keys: A number for each image that equal images share (see `image_keys`), shape (size,), once all were seen.
        labels: The class of each image, shape (size,), once all were seen.

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
    ) -> None:
        self.name = name
        self.device = device
        self._batches: list[Batch] | None = None
        self._call: UserEvaluation | None = None
        self._source: Items | Stream | None = None
        self._notes: dict[str, None] = {}
        self._batch_size = batch_size
        self.size: int | None = None
        self.answers: Answers | None = None
        self.distance = math.nan
        self.seconds = math.nan
        self.keys: Tensor | None = None
        self.labels: Tensor | None = None
        self._reference: Tensor | None = None
        self._plain: bool | None = None  # whether the first network could not take images channels-last
        if is_function(part):
            self._call = UserEvaluation(cast(Evaluate, part), name)
            return
        found = adapt(part, name, expected)
        self._notes = found.notes
        if isinstance(found, Held):
            self.size = len(found)
            images, labels = found.tensors
            self.keys, self.labels = image_keys(images), labels
            images = fast_layout(images, device)
            self._batches = [
                (start, images[start : start + batch_size], labels[start : start + batch_size])
                for start in range(0, self.size, batch_size)
            ]
        else:
            self._source, self.size = found, found.size if isinstance(found, Stream) else len(found)

    @property
    def notes(self) -> tuple[str, ...]:
        """What the user should know of the part, in sentences, as far as it was read."""
        return (*self._notes, *(() if self._call is None else self._call.notes))

    def _stream(self) -> Iterator[Batch]:
        if self._batches is not None or self._source is None:
            yield from self._batches or ()
            return
        # Decode once, keep if it fits: a search runs over the same images hundreds of times.
        kept: list[Batch] | None = []
        keys: list[Tensor] = []
        classes: list[Tensor] = []
        held = first = 0
        for images, labels in self._source.batches(self._batch_size):
            if self.keys is None:
                keys.append(image_keys(images))
                classes.append(labels)
            if kept is not None:
                kept.append((first, images, labels))
                held += images.numel() * images.element_size()
                if held > MAX_CACHED_BYTES:
                    kept = None
            yield first, images, labels
            first += len(labels)
        self._batches, self.size = kept, first
        if self.keys is None:
            self.keys, self.labels = torch.cat(keys), torch.cat(classes)

    def some(self, count: int) -> Tensor | None:
        """Return up to so many images from all over the part, shape (n, ...); None where they are not held in memory."""
        if self._batches is None:
            return None
        total = sum(len(images) for _, images, _ in self._batches)
        chosen = torch.linspace(0, total - 1, min(count, total)).long()
        return torch.cat(
            [
                images[(chosen[(chosen >= first) & (chosen < first + len(images))] - first).to(images.device)]
                for first, images, _ in self._batches
            ]
        )

    @property
    def races(self) -> bool:
        """Whether a model can be stopped in a race: the images are held, so that a few of all kinds can be run first."""
        return self._batches is not None

    @torch.no_grad()
    def __call__(self, model: nn.Module, baseline: Answers | None = None) -> tuple[float, float]:
        """Return (top-1 accuracy in [0, 1], mean cross-entropy in nats) of ``model`` in eval mode; `distance` is set too.

        In a race a model that is clearly worse is stopped after a quarter or half of the batches. What is returned is then
        the baseline's result over all images, and the mean difference on those that were seen.

        Args:
            model: The model.
            baseline: What another model answered to all images, to race against.

        Raises:
            AutopruneError: if a user's callable returns something else than a dict with an accuracy in [0, 1].
        """
        self.distance = math.nan
        with eval_mode(model):
            if self._call is not None:
                return self._call(model)
            if baseline is not None and self.races:
                return self._raced(model, baseline)
            held = self._batches is not None
            self.answers, paces = self._answered(model, self._stream())
            self.seconds = len(self.answers.seen) * median(paces) if held and len(paces) >= ENOUGH else math.nan
            return self._told(_means(self.answers))

    def _raced(self, model: nn.Module, baseline: Answers) -> tuple[float, float]:
        done: list[Answers] = []
        left = list(enumerate(self._stream()))
        for step in (*PEEK_STEPS, 1):
            if not (now := [batch for number, batch in left if number % step == 0]):
                continue  # there are fewer batches
            done.append(self._answered(model, now)[0])
            left = [(number, batch) for number, batch in left if number % step]
            self.answers = found = _joined(done)
            same = baseline.of(found.seen)
            if left and clearly_worse(found.loss - same.loss):
                whole, own, theirs = _means(baseline), _means(found), _means(same)
                accuracy, loss, distance = (w + o - t for w, o, t in zip(whole, own, theirs, strict=True))
                return self._told((min(1.0, max(0.0, accuracy)), loss, max(0.0, distance)))
        return self._told(_means(found))

    def _told(self, means: tuple[float, float, float]) -> tuple[float, float]:
        accuracy, loss, self.distance = means
        return accuracy, loss

    @torch.no_grad()
    def refer(self, model: nn.Module) -> tuple[float, float]:
        """Return what a call does, and from now on say how far other models' answers are from this one's.

        In Kullback-Leibler divergence of softmaxes of temperature `TEMPERATURE` (as Hinton et al., "Distilling the Knowledge in
        a Neural Network", 2015): a cooler one, like the loss, rewards answers for being timid. Only for answers of shape
        (N, classes), and only with a part whose images are known.
        """
        logits: list[Tensor] = []
        handle = model.register_forward_hook(lambda _model, _given, answer: logits.append(answer))
        try:
            accuracy, loss = self(model)
        finally:
            handle.remove()
        if self._call is None and (wrong := torch.isnan(cast(Answers, self.answers).loss).nonzero()).numel():
            raise UsageError(
                f"The dense network's answer to item {int(wrong[0])} of the {self.name} part is NaN or infinite, and to "
                f"{len(wrong)} of {self.size} in all; give a network whose answers are finite."
            )
        if self._call is not None and math.isnan(loss) and self._call.gives_loss:
            raise AutopruneError(
                f"The evaluate function for the {self.name} part returned the loss NaN for the dense network; it must be finite, "
                "or left out."
            )
        if self._call is None and all(isinstance(some, Tensor) and some.dim() == 2 for some in logits):
            self._reference, self.distance = torch.cat(logits), 0.0
        return accuracy, loss

    def _answered(self, model: nn.Module, batches: Iterable[Batch]) -> tuple[Answers, list[float]]:
        """Return what a model answers, and the seconds an image took in each batch."""
        found, paces = [], []
        for first, images, labels in batches:
            began = time.perf_counter()
            logits, labels = self._run(model, images.to(self.device)), labels.to(self.device)
            loss = F.cross_entropy(logits.float(), labels, reduction="none")
            seen = torch.arange(first, first + len(labels), device=self.device)
            right = (logits.argmax(dim=1) == labels) & ~torch.isnan(loss)
            found.append(Answers(right, loss, self._distances(logits, seen), seen))
            if self.device.type == "cuda":
                torch.cuda.synchronize(self.device)
            paces.append((time.perf_counter() - began) / len(labels))
        return _joined(found), paces

    def _run(self, model: nn.Module, images: Tensor) -> Tensor:
        logits, plain = run_in_layout(model, images.contiguous() if self._plain else images)
        self._plain = plain if self._plain is None else self._plain  # the same for every later network, in any order
        result: Tensor = logits
        return result

    def _distances(self, logits: Tensor, seen: Tensor) -> Tensor:
        if self._reference is None or logits.shape[1:] != self._reference.shape[1:]:
            return torch.full((len(logits),), math.nan, device=logits.device)
        return divergence(logits, self._reference[seen], TEMPERATURE)


def clearly_worse(differences: Tensor) -> bool:
    """Return whether losses are larger than a baseline's beyond chance, given their differences image by image, shape (n,)."""
    if len(differences) < 2:
        return False
    error = float(differences.double().std()) / math.sqrt(len(differences))
    return float(differences.mean()) > Z_THRESHOLD * error


def _means(answers: Answers) -> tuple[float, float, float]:
    right = int(answers.right.sum()) / len(answers.right)
    return right, float(answers.loss.double().mean()), float(answers.distance.double().mean())


def _joined(parts: Sequence[Answers]) -> Answers:
    return Answers(
        *(torch.cat([getattr(part, name) for part in parts]) for name in ("right", "loss", "distance", "seen"))
    )
