"""What images and labels must be: made into tensors of the network's type where that is clear, else refused in a sentence."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from autoprune.errors import UsageError

IMAGE_KEYS = ("pixel_values", "image", "images", "img", "x", "input", "inputs", "data")
"""Keys of an image in a dict. The first counts beside another one, as a transform has made it from that."""
LABEL_KEYS = ("label", "labels", "target", "targets", "y", "class")
"""Keys of a label in a dict; there must be one of them."""


@dataclass(frozen=True)
class Expected:
    """What a network takes and gives; None for what is not known.

    Attributes:
        shape: Shape of one image, without the batch.
        dtype: Type of the images.
        classes: Number of outputs.
        example: What the network is called with, where that is no single tensor, or targets are no class numbers.
        model: The network, whose parameters say how a dict is passed; with ``example``.
        runs: Whether a function of the user's runs batches, so that these are passed on as they come.
        targets: Whether targets are anything but class numbers.
        batch: Items that are put together, where they come one by one; with ``example`` or ``runs``.
    """

    shape: tuple[int, ...] | None = None
    dtype: torch.dtype | None = None
    classes: int | None = None
    example: Any = None
    model: nn.Module | None = None
    runs: bool = False
    targets: bool = False
    batch: int = 64

    @property
    def nested(self) -> bool:
        """Whether inputs and targets may be nested, or are the user's own affair."""
        return self.runs or self.example is not None

    @classmethod
    def of(
        cls,
        example: Any,
        classes: int | None = None,
        *,
        model: nn.Module | None = None,
        runs: bool = False,
        targets: bool = False,
        batch: int = 64,
    ) -> Expected:
        """Return what an example input says.

        Args:
            example: A batch for the network.
            classes: Number of outputs, if they are class scores.
            model: The network.
            runs: Whether a function runs batches.
            targets: Whether targets are anything but class numbers.
            batch: Items that are put together.
        """
        single = isinstance(example, Tensor)
        shape, dtype = (tuple(example.shape[1:]), example.dtype) if single else (None, None)
        if single and not runs and not targets:
            return cls(shape, dtype, classes)
        return cls(shape, dtype, classes, example, model, runs, targets, batch)


@dataclass(frozen=True)
class Place:
    """Where something was seen, for messages.

    Attributes:
        part: Name of the part ("search").
        first: Number of the (first) item.
        batch: Number of the batch that it came in; None for a single item or a whole part.
        whole: Whether it is all of the part.
    """

    part: str
    first: int = 0
    batch: int | None = None
    whole: bool = False

    def __str__(self) -> str:
        if self.whole:
            return f"The {self.part} part"
        return self.item(0) if self.batch is None else f"Batch {self.batch} of the {self.part} part"

    def item(self, number: int) -> str:
        """Return what the item at this place of the batch is called."""
        return f"Item {self.first + number} of the {self.part} part"


class Fields(NamedTuple):
    """The two fields of an item or a batch that count, as they came, and what the user should know about the choice."""

    image: Any
    label: Any
    note: str | None


def fields(item: Any, where: Place, *, labelled: bool | None) -> Fields:
    """Find image and label in an item (or a batch): a dict with usual keys, a pair, a longer tuple, or an image alone.

    Args:
        item: The item.
        where: What it is.
        labelled: Whether there must be a label; else it may be None, and is if this is None: then it is not touched.

    Raises:
        UsageError: if there is no image or label, or more than one; says what was seen.
    """
    note = None
    if isinstance(item, Mapping):
        images = [key for key in IMAGE_KEYS if key in item]
        labels = [key for key in LABEL_KEYS if key in item]
        keys = ", ".join(map(str, list(item)[:8])) or "none"
        if not images or (len(images) > 1 and images[0] != IMAGE_KEYS[0]):
            raise UsageError(
                f"{where} is a dict with the keys {keys}; its image must be under one of {', '.join(IMAGE_KEYS)}."
            )
        if labelled and len(labels) != 1:
            raise UsageError(
                f"{where} is a dict with the keys {keys}; its label must be under one of {', '.join(LABEL_KEYS)}."
            )
        read = len(labels) == 1 and labelled is not None
        return Fields(item[images[0]], item[labels[0]] if read else None, None)
    if isinstance(item, tuple | list):
        if not item or (labelled and len(item) < 2):
            raise UsageError(f"{where} is a {type(item).__name__} of {len(item)}; it must be a pair (image, label).")
        if labelled is None:
            return Fields(item[0], None, None)
        if len(item) > 2:
            note = f"has {len(item)} fields an item: the first is taken as the image, the second as the label."
        return Fields(item[0], item[1] if len(item) > 1 else None, note)
    if labelled:
        raise UsageError(f"{where} is {_kind(item)} without a label; it must be a pair (image, label).")
    return Fields(item, None, None)


