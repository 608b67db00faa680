"""The one door for images: whatever a user passes becomes checked images in memory, items, or a stream, or a sentence."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import numpy as np
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, IterableDataset, TensorDataset, default_collate, default_convert

from autoprune.data._check import Expected, Place, failed, fields
from autoprune.data._held import Held
from autoprune.data._items import Items, read_like
from autoprune.data._nested import Nested
from autoprune.data._rewound import Rewound, rewinding
from autoprune.data._seeded import seeded
from autoprune.data._stream import Stream
from autoprune.errors import AutopruneError, UsageError

Adapted = Held | Items | Stream | Nested
Images = Dataset[Any] | Iterable[Any] | Stream | Nested
"""What `adapt` takes, as far as types can say it."""
_KINDS = "a data set, a loader, or tensors (images, labels)"


def adapt(
    part: Any, name: str, expected: Expected | None = None, *, labelled: bool | None = True, most: int | None = None
) -> Adapted:
    """Understand what a user passed as images, and check it: what is in memory at once, the rest as it is read.

    Understood are data sets of pairs, longer tuples or dicts; loaders, whose sampler is asked once for the order; iterable data
    sets and other iterables of batches or items; tensors and arrays, (images, labels) or a dict of them; lists of items.

    Args:
        part: What was passed; what this returned before is returned as it is.
        name: What the part is called in messages.
        expected: What the network takes and gives, as far as it is known.
        labelled: Whether labels are needed; False takes those that there are, None does not read them.
        most: Most images that are read of what can only be gone through; None for all.

    Raises:
        UsageError: for what cannot be understood; names it.
        AutopruneError: if the user's own code raises.
    """
    expected = expected or Expected()
    if isinstance(part, Nested) or (isinstance(part, Held | Items | Stream) and not expected.nested):
        return part.unlabelled() if labelled is None else part
    if expected.nested:
        return Nested(part, name=name, expected=expected, labelled=labelled, most=most)
    given: dict[str, Any] = {"name": name, "expected": expected, "labelled": labelled}
    if isinstance(part, DataLoader):
        return _from_loader(part, given, most)
    if isinstance(part, TensorDataset):
        return _from_tensors(part, given)
    if isinstance(part, Tensor | np.ndarray):
        return Held(part, None, **given)
    if are_batches(part, expected):
        return Stream(part, **given, batched=True, most=most)
    if isinstance(part, Mapping) or _are_columns(part, expected):
        found = fields(part, Place(name, whole=True), labelled=labelled)
        held = Held(found.image, found.label, **given)
        if found.note is not None:
            held.note(found.note)
        return held
    if isinstance(part, str | bytes | type):
        what = f"class {part.__name__}" if isinstance(part, type) else f"{type(part).__name__} {part!r}"
        raise UsageError(f"The {name} part is the {what}; give {_KINDS}.")
    if isinstance(part, IterableDataset):
        return Stream(part, **given, batched=False, most=most)
    if isinstance(part, Dataset) or (hasattr(part, "__getitem__") and hasattr(part, "__len__")):
        return Items(part, **given)
    if isinstance(part, Iterable):
        return Stream(part, **given, batched=True, once=iter(part) is part, most=most)
    raise UsageError(f"The {name} part is a {type(part).__name__}; give {_KINDS}.")


def is_function(part: Any) -> bool:
    """Whether a part is the user's own evaluation, a function of the model, and no images."""
    images = isinstance(part, Dataset | DataLoader | Held | Items | Stream | Nested | type) or hasattr(
        part, "__getitem__"
    )
    return callable(part) and not images and not isinstance(part, Iterable)


def as_dataset(part: Any, name: str, expected: Expected | None = None, *, labelled: bool | None = True) -> Held | Items:
    """Return what a user passed as a data set with ``len`` and indices, see `adapt`; of a loader what its sampler draws.

    Raises:
        UsageError: likewise, and for a stream that memory does not hold.
        AutopruneError: likewise.
    """
    if isinstance(part, DataLoader) and by_index(part):
        order = sampled_order(part, name)[0]
        data = part.dataset
        if isinstance(data, TensorDataset):
            held = _from_tensors(data, {"name": name, "expected": expected or Expected(), "labelled": labelled})
            return held if order is None else held.subset(order)
        return Items(data, name=name, expected=expected or Expected(), labelled=labelled, order=order)
    found = adapt(part, name, expected, labelled=labelled)
    if isinstance(found, Nested):
        raise UsageError(f"The {name} part holds nested inputs, of which there is no data set; pass them from Python.")
    if not isinstance(found, Stream):
        return found
    held_too = found.held
    if held_too is None:
        raise UsageError(f"The {name} part is a stream of more images than are kept in memory; give a data set.")
    joined = Held(
        held_too[0], held_too[1] if labelled else None, name=name, expected=Expected(), labelled=bool(labelled)
    )
    joined.notes.update(found.notes)
    return joined


