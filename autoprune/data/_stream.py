"""Images of the user's that can only be gone through: iterable data sets, loaders with a collation of their own."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Iterator
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from autoprune.data._check import Expected, Place, as_images, as_label, as_labels, failed, fields, image_keys, to_tensor
from autoprune.data._held import chosen, empty
from autoprune.data._seeded import steadily
from autoprune.errors import AutopruneError, UsageError

MAX_HELD_BYTES = 2**31
"""Images that are kept from the first pass on, in bytes; more are read anew in every pass."""
_SEED = 0
_GROUP = 64  # items that are made one batch
Batch = tuple[Tensor, Tensor]


class Stream:
    """Checked batches of something that is iterated, the same ones on every pass.

    Every pass has the same random numbers, so that shuffling and random transforms repeat; where they do not, it is refused.

    Args:
        source: What is iterated: batches or items, as `fields` understands them.
        name: What the part is called in messages.
        expected: What the network takes.
        labelled: Whether labels are needed; else they are left out.
        batched: Whether batches come, where the shape of an image is not known.
        once: Whether it can be gone through only once.
        most: Images that are read; None for all.
        group: Items that are made one batch.

    Attributes:
        name: As given.
        notes: What the user should know, in sentences.
        size: Number of images, once all were read; else None.

    Raises:
        UsageError: for what cannot be understood, no image at all, or other images on the second pass.
        AutopruneError: if the source raises.
    """

    def __init__(
        self,
        source: Iterable[Any],
        *,
        name: str,
        expected: Expected,
        labelled: bool | None,
        batched: bool,
        once: bool = False,
        most: int | None = None,
        group: int | None = None,
    ) -> None:
        self.name = name
        self.notes: dict[str, None] = {}
        self.size: int | None = None
        self._source = source
        self._expected = expected
        self._labelled = labelled
        self._batched = batched
        self._most = most
        self._group = group or _GROUP
        self._kept: list[Batch] | None = None
        self._keys: list[Tensor] = []
        kept, held = [], 0
        for batch in self._read():
            kept.append(batch)
            held += batch[0].numel() * batch[0].element_size()
            if held > MAX_HELD_BYTES:
                if once:
                    raise UsageError(
                        f"The {name} part can be gone through only once and holds more than {MAX_HELD_BYTES >> 30} GiB; "
                        "give a data set or a loader."
                    )
                return
        if not kept:
            raise empty(name)
        self._kept, self.size = kept, sum(len(images) for images, _ in kept)

    @property
    def labelled(self) -> bool:
        """Whether labels are read."""
        return bool(self._labelled)

    def note(self, text: str) -> None:
        """Keep what the user should know: the rest of a sentence that begins with the part."""
        self.notes[f"The {self.name} part {text}"] = None

    def unlabelled(self) -> Stream:
        """Return the same images; the labels of those that are kept are forgotten."""
        other = copy.copy(self)
        other._labelled, other.notes = None, dict(self.notes)
        if self._kept is not None:
            other._kept = [(images, torch.full((len(images),), -1)) for images, _ in self._kept]
        return other

    @property
    def held(self) -> tuple[Tensor, Tensor] | None:
        """All images and classes, if they are kept."""
        if self._kept is None:
            return None
        images, labels = zip(*self._kept, strict=True)
        return torch.cat(images), torch.cat(labels)

    def batches(self, size: int = _GROUP) -> Iterator[Batch]:
        """Go through all batches; their size is the source's own."""
        if self._kept is not None:
            yield from self._kept
            return
        first = 0
        for number, (images, labels) in enumerate(self._read()):
            keys = image_keys(images)
            if number == len(self._keys):
                self._keys.append(keys)
            if not torch.equal(keys, self._keys[number]):
                raise UsageError(
                    f"Batch {number} of the {self.name} part holds other images than on the first pass, and all of them are too "
                    "many to keep; give a loader that does not shuffle, and no random transforms."
                )
            first += len(images)
            yield images, labels
        self.size = first

    def drawn(self, count: int, seed: int) -> Tensor:
        """Return up to ``count`` of the first images, chosen at random by ``seed``."""
        images = (self.held or self.first(count))[0]
        return images[chosen(len(images), count, seed)]

    def first(self, count: int) -> Batch:
        """Return the first images and classes."""
        found: list[Batch] = []
        for batch in self.batches():
            found.append(batch)
            if sum(len(images) for images, _ in found) >= count:
                break
        images, labels = _joined(found)
        return images[:count], labels[:count]

    def _read(self) -> Iterator[Batch]:
        number = first = 0
        group: list[Batch] = []
        for item in self._raw():
            if self._most is not None and first >= self._most:
                break
            images, labels = self._understood(item, number, first)
            number, first = number + 1, first + len(images)
            if self._batched:
                yield images, labels
                continue
            group.append((images, labels))
            if len(group) == self._group:
                yield _joined(group)
                group = []
        if group:
            yield _joined(group)

    def _raw(self) -> Iterator[Any]:
        iterator, number = steadily(self._source, _SEED), 0
        while True:
            try:
                item = next(iterator)
            except StopIteration:
                return
            except AutopruneError:
                raise
            except Exception as error:
                what = "Batch" if self._batched else "Item"
                raise AutopruneError(
                    f"{what} {number} of the {self.name} part cannot be read, it raised {failed(error)}."
                ) from error
            yield item
            number += 1

    def _understood(self, item: Any, number: int, first: int) -> Batch:
        if number == 0:
            self._learn(item)
        place = Place(self.name, first, number if self._batched else None)
        found = fields(item, place, labelled=self._labelled)
        if found.note is not None:
            self.note(found.note)
        images = as_images(found.image, place, self._expected, batched=self._batched, note=self.note)
        if self._expected.shape is None:
            self._expected = replace(self._expected, shape=tuple(images.shape[1:] if self._batched else images.shape))
        images = images if self._batched else images[None]
        if not self._labelled:
            return images, torch.full((len(images),), -1)
        if self._batched:
            return images, as_labels(found.label, place, self._expected, count=len(images))
        return images, torch.tensor([as_label(found.label, place, self._expected)])

    def _learn(self, item: Any) -> None:
        """See from the first one whether batches or items come."""
        image = to_tensor(fields(item, Place(self.name), labelled=None).image)
        if image is not None and self._expected.shape is not None:
            dims = len(self._expected.shape)
            self._batched = image.ndim > dims if image.ndim in (dims, dims + 1) else self._batched


def _joined(group: list[Batch]) -> Batch:
    images, labels = zip(*group, strict=True)
    return torch.cat(images), torch.cat(labels)