def as_images(value: Any, where: Place, expected: Expected, *, batched: bool, note: Callable[[str], None]) -> Tensor:
    """Return an image, shape ``expected.shape``, or a batch of them, in the network's type, and see that it is finite.

    Args:
        value: A tensor, an array, or numbers in nested lists.
        where: What it is.
        expected: What the network takes.
        batched: Whether it is a batch.
        note: Told what the user should know.

    Raises:
        UsageError: naming what was seen.
    """
    found = to_tensor(value)
    if found is None or found.is_complex():
        raise UsageError(
            f"{where} has {_kind(value)} as its image{'s' if batched else ''}; it must be a tensor or an array of numbers "
            "(for PIL images add a transform, such as torchvision's ToTensor)."
        )
    shape = tuple(found.shape[1:]) if batched else tuple(found.shape)
    if (batched and not found.ndim) or (expected.shape is not None and shape != expected.shape):
        raise UsageError(
            f"{where} has {'images' if batched else 'an image'} of shape {shape} but the model takes {expected.shape}; "
            f"{_hint(shape, expected.shape)}."
        )
    found = _typed(found, where, expected, note)
    if found.is_floating_point():
        finite = torch.isfinite(found)
        if not bool(finite.all()):
            at = int((~finite.flatten(1).all(1)).nonzero()[0]) if batched else 0
            raise UsageError(f"{where.item(at)} has an image with NaN or infinite values; remove or mend it.")
    return found


def _typed(found: Tensor, where: Place, expected: Expected, note: Callable[[str], None]) -> Tensor:
    wanted = expected.dtype
    if found.is_floating_point():
        if wanted is not None and not wanted.is_floating_point:
            raise UsageError(
                f"{where} has images of {_dtype(found.dtype)} but the model takes {_dtype(wanted)}; convert them."
            )
        return found if wanted is None else found.to(wanted)
    wanted = wanted or torch.float32
    if wanted.is_floating_point:
        note(
            f"has images of {_dtype(found.dtype)}: the model gets the same values as {_dtype(wanted)}, not scaled; scale and "
            "normalise them in the data set if it was trained so."
        )
    return found.to(wanted)


def as_labels(value: Any, where: Place, expected: Expected, *, count: int) -> Tensor:
    """Return the classes of a batch, shape (count,), int64: from whole numbers, floats, one column, or one-hot rows.

    Args:
        value: Labels, shape (count,), (count, 1) or (count, classes).
        where: What it is.
        expected: How many classes there are.
        count: Number of images.

    Raises:
        UsageError: naming what was seen.
    """
    found = to_tensor(value)
    if found is None or found.is_complex():
        raise UsageError(f"{where.item(0)} has {_kind(value)} as its label; it must be the number of a class.")
    if not found.ndim or len(found) != count:
        raise UsageError(
            f"{where} comes with labels of shape {tuple(found.shape)} for {count} images; each must have one."
        )
    if found.ndim == 2 and found.shape[1] == 1:
        found = found[:, 0]
    if found.ndim == 2 and expected.classes in (None, found.shape[1]):
        return _from_one_hot(found, where)
    if found.ndim != 1:
        raise UsageError(
            f"{where.item(0)} has a label of shape {tuple(found.shape[1:])}; it must be the number of a class, or one-hot "
            f"over the {expected.classes or 'classes'} outputs."
        )
    labels = found.to(torch.int64)
    if found.is_floating_point() and not torch.equal(labels.to(found.dtype), found):
        at = int((labels.to(found.dtype) != found).nonzero()[0])
        raise UsageError(f"{where.item(at)} has the label {float(found[at]):g}, which is not the number of a class.")
    bad = labels < 0 if expected.classes is None else (labels < 0) | (labels >= expected.classes)
    if bool(bad.any()):
        at = int(bad.nonzero()[0])
        rule = "0 or more" if expected.classes is None else f"0 to {expected.classes - 1}, one of the model's outputs"
        raise UsageError(f"{where.item(at)} has the label {int(labels[at])}, but it must be {rule}.")
    return labels


