"""``imagefolder:ROOT``: ``train/CLASS/*.jpg`` and ``val/CLASS/*.jpg``, decoded when asked for."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torch import Tensor
from torch.utils.data import Dataset, Subset

from autoprune.data._types import CALIBRATION, draw, halves
from autoprune.errors import AutopruneError, UsageError
from autoprune.support.packages import lazy

if TYPE_CHECKING:
    from PIL import Image
    from torchvision.datasets import ImageFolder

datasets = lazy("torchvision.datasets", "An image folder needs")

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # ImageNet's


def read_folder(
    root: Path, transform: Callable[[Any], Tensor]
) -> tuple[Dataset[Any], Dataset[Any], Dataset[Any], Dataset[Any], int]:
    """Return calibration, search, report and training images, and the number of classes.

    ``val`` is cut at random (fixed seed) in a search part of half the images, at most 5,000, and a report part of the rest.

    Args:
        root: The folder.
        transform: From a PIL image to a tensor (C, H, W).

    Raises:
        UsageError: if a folder is missing or empty, or if the two differ in their classes.
    """
    train, val = (_open(root / part, transform) for part in ("train", "val"))
    if train.classes != val.classes:
        odd = sorted(set(train.classes) ^ set(val.classes))[:3]
        raise UsageError(
            f"'{root}' has other classes in train than in val ({', '.join(odd)}); give both the same folders."
        )
    if len(val) < 2:
        raise UsageError(f"'{root / 'val'}' holds {len(val)} image; at least 2 are needed (search and report).")
    search, report = halves(len(val))
    calibration = Subset(train, draw(CALIBRATION, len(train)).tolist())
    return calibration, Subset(val, search.tolist()), Subset(val, report.tolist()), train, len(train.classes)


def _open(folder: Path, transform: Callable[[Any], Tensor]) -> ImageFolder:
    if not folder.is_dir():
        raise UsageError(f"There is no folder '{folder}'; an image folder has train/CLASS and val/CLASS.")
    try:
        return datasets.ImageFolder(str(folder), transform=transform, loader=_load)
    except FileNotFoundError as error:
        raise UsageError(
            f"'{folder}' lacks images ({str(error).splitlines()[0]}); put at least one in each class."
        ) from error


def _load(path: str) -> Image.Image:
    try:
        image: Image.Image = datasets.folder.default_loader(path)
    except OSError as error:
        raise AutopruneError(f"The image '{path}' cannot be decoded ({error}); mend or remove it.") from error
    return image
