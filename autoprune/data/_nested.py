"""Inputs of any nesting with targets of any nesting, or batches that a function of the user's runs: the same on every pass."""

from __future__ import annotations

import copy
import operator
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils import _pytree as pytree
from torch.utils.data import DataLoader, Dataset, IterableDataset, TensorDataset, default_collate

from autoprune.data._check import Expected, Place, as_labels, failed, image_keys, to_tensor
from autoprune.data._form import Form, Split, kind, stacked
from autoprune.data._held import chosen, empty
from autoprune.data._rewound import Rewound
from autoprune.data._seeded import seeded, steadily
from autoprune.data._stream import Stream
from autoprune.errors import AutopruneError, UsageError
from autoprune.model_guard import ModelInputs, as_inputs

MAX_HELD_BYTES = 2**31
"""What is kept from the first pass on, in bytes; more is read anew in every pass."""
_SEED = 0
Batch = tuple[Any, Any]
"""Inputs (a tensor alone, `ModelInputs`, or a `RunBatch`), and their targets, None where none are read."""


@dataclass(frozen=True, eq=False)
class RunBatch:
    """A batch as it came, for a function of the user's that runs it."""

    value: Any

    @property
    def lengths(self) -> set[int]:
        """How many items it may be of: the first dimensions of its tensors, and the length of a list."""
        found = {len(leaf) for leaf in pytree.tree_leaves(self.value) if isinstance(leaf, Tensor) and leaf.dim()}
        return found | ({len(self.value)} if isinstance(self.value, list | tuple) else set())

    def to(self, device: torch.device | str) -> RunBatch:
        """Return it with all its tensors on a device."""
        return RunBatch(moved(self.value, device))


def moved(tree: Any, device: torch.device | str) -> Any:
    """Return any nesting with its tensors on a device."""
    return pytree.tree_map_only(Tensor, lambda tensor: tensor.to(device), tree)


