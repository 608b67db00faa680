"""The images that an export is verified on."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Subset, TensorDataset

from autoprune.errors import AutopruneError, UsageError
from autoprune.models import LoadedModel
from autoprune.registry import NotAllowedError, only_named_by
from autoprune.runs import RunFolder, load_parts, prepared_as

BOUND = 256
"""Most report images after an export, evenly spaced, unless all are asked for."""
NOISE = 64
"""Random images, where there are no data."""


@dataclass(frozen=True, eq=False)
class Images:
    """Images to run two networks on.

    Attributes:
        data: Items (image, label), or a tensor of images.
        description: What they are, for the user.
        remark: Why they are not the report images, if they are not.
    """

    data: Dataset[Any] | Tensor
    description: str
    remark: str | None = None

    def batches(self, size: int) -> Iterator[Tensor]:
        """Go through the images, so many at a time, shape (B, C, H, W)."""
        if isinstance(self.data, Tensor):
            yield from torch.split(self.data, size)
        else:
            for batch in DataLoader(self.data, batch_size=size):
                yield batch[0]


@only_named_by("data")
def find_images(
    folder: RunFolder, dense: LoadedModel, *, data: str | None, limit: int | None, download: bool
) -> Images:
    """Return the report images of a run, or random ones where it has no data that can be named.

    Args:
        folder: The run.
        dense: Its dense network.
        data: Specification of the data; None for the run's.
        limit: Most images, evenly spaced; None for all of them.
        download: Whether the data may be downloaded.

    Raises:
        UsageError: if all images are asked for and the data cannot be loaded, or ``data`` was given and cannot.
        AutopruneError: if a download or a factory fails, likewise.
    """
    config = folder.read_config() if folder.exists else None
    named = data
    if named is None:
        named = config.data if config is not None else "digits" if dense.spec == "digits" else None
    if named is None or (named == "python" and data is None):
        return _noise(dense, "the images are not known by name (--data)")
    mean, std = (config.mean, config.std) if config is not None else ((), ())
    try:
        preparation = None if config is None else prepared_as(None, config, named)
        parts = load_parts(named, dense, mean=mean, std=std, download=download, preparation=preparation)
    except NotAllowedError:
        raise
    except AutopruneError as error:
        if data is not None or limit is None:
            raise UsageError(f"{str(error).rstrip('.')}; say with --data where the images are.") from error
        return _noise(dense, f"the run's images cannot be loaded: {error}")
    total = len(parts.report)  # type: ignore[arg-type]
    if limit is None or limit >= total:
        return Images(parts.report, f"all {total:,} report images of {named.partition(':')[0]}")
    return Images(
        _spaced(parts.report, total, limit), f"{limit:,} of {total:,} report images of {named.partition(':')[0]}"
    )


def _spaced(part: Dataset[Any], total: int, count: int) -> Dataset[Any]:
    """Return evenly spaced images; image folders are sorted by class."""
    chosen = np.linspace(0, total - 1, count).round().astype(np.int64)
    if isinstance(part, TensorDataset):
        return TensorDataset(*(tensor[torch.from_numpy(chosen)] for tensor in part.tensors))
    return Subset(part, chosen.tolist())


def _noise(dense: LoadedModel, why: str) -> Images:
    return Images(dense.example_input(NOISE, seed=1), f"{NOISE} random images", why)