def _from_one_hot(found: Tensor, where: Place) -> Tensor:
    hot = found == 1
    right = (hot.sum(1) == 1) & ((found == 0) | hot).all(1)
    if not bool(right.all()):
        at = int((~right).nonzero()[0])
        raise UsageError(
            f"{where.item(at)} has {found.shape[1]} numbers as its label, which are not one-hot (a 1 among zeros); "
            "give the number of the class, or, where several are right at once, evaluate with a function, or read no labels."
        )
    return hot.to(torch.int8).argmax(1)


def as_label(value: Any, where: Place, expected: Expected) -> int:
    """Return the class of one item, see `as_labels`.

    Raises:
        UsageError: naming what was seen.
    """
    found = to_tensor(value)
    if found is not None:
        if found.ndim > 1:
            raise UsageError(f"{where} has a label of shape {tuple(found.shape)}; it must be the number of a class.")
        value = found.reshape(1, -1)
    return int(as_labels(value, where, expected, count=1)[0])


def to_tensor(value: Any) -> Tensor | None:
    """Return a tensor, an array, a number or nested lists of numbers as a dense tensor; None for anything else."""
    if isinstance(value, Tensor):
        if value.layout != torch.strided or value.is_quantized or value.is_meta or value.is_nested:
            return None
        return value.detach().as_subclass(Tensor)
    if isinstance(value, np.ndarray | np.generic):
        array = np.asarray(value)
        if array.dtype.kind not in "biufc":
            return None
        if array.dtype.kind == "f" and array.dtype.itemsize > 8:
            array = array.astype(np.float64)
        native = array.astype(array.dtype.newbyteorder("="), copy=False)
        return torch.from_numpy(np.require(native, requirements=("C", "W")))
    if isinstance(value, bool | int | float) or (isinstance(value, list | tuple) and value):
        try:
            return torch.as_tensor(value)
        except (TypeError, ValueError, RuntimeError, OverflowError):
            return None
    return None


def image_keys(images: Tensor) -> Tensor:
    """Return a number for each image that equal images share and others almost surely do not, shape (N,), int64.

    A sum of the image's bytes with fixed random weights, modulo 2**64.
    """
    rows = images.detach().cpu().contiguous().reshape(len(images), -1)
    if not rows.numel():
        return torch.zeros(len(images), dtype=torch.int64)
    words = rows.view(torch.uint8)
    pad = -words.shape[1] % 4
    if pad:
        words = torch.nn.functional.pad(words, (0, pad))
    numbers = words.view(torch.int32)
    weights = torch.randint(-(2**62), 2**62, (numbers.shape[1],), generator=torch.Generator().manual_seed(0))
    found = [(chunk.to(torch.int64) * (2 * weights + 1)).sum(1) for chunk in torch.split(numbers, 16)]
    return torch.cat(found)


def _hint(shape: tuple[int, ...], wanted: tuple[int, ...] | None) -> str:
    if wanted is not None and len(shape) == 3 and (shape[2], *shape[:2]) == wanted:
        return "put the channels first (image.permute(2, 0, 1))"
    if wanted is not None and (1, *wanted) == shape:
        return "an item is one image, without a batch dimension"
    return "resize the data or give the model's input size"


def _kind(value: Any) -> str:
    """Return what something is, with its article."""
    if isinstance(value, Tensor):
        plain = value.layout == torch.strided and not value.is_nested
        return f"a {'' if plain else 'nested ' if value.is_nested else 'sparse '}tensor of {_dtype(value.dtype)}"
    if isinstance(value, np.ndarray | np.generic):
        return f"an array of {value.dtype}"
    name = type(value).__name__
    return f"{'an' if name[0].lower() in 'aeiou' else 'a'} {name}"


def _dtype(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")


def failed(error: BaseException) -> str:
    """Return an exception's type and message, in one line, as it goes into a sentence."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    if lines and lines[0].startswith("Caught ") and "worker process" in lines[0]:
        return lines[-1][:200].rstrip(".")  # torch's report of what a loader's worker raised
    return f"{type(error).__name__}: {lines[0][:200].rstrip('.')}" if lines else type(error).__name__