class Nested:
    """Checked batches of a data set, a loader, an iterable, or of tensors of all items, nested like the example input.

    Args:
        part: What the user passed.
        name: What the part is called in messages.
        expected: What the network takes: its ``example``, or that batches are run by a function (``runs``).
        labelled: Whether targets are needed; False takes those that there are, None does not read them.
        most: Most items that are read; None for all.

    Attributes:
        name: As given.
        notes: What the user should know, in sentences.
        size: Number of items, once all were read; else None.

    Raises:
        UsageError: for what cannot be understood, or no item at all.
        AutopruneError: if the user's own code raises.
    """

    def __init__(
        self, part: Any, *, name: str, expected: Expected, labelled: bool | None, most: int | None = None
    ) -> None:
        self.name = name
        self.notes: dict[str, None] = {}
        self.size: int | None = None
        self._expected, self._labelled, self._most = expected, labelled, most
        self._form = None if expected.runs else Form(expected.example)
        self._once = isinstance(part, Iterable) and iter(part) is part if not isinstance(part, Dataset) else False
        self._whole = False
        self._source = self._read_by(part)
        self._kept: list[Batch] | None = []
        held = 0
        for batch in self._checked():
            if self._kept is not None:
                self._kept.append(batch)
                held += bytes_in(batch)
                if held > MAX_HELD_BYTES:
                    self._kept = None
        if self._kept is not None and not self._kept:
            raise empty(name)
        if self._once and self._kept is None:
            raise UsageError(
                f"The {name} part can be gone through only once and holds more than {MAX_HELD_BYTES >> 30} GiB; give a data set "
                "or a loader."
            )

    def note(self, text: str) -> None:
        """Keep what the user should know: the rest of a sentence that begins with the part."""
        self.notes[f"The {self.name} part {text}"] = None

    @property
    def labelled(self) -> bool:
        """Whether targets are read and there are some."""
        return self._labelled is not None and next(self.batches())[1] is not None

    @property
    def held(self) -> bool:
        """Whether all batches are kept in memory."""
        return self._kept is not None

    def reordered(self, part: Any, order: Sequence[int], seed: int) -> Nested:
        """Return the items of a data set like this part, in an order, read anew with other random numbers.

        Args:
            part: The data set.
            order: Which items, in which order.
            seed: Of the random numbers, to which an item's number is added.
        """
        other = copy.copy(self)
        other._kept = other._most = None
        other._source = lambda: ((item, False) for item in self._items(part, order, seed))
        return other

    def unlabelled(self) -> Nested:
        """Return the same items without their targets."""
        other = copy.copy(self)
        other._labelled, other.notes = None, dict(self.notes)
        if self._kept is not None:
            other._kept = [(inputs, None) for inputs, _ in self._kept]
        return other

    def batches(self, size: int = 0) -> Iterator[Batch]:
        """Go through all batches; their size is the source's own, or the one that was expected."""
        yield from self._checked() if self._kept is None else self._kept

    def drawn(self, count: int, seed: int) -> Tensor | ModelInputs | list[Any]:
        """Return up to ``count`` of the first items, chosen at random by ``seed``; of batches for a function the first ones.

        Args:
            count: How many.
            seed: Seed of the choice.
        """
        found: list[Any] = []
        total = 0
        for inputs, _ in self.batches():
            found.append(inputs.value if isinstance(inputs, RunBatch) else inputs)
            total += self._expected.batch if isinstance(inputs, RunBatch) else len(inputs)
            if total >= count and self._kept is None:
                break
        if self._expected.runs:
            return found[: max(1, -(-count // self._expected.batch))]
        joined = torch.cat(found) if isinstance(found[0], Tensor) else ModelInputs.join(found)
        picked: Tensor | ModelInputs = joined[chosen(len(joined), count, seed)]
        return picked

    def first(self, count: int) -> Batch:
        """Return the first inputs, and their targets; of batches for a function the first one."""
        inputs, target = next(self.batches())
        return (inputs, target) if isinstance(inputs, RunBatch) else (inputs[:count], target)

    def _read_by(self, part: Any) -> Callable[[], Iterator[tuple[Any, bool]]]:
        """Return what goes through a part once: items or batches, and which of both they are."""
        if isinstance(part, str | bytes | type):
            raise UsageError(f"The {self.name} part is {kind(part)}; give a data set, a loader, or tensors.")
        if isinstance(part, TensorDataset) and self._form is not None:
            self._whole = True
            return lambda: iter([(part.tensors if len(part.tensors) > 1 else part.tensors[0], True)])
        if isinstance(part, Stream):
            return lambda: ((batch, True) for batch in part.batches())
        if isinstance(part, DataLoader):
            batched = part.batch_size is not None or part.batch_sampler is not None
            if part.drop_last:
                self.note("is a loader with drop_last: its last items may be left out, the same ones in every pass.")
            return lambda: ((batch, batched) for batch in steadily(Rewound(part), _SEED))
        if self._form is not None and not isinstance(part, Dataset) and self._is_whole(part):
            self._whole = True
            return lambda: iter([(part, True)])
        if isinstance(part, IterableDataset):
            return lambda: ((item, False) for item in steadily(part, _SEED))
        if isinstance(part, Dataset) or (hasattr(part, "__getitem__") and hasattr(part, "__len__")):
            items = not isinstance(part, tuple | list) or not self._holds_batches(part)
            return lambda: ((item, not items) for item in self._items(part))
        if isinstance(part, Iterable):
            return lambda: ((batch, True) for batch in steadily(part, _SEED))
        raise UsageError(f"The {self.name} part is {kind(part)}; give a data set, a loader, or tensors.")

    def _is_whole(self, part: Any) -> bool:
        """Whether a part is the tensors of all its items."""
        if isinstance(part, ModelInputs):
            return True
        if not isinstance(part, Tensor | np.ndarray | Mapping | tuple):
            return False
        try:
            found = self._split(part, Place(self.name, whole=True), labelled=False).inputs
        except UsageError:
            return False
        return self._dims(found) == self._dims(self._expected.example)

    def _holds_batches(self, part: Any) -> bool:
        """Whether a list holds batches, and not items."""
        if self._form is None:
            return True
        try:
            found = self._split(part[0], Place(self.name), labelled=False).inputs
        except (UsageError, IndexError):
            return False
        return self._dims(found) == self._dims(self._expected.example)

    @staticmethod
    def _dims(tree: Any) -> list[int]:
        tensors = tree.tensors if isinstance(tree, ModelInputs) else pytree.tree_leaves(tree)
        return [tensor.dim() for tensor in tensors if isinstance(tensor, Tensor)]

    def _items(self, part: Any, order: Sequence[int] | None = None, seed: int = 0) -> Iterator[Any]:
        for index in range(len(part)) if order is None else order:
            with seeded(seed + index):
                try:
                    item = part[index]
                except AutopruneError:
                    raise
                except Exception as error:
                    raise AutopruneError(
                        f"Item {index} of the {self.name} part cannot be read, the data set raised {failed(error)}."
                    ) from error
            yield item

    def _checked(self) -> Iterator[Batch]:
        """Go through the source once, and check what comes."""
        number = first = 0
        group: list[Split] = []
        for item, batched in self._raw():
            if self._most is not None and first >= self._most:
                break
            whole = batched and number == 0 and self._whole
            place = Place(self.name, first, number if batched and not whole else None, whole)
            split = self._split(item, place, labelled=self._labelled)
            number += 1
            if not batched:
                group.append(split)
                first += 1
                if len(group) == self._expected.batch:
                    yield self._together(group, first)
                    group = []
                continue
            batch = self._batch(split, place)
            first += self._expected.batch if isinstance(batch[0], RunBatch) else len(batch[0])
            yield from self._cut(batch) if place.whole else (batch,)
        if group:
            yield self._together(group, first)
        self.size = None if self._expected.runs else first

    def _raw(self) -> Iterator[tuple[Any, bool]]:
        source = self._source()
        number = 0
        while True:
            try:
                item = next(source)
            except StopIteration:
                return
            except AutopruneError:
                raise
            except Exception as error:
                raise AutopruneError(
                    f"Batch {number} of the {self.name} part cannot be read, it raised {failed(error)}."
                ) from error
            yield item
            number += 1

    def _split(self, item: Any, place: Place, *, labelled: bool | None) -> Split:
        if self._form is None:
            target = None
            if labelled is not None:
                target = item[1] if isinstance(item, tuple | list) and len(item) > 1 else None
                if isinstance(item, Mapping):
                    target = next(
                        (item[key] for key in ("label", "labels", "target", "targets", "y") if key in item), None
                    )
            if labelled and target is None:
                raise UsageError(
                    f"{place} is {kind(item)} without a target; give pairs (inputs, target), or no labels."
                )
            return Split(item, target)
        if isinstance(item, ModelInputs):
            return Split(item, None)
        found = self._form.split(item, place, labelled=labelled)
        if found.note is not None:
            self.note(found.note)
        return found

    def _together(self, group: list[Split], end: int) -> Batch:
        """Return items as a batch."""
        place = Place(self.name, end - len(group), (end - 1) // self._expected.batch)
        if self._form is None:
            try:
                return RunBatch(default_collate([split.inputs for split in group])), self._targets(group)
            except (TypeError, RuntimeError) as error:
                raise UsageError(
                    f"The items of the {self.name} part cannot be put together to a batch ({failed(error)}); give a loader "
                    "with a collate_fn."
                ) from error
        inputs = stacked([_as_tensors(split.inputs) for split in group], place)
        return self._batch(Split(inputs, self._targets(group)), place)

    def _targets(self, group: list[Split]) -> Any:
        """Return the targets of some items: stacked where they are alike, else a list."""
        if self._labelled is None or group[0].target is None:
            return None
        targets = [_as_tensors(split.target) for split in group]
        try:
            return stacked(targets, Place(self.name))
        except (UsageError, ValueError):
            return targets

    def _cut(self, batch: Batch) -> Iterator[Batch]:
        """Cut all items into batches."""
        inputs, target = batch
        for start in range(0, len(inputs), self._expected.batch):
            some = slice(start, start + self._expected.batch)
            yield inputs[some], pytree.tree_map_only(Tensor, operator.itemgetter(some), target)

    def _batch(self, split: Split, place: Place) -> Batch:
        if self._form is None:
            return RunBatch(split.inputs), _as_tensors(split.target)
        inputs = as_inputs(_as_tensors(split.inputs), self._expected.model)
        inputs = self._fitting(inputs, place)
        target = None if self._labelled is None or split.target is None else _as_tensors(split.target)
        if target is not None and self._expected.classes is not None and not self._expected.targets:
            target = as_labels(target, place, self._expected, count=len(inputs))
        elif isinstance(target, Tensor) and target.dim() and len(target) != len(inputs):
            raise UsageError(f"{place} comes with {len(target)} targets for {len(inputs)} items; each must have one.")
        alone = len(inputs.args) == 1 and not inputs.kwargs and isinstance(inputs.args[0], Tensor)
        return (inputs.args[0] if alone else inputs), target

    def _fitting(self, inputs: ModelInputs, place: Place) -> ModelInputs:
        """Return inputs in the example's types, and see that each tensor is finite and has the example's shape."""
        example = as_inputs(self._expected.example, self._expected.model)
        paths = [pytree.keystr(path) for path, _ in pytree.tree_flatten_with_path((inputs.args, inputs.kwargs))[0]]
        named = [path for path, leaf in zip(paths, inputs.leaves, strict=True) if isinstance(leaf, Tensor)]
        changed: dict[int, Tensor] = {}
        for path, tensor, like in zip(named, inputs.tensors, example.tensors, strict=True):
            where = f"{place}, input {path}," if len(named) > 1 else str(place)
            if tensor.shape[1:] != like.shape[1:] or tensor.dim() != like.dim():
                raise UsageError(
                    f"{where} has tensors of shape {tuple(tensor.shape[1:])} an item but the example input's is "
                    f"{tuple(like.shape[1:])}; give inputs of one shape."
                )
            if tensor.is_floating_point() != like.is_floating_point() and like.dtype != torch.bool:
                if tensor.is_floating_point():
                    raise UsageError(
                        f"{where} is of {_dtype(tensor)} but the example input of {_dtype(like)}; convert it."
                    )
                self.note(
                    f"has inputs of {_dtype(tensor)}: the model gets the same values as {_dtype(like)}, not scaled."
                )
            if tensor.is_floating_point() and not bool(torch.isfinite(tensor).all()):
                at = int((~torch.isfinite(tensor).reshape(len(tensor), -1).all(1)).nonzero()[0])
                raise UsageError(f"{place.item(at)} has an input with NaN or infinite values; remove or mend it.")
            changed[id(tensor)] = tensor.to(like.dtype)
        return inputs.map(lambda tensor: changed.get(id(tensor), tensor))


def _as_tensors(tree: Any) -> Any:
    """Return any nesting with arrays and numbers as tensors."""

    def made(leaf: Any) -> Any:
        found = to_tensor(leaf) if isinstance(leaf, np.ndarray | np.generic | int | float | Tensor) else None
        return leaf if found is None else found

    return pytree.tree_map(made, tree)


def bytes_in(tree: Any) -> int:
    """Return the bytes of all tensors in any nesting."""
    if isinstance(tree, tuple) and tree and isinstance(tree[0], RunBatch | ModelInputs):
        tree = ((tree[0].value if isinstance(tree[0], RunBatch) else list(tree[0].tensors)), tree[1:])
    leaves = pytree.tree_leaves(tree)
    return sum(leaf.numel() * leaf.element_size() for leaf in leaves if isinstance(leaf, Tensor))


def keys_of(inputs: Any) -> Tensor:
    """Return a number for each item that equal items share, shape (N,), see `image_keys`; a tensor alone or `ModelInputs`."""
    if isinstance(inputs, Tensor):
        return image_keys(inputs)
    return torch.stack([image_keys(tensor) for tensor in inputs.tensors if tensor.dim()]).sum(0)


def _dtype(tensor: Tensor) -> str:
    return str(tensor.dtype).removeprefix("torch.")
