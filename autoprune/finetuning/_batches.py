"""Training batches of inputs of any nesting, or for a function of the user's that runs them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from typing import Any

import torch
from torch import Tensor
from torch.utils import _pytree as pytree
from torch.utils.data import DataLoader, Dataset, IterableDataset, TensorDataset

from autoprune.data import Expected, Nested, RunBatch, adapt, by_index, sampled_order
from autoprune.errors import UsageError
from autoprune.finetuning._augment import draw
from autoprune.model_guard import ModelInputs

_STATISTICS_EPOCH = 0  # whose inputs BatchNorm is measured on; training counts from 1
_SEEDS = 100_000_007  # random numbers of one epoch's items, more than there are items


@dataclass(frozen=True, eq=False)
class NestedTraining:
    """What is trained on where inputs are nested, or batches are run by a function.

    Attributes:
        part: A data set, a loader, an iterable or tensors, as `autoprune.data.Nested` understands them, or one of these.
        expected: What the network takes.
        labelled: Whether class numbers are learned from.
    """

    part: Any
    expected: Expected
    labelled: bool = False


def has_labels(part: Any, expected: Expected) -> bool:
    """Return whether a part has targets, seen from its first item; what can be gone through only once is not touched: it has."""
    if isinstance(part, Iterator):
        return True
    found = adapt(part, "train", expected, labelled=False, most=1)
    return isinstance(found, Nested) and found.labelled


class TrainingBatches:
    """Training batches; an epoch's are a function of the seed and its number.

    A data set is shuffled and read anew in every epoch, and so is a loader that collates as usual. Of anything else the items
    that memory holds are shuffled; batches for a function as a whole, and more than memory holds are taken as they come.

    Args:
        training: What is trained on.
        batch_size: Items per batch, where the source does not say it.
        seed: Seed of the order.

    Attributes:
        size: Number of items; of batches that come ready their number times what one of them is taken to hold.
        batch_size: Items per batch.
        steps: Batches per epoch.

    Raises:
        UsageError: for what cannot be understood, or fewer than 2 items.
        AutopruneError: if the user's own code raises.
    """

    def __init__(self, training: NestedTraining, *, batch_size: int, seed: int) -> None:
        part, order = _plain(training.part)
        self._seed = seed
        self._data: Any = part if _is_set(part, training.expected) else None
        self._order = order
        expected = replace(training.expected, batch=batch_size)
        most = None if self._data is None else batch_size  # a data set is read as it is trained on
        labelled = True if training.labelled else None
        found = adapt(part, "train", expected, labelled=labelled, most=most)
        assert isinstance(found, Nested)  # as batches are expected to be nested
        self._nested = found
        self._joined: tuple[Any, Any] | None = None
        if self._data is not None:
            self.size = len(self._data) if self._order is None else len(self._order)
        elif expected.runs or not self._nested.held:
            self.steps = sum(1 for _ in self._nested.batches())
            self.batch_size = _count(training.part, next(self._nested.batches())[0])
            self.size = self.steps * self.batch_size
        else:
            self._joined = _joined(list(self._nested.batches()))
            self.size = len(self._joined[0])
        if self.size < 2:
            raise UsageError(f"There are {self.size} training images; at least 2 are needed to train.")
        if self._data is not None or self._joined is not None:
            self.batch_size = min(batch_size, self.size)
            self.steps = self.size // self.batch_size

    def epoch(self, number: int, *, rank: int = 0, world: int = 1) -> Iterator[tuple[Any, Any]]:
        """Yield the batches of one epoch: inputs, and labels or None.

        Args:
            number: The epoch's.
            rank: Which of ``world`` equal parts of each batch.
            world: Number of parts.

        Raises:
            UsageError: if batches for a function are to be divided.
        """
        if self._data is None and self._joined is None:
            if world > 1:
                raise UsageError(
                    "Batches that come ready cannot be divided over several devices; give a data set, or one device."
                )
            yield from self._ready(number)
            return
        order = self._drawn(self.size, number)[: self.steps * self.batch_size].view(self.steps, self.batch_size)
        parts = [batch[rank::world] for batch in order]
        if self._joined is not None:
            inputs, labels = self._joined
            for some in parts:
                yield inputs[some], None if labels is None else labels[some]
            return
        for some in parts:
            indices = [int(index) if self._order is None else self._order[index] for index in some.tolist()]
            seed = (self._seed * 1_000_003 + number) * _SEEDS
            yield from self._nested.reordered(self._data, indices, seed).batches()

    def sample(self, count: int) -> Iterator[Any]:
        """Yield inputs of about ``count`` items, the same on every call."""
        for step, (inputs, _) in enumerate(self.epoch(_STATISTICS_EPOCH)):
            if step * self.batch_size >= count:
                return
            yield inputs

    def _ready(self, number: int) -> Iterator[tuple[Any, Any]]:
        """Yield batches as they came: in a random order where they are kept."""
        if not self._nested.held:
            yield from islice(self._nested.batches(), self.steps)
            return
        batches = list(self._nested.batches())
        for place in self._drawn(self.steps, number).tolist():
            yield batches[place]

    def _drawn(self, size: int, number: int) -> Tensor:
        return draw(size, (8, 8), kind="none", seed=self._seed, epoch=number).order


def _plain(part: Any) -> tuple[Any, Sequence[int] | None]:
    """Return the data set of a loader that collates as usual, and which items its sampler draws; anything else as it is."""
    if isinstance(part, DataLoader) and by_index(part):
        return part.dataset, sampled_order(part, "train")[0]
    return part, None


def _is_set(part: Any, expected: Expected) -> bool:
    """Whether something is a data set whose items are asked for one by one."""
    if isinstance(part, TensorDataset):
        return expected.runs
    return isinstance(part, Dataset) and not isinstance(part, IterableDataset)


def _joined(batches: Sequence[tuple[Any, Any]]) -> tuple[Any, Any]:
    """Return all inputs, and all labels or None."""
    inputs, labels = zip(*batches, strict=True)
    whole = torch.cat(inputs) if isinstance(inputs[0], Tensor) else ModelInputs.join(inputs)
    return whole, torch.cat(labels) if isinstance(labels[0], Tensor) else None


def _count(part: Any, inputs: Any) -> int:
    """Return the number of items in a batch; of one for a function what a loader or its first tensor says."""
    if not isinstance(inputs, RunBatch):
        return len(inputs)
    if isinstance(part, DataLoader) and part.batch_size is not None:
        return part.batch_size
    return next((len(leaf) for leaf in pytree.tree_leaves(inputs.value) if isinstance(leaf, Tensor) and leaf.dim()), 1)
