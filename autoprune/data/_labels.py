"""Whether what a user passed has labels, seen from its first item."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from itertools import chain
from typing import Any

import numpy as np
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, IterableDataset, TensorDataset

from autoprune.data._adapt import adapt, are_batches, by_index, sampled_order
from autoprune.data._check import LABEL_KEYS, Expected
from autoprune.data._held import Held
from autoprune.data._items import Items
from autoprune.data._nested import Nested
from autoprune.data._rewound import Rewound
from autoprune.data._seeded import seeded
from autoprune.data._stream import Stream


def labels_in(part: Any, expected: Expected | None = None) -> tuple[bool, Any]:
    """Return whether a part has labels, and the part, for what can be gone through only once with its first item put back.

    What cannot be told or read has labels: `adapt` says what is wrong with it.

    Args:
        part: Anything that `adapt` understands.
        expected: What the network takes; where that may be nested, the part is returned understood.
    """
    if expected is not None and expected.nested:
        found = adapt(part, "search", expected, labelled=False)
        return isinstance(found, Nested) and found.labelled, found
    if isinstance(part, Held):
        return len(part.tensors) > 1, part
    if isinstance(part, Items | Stream):
        return part.labelled, part
    if isinstance(part, Tensor | np.ndarray):
        return False, part
    if isinstance(part, TensorDataset):
        return len(part.tensors) > 1, part
    if isinstance(part, str | bytes | type) or part is None:
        return True, part
    if are_batches(part, expected):
        return False, part
    if isinstance(part, Mapping) or (isinstance(part, tuple | list) and part and _is_column(part[0])):
        return _has_label(part), part
    try:
        with seeded(0):
            if isinstance(part, DataLoader) and isinstance(part.dataset, IterableDataset):
                return _has_label(next(iter(part.dataset))), part
            if isinstance(part, DataLoader) and by_index(part):
                order = sampled_order(part, "search")[0]
                return _has_label(part.dataset[0 if order is None else order[0]]), part
            if isinstance(part, DataLoader):
                return _has_label(next(iter(Rewound(part)))), part
            if (isinstance(part, Dataset) and not isinstance(part, IterableDataset)) or hasattr(part, "__getitem__"):
                return _has_label(part[0]), part
            if isinstance(part, Iterable):
                return _first_of(part)
    except Exception:  # whatever the user's code raises is said when the part is understood
        return True, part
    return True, part


def _first_of(part: Iterable[Any]) -> tuple[bool, Any]:
    iterator = iter(part)
    first = next(iterator)
    return _has_label(first), (chain([first], iterator) if iterator is part else part)


def _is_column(value: Any) -> bool:
    return isinstance(value, Tensor | np.ndarray) and value.ndim > 2


def _has_label(item: Any) -> bool:
    if isinstance(item, Mapping):
        return any(key in item for key in LABEL_KEYS)
    return isinstance(item, tuple | list) and len(item) > 1
