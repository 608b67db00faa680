"""The user's own data: a function that returns the parts."""

from __future__ import annotations

from collections.abc import Mapping, Sized
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Subset, TensorDataset

from autoprune.data._types import halves
from autoprune.errors import UsageError
from autoprune.factory import call_factory

_KEYS = ("calibration", "validation", "train", "test")


def call_data_factory(spec: str, options: Mapping[str, Any]) -> tuple[dict[str, Dataset[Any]], str]:
    """Call the factory and name its parts calibration, search, report and, if there is one, train.

    The factory returns a mapping with "calibration" and "validation" and optionally "train" and "test", or a tuple in this
    order (calibration, validation[, train[, test]]); each a data set or a loader of (images, labels). Without "test" the
    validation images are halved at random (fixed seed).

    Returns:
        The parts, and in words how they were made.

    Raises:
        UsageError: if it returns anything else.
        AutopruneError: if it raises.
    """
    found = call_factory(spec, "data", options)
    if isinstance(found, tuple | list) and 2 <= len(found) <= len(_KEYS):
        found = dict(zip(_KEYS, found, strict=False))
    if not isinstance(found, Mapping) or not {"calibration", "validation"} <= set(found) <= set(_KEYS):
        raise UsageError(
            f"The data '{spec}' must return a mapping with 'calibration' and 'validation' "
            "(optionally 'train' and 'test'), each a data set or a loader."
        )
    parts = {name: part for name, part in found.items() if part is not None}
    given = {name: _as_dataset(part, spec, name) for name, part in parts.items() if name != "train"}
    if "train" in parts:
        train = parts["train"]
        given["train"] = train.dataset if isinstance(train, DataLoader) else train
    validation = given.pop("validation")
    if "test" in given:
        return {**given, "search": validation, "report": given.pop("test")}, "search: validation; report: test"
    search, report = halves(_length(validation, spec, "validation"))
    halved = {"search": _subset(validation, search.tolist()), "report": _subset(validation, report.tolist())}
    return {**given, **halved}, "search and report: validation, halved at random"


def _length(part: Any, spec: str, name: str) -> int:
    if not isinstance(part, Sized):
        raise UsageError(f"The {name} part of '{spec}' has no length; return a map-style data set or a finite loader.")
    return len(part)


def _as_dataset(part: Any, spec: str, name: str) -> Dataset[Any]:
    """Return a data set as it is; a loader's batches joined in memory, so that its own collation counts."""
    if not isinstance(part, DataLoader):
        if not (hasattr(part, "__getitem__") and isinstance(part, Sized)):
            raise UsageError(f"The {name} part of '{spec}' is a {type(part).__name__}; return a data set or a loader.")
        return part  # type: ignore[return-value]
    images: list[Tensor] = []
    labels: list[Tensor] = []
    for batch in part:
        if (
            not isinstance(batch, tuple | list)
            or len(batch) != 2
            or not all(isinstance(item, Tensor) for item in batch)
        ):
            raise UsageError(f"The {name} loader of '{spec}' must give pairs of tensors (images, labels).")
        images.append(batch[0])
        labels.append(batch[1])
    if not images:
        raise UsageError(f"The {name} part of '{spec}' is empty; at least one image is needed.")
    return TensorDataset(torch.cat(images), torch.cat(labels))


def _subset(part: Dataset[Any], indices: list[int]) -> Dataset[Any]:
    if isinstance(part, TensorDataset):
        return TensorDataset(*(tensor[indices] for tensor in part.tensors))
    return Subset(part, indices)
