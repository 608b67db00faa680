"""Training images by the batch: in memory where they are, decoded when asked for where they are not."""

from __future__ import annotations

import copy
import os
import sys
from collections.abc import Callable, Iterator, Sized
from typing import TYPE_CHECKING, Any, TypeGuard, cast

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, TensorDataset

from autoprune.data import UNLABELLED, Data, Held, ImageArrays, Items, as_dataset, seeded
from autoprune.errors import UsageError
from autoprune.finetuning._augment import Draws, crop, draw, pad
from autoprune.support.packages import lazy

if TYPE_CHECKING:
    from torchvision.datasets import ImageFolder

transforms = lazy("torchvision.transforms", "An image folder needs")

_STATISTICS_EPOCH = 0  # whose images BatchNorm is measured on; training counts from 1
_SCALE = (0.35, 1.0)  # share of an image that a crop of random size covers


class TrainingImages:
    """Augmented training images; an epoch's are a function of the seed and its number.

    Args:
        data: Items (image (C, H, W), label); of labels that are not learned from any number, or none in memory.
        kind: "crop-flip", "shift" or "none".
        batch_size: Images per batch; all there are, if these are fewer. A last batch that is not full is left out.
        seed: Seed of order and augmentation.
        mean: Of the normalisation of an image folder, per channel.
        std: Likewise.
        workers: Processes that decode images which are not in memory; None for a few with image folders.

    Attributes:
        size: Number of images.
        batch_size: Images per batch.
        steps: Batches per epoch.
    """

    def __init__(
        self,
        data: Dataset[Any],
        *,
        kind: str,
        batch_size: int,
        seed: int,
        mean: tuple[float, ...] = (),
        std: tuple[float, ...] = (),
        workers: int | None = None,
    ) -> None:
        if not isinstance(data, Held | Items | ImageArrays | TensorDataset) and not _is_folder(data):
            data = as_dataset(data, "training")
        self.size = len(cast(Sized, data))
        if self.size < 2:
            raise UsageError(f"There are {self.size} training images; at least 2 are needed to train.")
        self.batch_size = min(batch_size, self.size)
        self.steps = self.size // self.batch_size
        self._kind = kind
        self._seed = seed
        self._workers = 0 if workers is None else workers
        self._images: Tensor | None = None
        self._normalise: Callable[[Tensor], Tensor] | None = None
        self._labels = torch.empty(0)
        self._data = data
        if isinstance(data, ImageArrays) and data.transform is None:
            self._images = torch.from_numpy(data.images)
            self._labels = torch.from_numpy(data.labels)
            self._normalise = data.normalise
            self._blank = 0.0
        elif isinstance(data, TensorDataset):
            self._images = data.tensors[0]
            self._labels = data.tensors[1] if len(data.tensors) > 1 else torch.full((self.size,), UNLABELLED)
            self._blank = float(self._images.min())
        elif _is_folder(data) and kind == "crop-flip" and mean:
            self._data, self._kind = _random_resized(data, mean, std), "none"
            self._workers = min(4, (os.cpu_count() or 1) // 2) if workers is None else workers
        self._padded = None if self._images is None or kind == "none" else pad(self._images, value=self._blank)

    def epoch(self, number: int, *, rank: int = 0, world: int = 1) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield the batches of one epoch: images (B, C, H, W), labels (B,).

        Args:
            number: The epoch's.
            rank: Which of ``world`` equal parts of each batch.
            world: Number of parts.
        """
        batches = self._order(number)
        if self._images is None:
            yield from self._decoded([batch[rank::world] for batch in batches], number)
            return
        draws = self._draws(number, self._images)
        for batch in batches:
            chosen = batch[rank::world]
            yield self._augmented(chosen, draws), self._labels[chosen]

    def sample(self, count: int) -> Iterator[Tensor]:
        """Yield batches of about ``count`` augmented images, the same on every call."""
        for step, (images, _) in enumerate(self.epoch(_STATISTICS_EPOCH)):
            if step * self.batch_size >= count:
                return
            yield images

    def _order(self, number: int) -> list[Tensor]:
        order = draw(self.size, (8, 8), kind="none", seed=self._seed, epoch=number).order
        return list(order[: self.steps * self.batch_size].view(self.steps, self.batch_size))

    def _draws(self, number: int, images: Tensor) -> Draws:
        return draw(self.size, _side(images), kind=self._kind, seed=self._seed, epoch=number)

    def _augmented(self, chosen: Tensor, draws: Draws) -> Tensor:
        assert self._images is not None
        if self._padded is None:
            images = self._images[chosen]
        else:
            images = crop(self._padded[chosen], _side(self._images), draws.offset[chosen], draws.flip[chosen])
        return images if self._normalise is None else self._normalise(images)

    def _decoded(self, batches: list[Tensor], number: int) -> Iterator[tuple[Tensor, Tensor]]:
        loader = DataLoader(
            _Seeded(self._data, self._seed, number),
            batch_sampler=[batch.tolist() for batch in batches],
            num_workers=self._workers,
        )
        for (images, labels), chosen in zip(loader, batches, strict=True):
            if self._kind != "none":
                draws = self._draws(number, images)
                padded = pad(images, value=float(images.min()))
                images = crop(padded, _side(images), draws.offset[chosen], draws.flip[chosen])
            yield images, labels


class _Seeded(Dataset[Any]):
    """Items whose random transforms depend on seed, epoch and index only, in whatever process they are made."""

    def __init__(self, data: Dataset[Any], seed: int, epoch: int) -> None:
        self._data = data
        self._seed = seed
        self._epoch = epoch

    def __len__(self) -> int:
        return len(cast(Sized, self._data))

    def __getitem__(self, index: int) -> tuple[Any, int]:
        with seeded((self._seed * 1_000_003 + self._epoch) * 100_000_007 + index):
            image, label = self._data.pair(index) if isinstance(self._data, Items) else self._data[index][:2]
        return image, int(label)


def training_data(data: Data) -> tuple[Dataset[Any], str]:
    """Return the images to train on and, in a sentence, what the user should know about them ("" for nothing)."""
    if data.train is not None:
        return data.train, ""
    count = len(cast(Sized, data.calibration))
    return data.calibration, f"The data have no training part: training on the {count:,} calibration images"


def augmentation(data: str, wanted: str) -> str:
    """Return the augmentation for a data set: what is wanted, or for "auto" what is usual there."""
    if wanted != "auto":
        return wanted
    kind = data.partition(":")[0]
    return {"cifar10": "crop-flip", "imagefolder": "crop-flip", "digits": "shift", "fashion-mnist": "shift"}.get(
        kind, "none"
    )


def _is_folder(data: Dataset[Any]) -> TypeGuard[ImageFolder]:
    """Say whether data are an image folder of torchvision's, which is not imported for that: who made one has done so."""
    folder = sys.modules.get("torchvision.datasets.folder")
    return folder is not None and isinstance(data, folder.ImageFolder)


def _random_resized(data: ImageFolder, mean: tuple[float, ...], std: tuple[float, ...]) -> ImageFolder:
    """Return the folder with the usual augmentation in the place of its own preprocessing."""
    sample = data[0][0]
    steps: list[Any] = [transforms.Grayscale()] if sample.shape[0] == 1 else []
    steps += [
        transforms.RandomResizedCrop(tuple(sample.shape[-2:]), scale=_SCALE),
        transforms.RandomHorizontalFlip(),
        transforms.ToTensor(),
        transforms.Normalize(mean, std),
    ]
    changed = copy.copy(data)
    changed.transform = transforms.Compose(steps)
    changed.transforms = type(data.transforms)(changed.transform, data.target_transform)
    return changed


def _side(images: Tensor) -> tuple[int, int]:
    return int(images.shape[-2]), int(images.shape[-1])
