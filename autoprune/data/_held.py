"""Images of the user's that lie in memory."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.utils.data import TensorDataset

from autoprune.data._check import Expected, Place, as_images, as_labels
from autoprune.errors import UsageError


class Held(TensorDataset):
    """Checked images in memory, and their classes where they have labels: tensors (N, ...) and (N,).

    Args:
        images: Images, anything that `as_images` understands.
        labels: Labels, likewise of `as_labels`; None for none.
        name: What the part is called in messages.
        expected: What the network takes.
        labelled: Whether labels are needed; False leaves out those that cannot be understood, None all.

    Attributes:
        name: As given.
        notes: What the user should know, in sentences.

    Raises:
        UsageError: for what cannot be understood, or no image at all.
    """

    def __init__(self, images: Any, labels: Any, *, name: str, expected: Expected, labelled: bool | None) -> None:
        self.name = name
        self.notes: dict[str, None] = {}
        place = Place(name, whole=True)
        try:
            count = len(images)
        except (TypeError, RuntimeError):  # a single number, a nested tensor: the images are refused below
            count = 1
        if count == 0:
            raise empty(name)
        found = as_images(images, place, expected, batched=True, note=self.note)
        tensors = [found]
        if labels is None and labelled:
            raise UsageError(f"{place} is images without labels; give a data set of pairs (image, label).")
        if labels is not None and labelled is not None:
            try:
                tensors.append(as_labels(labels, place, expected, count=count))
            except UsageError:
                if labelled:
                    raise
        super().__init__(*tensors)

    def note(self, text: str) -> None:
        """Keep what the user should know: the rest of a sentence that begins with the part."""
        self.notes[f"The {self.name} part {text}"] = None

    def drawn(self, count: int, seed: int) -> Tensor:
        """Return up to ``count`` images, chosen at random by ``seed``."""
        return self.tensors[0][chosen(len(self), count, seed)]

    def unlabelled(self) -> Held:
        """Return the images alone."""
        other = self.subset([])
        other.tensors = self.tensors[:1]
        return other

    def subset(self, indices: list[int]) -> Held:
        """Return some of the images, in this order, with no second check."""
        other = Held.__new__(Held)
        other.name, other.notes = self.name, dict(self.notes)
        other.tensors = tuple(tensor[indices] for tensor in self.tensors)
        return other


def chosen(size: int, count: int, seed: int) -> Tensor:
    """Return up to ``count`` different numbers below ``size``, in random order."""
    return torch.randperm(size, generator=torch.Generator().manual_seed(seed))[:count]


def empty(name: str) -> UsageError:
    """Return the error for a part without images."""
    return UsageError(f"The {name} part of the data holds no images; each part needs at least one.")
