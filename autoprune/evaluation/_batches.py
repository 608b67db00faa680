"""The batches of one data part as every network is run on them: always the same, decoded once where memory holds them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from autoprune.data import Expected, Held, Images, Items, Nested, RunBatch, Stream, adapt, bytes_in, image_keys, keys_of
from autoprune.model_guard import ModelInputs
from autoprune.surgery import fast_layout

Batch = tuple[int, Any, Any]
"""Number of the first image, images, labels (None where none are read)."""
MAX_CACHED_BYTES = 2**31


class Batches:
    """Goes through the batches of a part.

    Args:
        part: Images that `autoprune.data.adapt` understands.
        name: What the part is called in messages ("search").
        device: Where networks run.
        batch_size: Images per forward pass (a loader keeps its own).
        expected: What the model takes and gives, as far as it is known.
        labelled: Whether labels are read.

    Attributes:
        size: Number of images; None where a stream was not read yet.
        keys: A number for each image that equal images share (see `image_keys`), shape (size,), once all were seen.
        labels: The class of each image, shape (size,), once all were seen; None where none are read.
        notes: What the user should know of the part, in sentences, as far as it was read.

    Raises:
        UsageError: if the part holds no images, or some that cannot be understood.
    """

    def __init__(
        self,
        part: Images,
        *,
        name: str,
        device: torch.device,
        batch_size: int,
        expected: Expected | None,
        labelled: bool,
    ) -> None:
        self._batch_size, self._labelled = batch_size, labelled
        self._kept: list[Batch] | None = None
        self._counted = 0
        self._source: Items | Stream | Nested | None = None
        self.keys: Tensor | None = None
        self.labels: Tensor | None = None
        found = adapt(part, name, expected, labelled=labelled or None)
        self.notes = found.notes
        self.size: int | None
        if isinstance(found, Held):
            self.size = len(found)
            images, labels = found.tensors[0], found.tensors[1] if labelled else None
            self.keys, self.labels = image_keys(images), labels
            images = fast_layout(images, device)
            ranges = [slice(start, start + batch_size) for start in range(0, self.size, batch_size)]
            self._kept = [(some.start, images[some], None if labels is None else labels[some]) for some in ranges]
        else:
            self._source, self.size = found, len(found) if isinstance(found, Items) else found.size

    @property
    def held(self) -> bool:
        """Whether all images are in memory."""
        return self._kept is not None

    def __iter__(self) -> Iterator[Batch]:
        if self._kept is not None or self._source is None:
            yield from self._kept or ()
            return
        # Decode once, keep if it fits: a search runs over the same images hundreds of times.
        kept: list[Batch] | None = []
        keys: list[Tensor] = []
        classes: list[Tensor] = []
        held = first = 0
        for images, found in self._source.batches(self._batch_size):
            labels = found if self._labelled else None
            if self.keys is None:
                keys += [] if isinstance(images, RunBatch) else [keys_of(images)]
                classes += [found] if isinstance(found, Tensor) and found.dim() == 1 else []
            if kept is not None:
                kept.append((first, images, labels))
                held += bytes_in((images, None))
                if held > MAX_CACHED_BYTES:
                    kept = None
            yield first, images, labels
            first += self._counted if isinstance(images, RunBatch) else len(images)
        self._kept, self.size = kept, first
        if self.keys is None and keys:
            self.keys = torch.cat(keys)
        if self.labels is None and classes and self._labelled:
            self.labels = torch.cat(classes)

    def counted(self, count: int) -> None:
        """Say how many images the batch holds that was gone through last, which its own function ran."""
        self._counted = count

    def some(self, count: int) -> Tensor | ModelInputs | None:
        """Return up to so many images from all over the part, shape (n, ...); None where they are not held in memory."""
        if self._kept is None or isinstance(self._kept[0][1], RunBatch):
            return None
        total = sum(len(images) for _, images, _ in self._kept)
        chosen = torch.linspace(0, total - 1, min(count, total)).long()
        found = [
            images[(chosen[(chosen >= first) & (chosen < first + len(images))] - first).to(images.device)]
            for first, images, _ in self._kept
        ]
        return torch.cat(found) if isinstance(found[0], Tensor) else ModelInputs.join(found)
