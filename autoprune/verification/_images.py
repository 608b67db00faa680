"""The images that an export is verified on."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Subset, TensorDataset

from autoprune.data import Adapted, Held, RunBatch, is_function
from autoprune.errors import AutopruneError, UsageError
from autoprune.graph import captured
from autoprune.model_guard import ModelInputs
from autoprune.registry import NotAllowedError, only_named_by
from autoprune.runs import Inputs, Rebuilt, RunConfig, RunFolder, inputs_for, load_parts, prepared_as, task_of

BOUND = 256
"""Most report images after an export, evenly spaced, unless all are asked for."""
_AT_ONCE = 64
MOST_BYTES = 2**31
"""Of inputs that are held at once."""
NOISE = 64
"""Random images, where there are no data."""


@dataclass(frozen=True, eq=False)
class Images:
    """Images to run two networks on.

    Attributes:
        data: Items (image, label), or all images as a tensor, or inputs of any nesting.
        description: What they are, for the user.
        remark: Why they are not the report images, if they are not.
    """

    data: Dataset[Any] | Tensor | ModelInputs
    description: str
    remark: str | None = None

    def batches(self, size: int) -> Iterator[Tensor | ModelInputs]:
        """Go through the images, so many at a time, shape (B, C, H, W), or inputs of any nesting."""
        if isinstance(self.data, Tensor | ModelInputs):
            yield from (self.data[start : start + size] for start in range(0, len(self.data), size))
        else:
            for batch in DataLoader(self.data, batch_size=size):
                yield batch[0]


@only_named_by("data", "run")
def find_images(
    folder: RunFolder, rebuilt: Rebuilt, *, data: str | None, limit: int | None, download: bool, run: str | None = None
) -> Images:
    """Return the report images of a run, or random ones where it has no data that can be named.

    Args:
        folder: The run.
        rebuilt: Its network.
        data: Specification of the data; None for the run's.
        limit: Most images, evenly spaced; None for all of them.
        download: Whether the data may be downloaded.
        run: Runs the network on a batch of the data; None for the run's own function, if it has one.

    Raises:
        UsageError: if all images are asked for and the data cannot be loaded, or ``data`` was given and cannot.
        AutopruneError: if a download or a factory fails, likewise.
    """
    dense = rebuilt.loaded
    config = folder.read_config() if folder.exists else None
    named = data
    if named is None:
        named = config.data if config is not None else "digits" if dense.spec == "digits" else None
    if named is None or (named == "python" and data is None):
        return _noise(rebuilt, "the images are not known by name (--data)")
    mean, std = (config.mean, config.std) if config is not None else ((), ())
    try:
        preparation = None if config is None else prepared_as(None, config, named)
        options: dict[str, Any] = {"mean": mean, "std": std, "download": download, "preparation": preparation}
        if run is not None or rebuilt.nested or (config is not None and not _classes(config)):
            task = replace(task_of(config, run), labels=False, metric=None)
            return _called_with(inputs_for(dense, named, task=task, **options), named, limit)
        parts = load_parts(named, dense, **options)
    except NotAllowedError:
        raise
    except AutopruneError as error:
        if data is not None or limit is None:
            raise UsageError(f"{str(error).rstrip('.')}; say with --data where the images are.") from error
        return _noise(rebuilt, f"the run's images cannot be loaded: {error}")
    total = len(parts.report)  # type: ignore[arg-type]
    if limit is None or limit >= total:
        return Images(parts.report, f"all {total:,} report images of {named.partition(':')[0]}")
    return Images(
        _spaced(parts.report, total, limit), f"{limit:,} of {total:,} report images of {named.partition(':')[0]}"
    )


def _classes(config: RunConfig) -> bool:
    """Whether the images of a run come with class labels."""
    return config.labels and config.metric == "accuracy"


def _called_with(inputs: Inputs, named: str, limit: int | None) -> Images:
    """Return what a network is called with while it runs on report inputs, or on others where a function evaluates those.

    Args:
        inputs: The dense network and data.
        named: The data's specification.
        limit: Most items, the first ones; None for all that memory holds.
    """
    parts = {"report": inputs.report, "search": inputs.search, "calibration": inputs.calibration}
    name, part = next((name, part) for name, part in parts.items() if part is not None and not is_function(part))
    found: list[ModelInputs] = []
    total = held = 0
    adapted = cast(Adapted, part)
    batches = (
        ((some, None) for some in torch.split(adapted.tensors[0], _AT_ONCE))
        if isinstance(adapted, Held)
        else adapted.batches(_AT_ONCE)
    )
    for batch, _ in batches:
        value = batch.value if isinstance(batch, RunBatch) else batch
        found.append(captured(inputs.model, (), [value], inputs.task.run))
        total += len(found[-1])
        held += sum(tensor.numel() * tensor.element_size() for tensor in found[-1].tensors)
        if held > MOST_BYTES or (limit is not None and total >= limit):
            break
    some = ModelInputs.join(found)[:limit]
    return Images(some, f"{len(some):,} {name} inputs of {named.partition(':')[0]}")


def _spaced(part: Dataset[Any], total: int, count: int) -> Dataset[Any]:
    """Return evenly spaced images; image folders are sorted by class."""
    chosen = np.linspace(0, total - 1, count).round().astype(np.int64)
    if isinstance(part, TensorDataset):
        return TensorDataset(*(tensor[torch.from_numpy(chosen)] for tensor in part.tensors))
    return Subset(part, chosen.tolist())


def _noise(rebuilt: Rebuilt, why: str) -> Images:
    return Images(rebuilt.noise(NOISE), f"{NOISE} random images", why)
