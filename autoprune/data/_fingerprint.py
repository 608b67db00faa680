"""A fingerprint of data that were passed: of some items of each part, and of its length."""

from __future__ import annotations

from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.utils import _pytree as pytree

from autoprune.data._adapt import is_function
from autoprune.data._held import Held
from autoprune.data._items import UNLABELLED, Items
from autoprune.data._nested import Nested, RunBatch
from autoprune.model_guard import ModelInputs
from autoprune.support.fingerprint import fingerprint

_SAMPLE = 64  # images of a data set that go into its fingerprint


def fingerprint_parts(*parts: Any) -> str:
    """Return a fingerprint of some images and labels of each part, and of its length; a function counts by its name."""
    named: list[tuple[str, Tensor]] = []
    for number, part in enumerate(parts):
        if part is None or is_function(part):
            named.append((f"{number} {'none' if part is None else name_of(part)}", torch.zeros(0)))
        elif isinstance(part, Held):
            named += [(f"{number} {place}", tensor) for place, tensor in enumerate(part.tensors)]
        elif isinstance(part, Items):
            size = len(part)
            chosen = torch.linspace(0, size - 1, min(size, _SAMPLE)).long().tolist()
            images, labels = zip(*(part[index] for index in chosen), strict=True)
            named.append((f"{number} {size}", torch.stack(images)))
            named += [(f"{number} label", torch.as_tensor(label)) for label in labels if label != UNLABELLED]
        elif isinstance(part, Nested):
            named += [(f"{number} {place}", tensor) for place, tensor in enumerate(_tensors(part.first(_SAMPLE)))]
            named.append((f"{number} {part.size}", torch.zeros(0)))
        else:
            images, labels = part.first(_SAMPLE)
            named += [(f"{number} {part.size}", images), (f"{number} labels", labels)]
    return fingerprint(named)


def _tensors(tree: Any) -> list[Tensor]:
    """Return the tensors in inputs and targets of any nesting."""
    inputs, target = tree
    inputs = inputs.value if isinstance(inputs, RunBatch) else inputs
    inputs = list(inputs.tensors) if isinstance(inputs, ModelInputs) else inputs
    return [leaf for leaf in pytree.tree_leaves((inputs, target)) if isinstance(leaf, Tensor)]


def name_of(thing: Any) -> str:
    """Return ``package.module:name`` of a class or function."""
    while isinstance(thing, partial):
        thing = thing.func
    if not hasattr(thing, "__qualname__"):
        thing = type(thing)
    return f"{thing.__module__}:{thing.__qualname__}"