def _from_tensors(part: TensorDataset, given: Mapping[str, Any]) -> Held:
    read = len(part.tensors) > 1 and given["labelled"] is not None
    held = Held(part.tensors[0], part.tensors[1] if read else None, **given)
    if len(part.tensors) > 2 and read:
        held.note(f"has {len(part.tensors)} tensors: the first is taken as the images, the second as the labels.")
    return held


def _are_columns(part: Any, expected: Expected) -> bool:
    """Whether something is (images, labels) for all images, not a list of items."""
    if not isinstance(part, tuple | list) or not part or not isinstance(part[0], Tensor | np.ndarray):
        return False
    return part[0].ndim == (4 if expected.shape is None else len(expected.shape) + 1)


def are_batches(part: Any, expected: Expected | None) -> bool:
    """Whether something is a list of batches of images alone: its second tensor has as many dimensions as its first."""
    if not isinstance(part, tuple | list) or len(part) < 2 or not all(isinstance(x, Tensor | np.ndarray) for x in part):
        return False
    dims = 4 if expected is None or expected.shape is None else len(expected.shape) + 1
    return bool(part[0].ndim == part[1].ndim == dims and dims > 2)


def by_index(loader: DataLoader[Any]) -> bool:
    """Whether a loader gives the items of its data set, collated as usual or not at all: a sampler decides which ones."""
    own = type(loader).__iter__ is DataLoader.__iter__ and not isinstance(loader.dataset, IterableDataset)
    return own and loader.collate_fn in (default_collate, default_convert) and hasattr(loader.dataset, "__getitem__")


def _from_loader(loader: DataLoader[Any], given: Mapping[str, Any], most: int | None) -> Adapted:
    own = type(loader).__iter__ is DataLoader.__iter__ and loader.batch_size is not None
    if own and isinstance(loader.dataset, IterableDataset) and loader.collate_fn is default_collate:
        return Stream(_ItemsOf(loader), **given, batched=False, most=most, group=loader.batch_size)
    if by_index(loader):
        order, sizes = sampled_order(loader, given["name"])
        found = Items(loader.dataset, **given, order=order, batches=sizes, loader=loader)
        if loader.drop_last and (left := len(loader.sampler) - len(found)) > 0:  # type: ignore[arg-type]
            found.note(f"is a loader with drop_last: {left} of its items are left out, the same ones in every pass.")
        return found
    return Stream(
        Rewound(loader), **given, batched=loader.batch_size is not None or loader.batch_sampler is not None, most=most
    )


class _ItemsOf:
    """The items of an iterable data set, as a loader's workers read them, uncollated: every one is understood by itself."""

    def __init__(self, loader: DataLoader[Any]) -> None:
        self._loader = loader

    def __iter__(self) -> Iterator[Any]:
        loader = self._loader
        if loader.num_workers == 0 and not loader.drop_last:
            yield from loader.dataset  # type: ignore[misc]
            return
        for items in read_like(loader, loader.dataset, batch_size=loader.batch_size, drop_last=loader.drop_last):
            yield from items


def sampled_order(loader: DataLoader[Any], name: str) -> tuple[list[int] | None, list[int] | None]:
    """Ask a loader's sampler once: which items it draws, ascending (None for each of them once), and the batches' sizes."""
    try:
        with rewinding(loader), seeded(0):
            if loader.batch_sampler is None:
                drawn, sizes = list(loader.sampler), None
            else:
                batches = [list(batch) for batch in loader.batch_sampler]
                drawn, sizes = [index for batch in batches for index in batch], [len(batch) for batch in batches]
        order = sorted(int(index) for index in drawn)
    except AutopruneError:
        raise
    except Exception as error:
        raise AutopruneError(f"The {name} loader's sampler raised {failed(error)}.") from error
    try:
        whole = order == list(range(len(loader.dataset)))  # type: ignore[arg-type]
    except TypeError:
        whole = False
    return (None if whole else order), sizes
