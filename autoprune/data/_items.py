"""A data set of the user's whose items are asked for one by one, or the loader in front of it with its order frozen."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from autoprune.data._check import Expected, Place, as_images, as_label, failed, fields
from autoprune.data._held import chosen, empty
from autoprune.data._seeded import seeded
from autoprune.errors import AutopruneError, UsageError

Pair = tuple[Tensor, int]
UNLABELLED = -1
"""Stands for the label of an image without one."""


class Items(Dataset[Pair]):
    """Checked items (image, class) of a map-style data set, always the same for the same index.

    Random transforms are seeded by the index, so that an image is the same on every pass and in every process.

    Args:
        data: Anything with ``len`` and indices; an item is what `fields` understands.
        name: What the part is called in messages.
        expected: What the network takes; the first item's shape where it is not known.
        labelled: Whether labels are needed; else an image without one has the class `UNLABELLED`. None: none is read.
        order: Which items count, in which order; None for all.
        batches: Numbers of images of a loader's batches; None to leave it to who reads.
        loader: Whose worker processes read the items.

    Attributes:
        name: As given.
        notes: What the user should know, in sentences.

    Raises:
        UsageError: for an item that cannot be understood, or no image at all.
        AutopruneError: if the data set raises.
    """

    def __init__(
        self,
        data: Any,
        *,
        name: str,
        expected: Expected,
        labelled: bool | None,
        order: Sequence[int] | None = None,
        batches: Sequence[int] | None = None,
        loader: DataLoader[Any] | None = None,
    ) -> None:
        self.data = data
        self.name = name
        self.notes: dict[str, None] = {}
        self._expected = expected
        self._labelled = labelled
        self._order = order
        self._sizes = batches
        self._loader = loader
        self._size = length(data, name) if order is None else len(order)
        if self._size == 0:
            raise empty(name)
        if expected.shape is None:
            self._expected = replace(expected, shape=tuple(self[0][0].shape))
        else:
            self[0]

    def __len__(self) -> int:
        return self._size

    def __getitem__(self, index: int) -> Pair:
        if not -self._size <= index < self._size:
            raise IndexError(index)  # what ends a loop over the items
        with seeded(index % self._size):
            return self.pair(index)

    def pair(self, index: int) -> Pair:
        """Return an item with whatever random numbers its transforms draw now."""
        at = int(index) if self._order is None else int(self._order[index])
        place = Place(self.name, at)
        try:
            item = self.data[at]
        except AutopruneError:
            raise
        except Exception as error:
            raise AutopruneError(f"{place} cannot be read, the data set raised {failed(error)}.") from error
        found = fields(item, place, labelled=self._labelled)
        if found.note is not None:
            self.note(found.note)
        image = as_images(found.image, place, self._expected, batched=False, note=self.note)
        if self._labelled is None or (found.label is None and not self._labelled):
            return image, UNLABELLED
        try:
            return image, as_label(found.label, place, self._expected)
        except UsageError:
            if self._labelled:
                raise
            return image, UNLABELLED

    @property
    def labelled(self) -> bool:
        """Whether labels are read and the first item has one."""
        return self._labelled is not None and self[0][1] != UNLABELLED

    def note(self, text: str) -> None:
        """Keep what the user should know: the rest of a sentence that begins with the part."""
        self.notes[f"The {self.name} part {text}"] = None

    def batches(self, size: int) -> Iterator[tuple[Tensor, Tensor]]:
        """Go through all items: images (B, ...) and classes (B,), ``size`` at a time unless a loader says it."""
        sizes = self._sizes or [min(size, self._size - start) for start in range(0, self._size, size)]
        ends = torch.tensor(sizes).cumsum(0).tolist()
        ranges = [range(end - count, end) for count, end in zip(sizes, ends, strict=True)]
        for pairs in self._read(ranges):
            yield torch.stack([image for image, _ in pairs]), torch.tensor([label for _, label in pairs])

    def _read(self, ranges: list[range]) -> Iterator[list[Pair]]:
        loader = self._loader
        if loader is None or loader.num_workers == 0:
            yield from ([self[index] for index in indices] for indices in ranges)
            return
        for pairs in read_like(loader, _Caught(self), batch_sampler=[list(indices) for indices in ranges]):
            for pair in pairs:
                if isinstance(pair, Exception):
                    raise pair
            yield pairs

    def drawn(self, count: int, seed: int) -> Tensor:
        """Return up to ``count`` images, chosen at random by ``seed``."""
        return torch.stack([self[int(index)][0] for index in chosen(self._size, count, seed)])

    def subset(self, indices: list[int]) -> Items:
        """Return some of the items, in this order."""
        return Items(
            self.data,
            name=self.name,
            expected=self._expected,
            labelled=self._labelled,
            order=indices if self._order is None else [self._order[index] for index in indices],
        )

    def unlabelled(self) -> Items:
        """Return the same items, of which no label is read."""
        other = copy.copy(self)
        other._labelled, other.notes = None, dict(self.notes)
        return other


class _Caught(Dataset[Any]):
    """Items as a worker process reads them: errors of ours are handed over whole, not as a worker's traceback."""

    def __init__(self, items: Items) -> None:
        self._items = items

    def __len__(self) -> int:
        return len(self._items)

    def __getitem__(self, index: int) -> Pair | AutopruneError:
        try:
            return self._items[index]
        except AutopruneError as error:
            return error


def read_like(loader: DataLoader[Any], data: Dataset[Any], **batches: Any) -> DataLoader[Any]:
    """Return a loader with worker processes like the user's, whose batches are lists of items.

    Args:
        loader: The user's loader.
        data: What is read.
        **batches: What is in a batch, as torch's loader takes it: ``batch_sampler``, or ``batch_size`` and ``drop_last``.
    """
    return DataLoader(
        data,
        **batches,
        collate_fn=list,
        num_workers=loader.num_workers,
        worker_init_fn=loader.worker_init_fn,
        multiprocessing_context=loader.multiprocessing_context,
        prefetch_factor=loader.prefetch_factor,
        timeout=loader.timeout,
        generator=torch.Generator().manual_seed(0),
    )


def length(data: Any, name: str) -> int:
    """Return the number of items.

    Raises:
        UsageError: if a data set does not say it.
    """
    try:
        return len(data)
    except Exception as error:
        raise UsageError(
            f"The {name} part is a {type(data).__name__} without a length ({failed(error)}); give it a __len__, or make it an "
            "IterableDataset."
        ) from error
