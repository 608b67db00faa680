"""What a user passes as images, drawn at random from containers, types, labels, loaders and defects.

Each kind either gives the very images and the accuracy that plain arithmetic gives, or one sentence that names what was seen.
"""

from __future__ import annotations

import random
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import (
    BatchSampler,
    DataLoader,
    Dataset,
    IterableDataset,
    SequentialSampler,
    SubsetRandomSampler,
    TensorDataset,
    WeightedRandomSampler,
)

from autoprune.data import Expected, Held, Items, load_data
from autoprune.errors import AutopruneError
from autoprune.evaluation import Evaluator

from .._sample import count

SHAPE, CLASSES, SIZE, BATCH = (2, 3, 4), 3, 23, 5
_generator = torch.Generator().manual_seed(0)
IMAGES = torch.randint(0, 2, (SIZE, *SHAPE), generator=_generator).float()  # values that every type holds, bool too
LABELS = torch.randint(CLASSES, (SIZE,), generator=_generator)
NET = nn.Sequential(nn.Flatten(), nn.Linear(24, CLASSES)).requires_grad_(False).eval()
with torch.no_grad():
    NET[1].weight.copy_(torch.randn(CLASSES, 24, generator=_generator))
    NET[1].bias.zero_()
RIGHT = [int(torch.mv(NET[1].weight, IMAGES[i].flatten()).argmax()) == int(LABELS[i]) for i in range(SIZE)]

TYPES: Mapping[str, Callable[[Tensor], Any]] = {
    "float32": lambda x: x,
    "float64": lambda x: x.double(),
    "float16": lambda x: x.half(),
    "bfloat16": lambda x: x.bfloat16(),
    "uint8": lambda x: x.byte(),
    "int64": lambda x: x.long(),
    "bool": lambda x: x.bool(),
    "numpy float64": lambda x: x.double().numpy(),
    "numpy float32 of the other end": lambda x: x.numpy().astype(">f4"),
    "numpy uint16": lambda x: x.numpy().astype(np.uint16),
    "numpy read-only": lambda x: _read_only(x.numpy()),
    "numpy reversed": lambda x: np.ascontiguousarray(x.numpy()[..., ::-1])[..., ::-1],
}
LABEL_TYPES: Mapping[str, Callable[[int], Any]] = {
    "int": int,
    "tensor": torch.tensor,
    "float": float,
    "float tensor": lambda y: torch.tensor(float(y)),
    "column": lambda y: torch.tensor([y]),
    "numpy": np.int32,
    "one-hot": lambda y: torch.eye(CLASSES)[y],
    "one-hot int": lambda y: torch.eye(CLASSES, dtype=torch.uint8)[y],
}
BAD_IMAGES: Mapping[str, tuple[Callable[[], Any], str]] = {
    "nan": (lambda: torch.full(SHAPE, torch.nan), "NaN or infinite"),
    "infinite": (lambda: torch.full(SHAPE, -torch.inf), "NaN or infinite"),
    "smaller": (lambda: torch.zeros(2, 3, 3), r"(2, 3, 3)"),
    "channels last": (lambda: torch.zeros(3, 4, 2), "(3, 4, 2)"),
    "batched": (lambda: torch.zeros(1, *SHAPE), "(1, 2, 3, 4)"),
    "complex": (lambda: torch.zeros(SHAPE, dtype=torch.complex64), "complex64"),
    "sparse": (lambda: torch.zeros(SHAPE).to_sparse(), "a sparse tensor"),
    "text": (lambda: "cat.png", "a str"),
    "nothing": (lambda: None, "NoneType"),
    "two": (lambda: (torch.zeros(SHAPE), torch.zeros(SHAPE)), "(2, 2, 3, 4)|tuple"),
}
BAD_LABELS: Mapping[str, tuple[Callable[[], Any], str]] = {
    "too large": (lambda: CLASSES, "the label 3"),
    "negative": (lambda: -1, "the label -1"),
    "between": (lambda: 0.5, "the label 0.5"),
    "nan": (lambda: float("nan"), "the label nan"),
    "soft": (lambda: torch.tensor([0.5, 0.5, 0.0]), "not one-hot"),
    "a map": (lambda: torch.zeros(3, 4).long(), "(3, 4)"),
    "text": (lambda: "cat", "str"),
    "nothing": (lambda: None, "NoneType"),
}


def _read_only(array: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    array = array.copy()
    array.setflags(write=False)
    return array


@dataclass(repr=False)
class Kind:
    """One way to pass the images: what each item is, how they are packed, and what is wrong at which item."""

    rng: random.Random

    def __post_init__(self) -> None:
        rng = self.rng
        self.type = rng.choice(list(TYPES))
        self.label = rng.choice(list(LABEL_TYPES))
        self.item = rng.choice(["pair", "list", "triple", "dict", "pixels"])
        self.pack = rng.choice(list(PACKS))
        self.bad = rng.choice(["", "", "", "image", "label", "raises", "unlabelled", "empty"])
        self.what = rng.choice(list(BAD_IMAGES if self.bad == "image" else BAD_LABELS))
        self.at = rng.randrange(SIZE)
        self.drawn = list(range(SIZE))  # what a loader draws; its pack may say less

    def __repr__(self) -> str:
        return f"{self.pack}, {self.item} of {self.type} and {self.label}, {self.bad} {self.what} at {self.at}"

    def __getitem__(self, index: int) -> Any:
        if index >= SIZE or self.bad == "empty":
            raise IndexError(index)
        image, label = TYPES[self.type](IMAGES[index]), LABEL_TYPES[self.label](int(LABELS[index]))
        if index == self.at and self.bad == "raises":
            raise KeyError("the disk is gone")
        if index == self.at and self.bad == "image":
            image = BAD_IMAGES[self.what][0]()
        if index == self.at and self.bad == "label":
            label = BAD_LABELS[self.what][0]()
        if self.bad == "unlabelled":
            return {"img": image, "id": index} if self.item == "dict" else image
        return {
            "pair": (image, label),
            "list": [image, label],
            "triple": (image, label, f"{index}.png"),
            "dict": {"id": index, "image": image, "target": label},
            "pixels": {"image": "a picture", "pixel_values": image, "labels": label},
        }[self.item]


class Foreign:
    """Has a length and items, and is no data set of torch's."""

    def __init__(self, kind: Kind) -> None:
        self.kind = kind

    def __len__(self) -> int:
        return 0 if self.kind.bad == "empty" else SIZE

    def __getitem__(self, index: int) -> Any:
        return self.kind[index]


class Mapped(Foreign, Dataset[Any]):
    """The same as a data set of torch's."""


class Iterated(IterableDataset[Any]):
    def __init__(self, kind: Kind) -> None:
        self.kind = kind

    def __iter__(self) -> Iterator[Any]:
        return iter(()) if self.kind.bad == "empty" else (self.kind[index] for index in range(SIZE))


def _collate(items: list[Any], *, named: bool) -> Any:
    """Collate by hand, as people do: stack, and cast labels to what they are."""
    if isinstance(items[0], Mapping):
        images, labels = ([item[key] for item in items] for key in ("image", "target"))
    else:
        images, labels = [item[0] for item in items], [item[1] for item in items]
    batch = torch.stack(images), torch.tensor([int(y) for y in labels])
    return dict(zip(("pixel_values", "labels"), batch, strict=True)) if named else batch


def _subset(kind: Kind) -> DataLoader[Any]:
    kind.drawn = sorted(kind.rng.sample(range(SIZE), 9))
    return DataLoader(Mapped(kind), batch_size=BATCH, sampler=SubsetRandomSampler(kind.drawn))


def _without_the_last(kind: Kind) -> DataLoader[Any]:
    kind.drawn = list(range(SIZE // BATCH * BATCH))
    return DataLoader(Mapped(kind), batch_size=BATCH, drop_last=True)


def _by_batches(kind: Kind) -> DataLoader[Any]:
    kind.drawn = list(range(7))
    return DataLoader(Mapped(kind), batch_sampler=BatchSampler(SequentialSampler(range(7)), 3, drop_last=False))


def _weighted(kind: Kind) -> DataLoader[Any]:
    weights = [1.0 if index == 4 else 0.0 for index in range(SIZE)]
    kind.drawn = [4] * 6
    return DataLoader(Mapped(kind), sampler=WeightedRandomSampler(weights, 6))


PACKS: Mapping[str, Callable[[Kind], Any]] = {
    "data set": Mapped,
    "foreign": Foreign,
    "items": lambda kind: [] if kind.bad == "empty" else [kind[index] for index in range(SIZE)],
    "iterable": Iterated,
    "generator": lambda kind: iter(Iterated(kind)),
    "loader": lambda kind: DataLoader(Mapped(kind), batch_size=BATCH),
    "shuffled": lambda kind: DataLoader(Mapped(kind), batch_size=BATCH, shuffle=True),
    "shuffled by its own": lambda kind: DataLoader(Mapped(kind), shuffle=True, generator=torch.Generator()),
    "subset": _subset,
    "without the last": _without_the_last,
    "by batches": _by_batches,
    "weighted": _weighted,
    "unbatched": lambda kind: DataLoader(Mapped(kind), batch_size=None),
    "loader of an iterable": lambda kind: DataLoader(Iterated(kind), batch_size=BATCH),
}


def evaluated(part: Any) -> tuple[Evaluator, float]:
    found = Evaluator(part, name="search", device=torch.device("cpu"), expected=Expected(SHAPE, torch.float32, CLASSES))
    return found, found(NET)[0]


def sentence(error: BaseException) -> str:
    text = str(error)
    assert "\n" not in text
    assert text.endswith(".")
    assert "search" in text
    return text


@pytest.mark.parametrize("seed", range(count(1000, 200)))
def test_a_kind_is_the_images_themselves_or_a_sentence(seed: int) -> None:
    kind = Kind(random.Random(seed))
    state = torch.random.get_rng_state(), random.getstate(), np.random.get_state()[1].tolist()  # noqa: NPY002
    try:
        part = PACKS[kind.pack](kind)
        wrong = kind.bad in ("unlabelled", "empty") or (kind.bad != "" and kind.at in kind.drawn)
        found, accuracy = evaluated(part)
    except AutopruneError as error:
        text = sentence(error)
        assert wrong, (kind, text)
        if kind.bad in ("image", "label"):
            seen = (BAD_IMAGES if kind.bad == "image" else BAD_LABELS)[kind.what][1]
            assert any(each in text for each in seen.split("|")) or "Batch" in text, (kind, text)
        if kind.bad in ("image", "label", "raises"):
            assert str(kind.at) in text or "Batch" in text, (kind, text)
        if kind.bad == "raises":
            assert "KeyError: 'the disk is gone'" in text
        return
    except (KeyError, ValueError):  # of the test's own list, or of torch's sampler, before anything is passed
        assert (kind.pack, kind.bad) in [("items", "raises"), ("shuffled", "empty"), ("shuffled by its own", "empty")]
        return
    assert not wrong, kind
    assert found.size == len(kind.drawn), kind
    assert accuracy == sum(RIGHT[index] for index in kind.drawn) / len(kind.drawn), kind
    first, keys = found.answers, found.keys
    found.refer(NET)
    found(NET)
    assert found.distance == 0.0
    assert first is not None
    assert found.answers is not None
    assert torch.equal(first.loss, found.answers.loss)
    assert torch.equal(keys, found.keys)
    assert torch.equal(state[0], torch.random.get_rng_state())
    assert state[1:] == (random.getstate(), np.random.get_state()[1].tolist())  # noqa: NPY002


COLUMNS: Mapping[str, Callable[[Any, Any], Any]] = {
    "tensors": lambda x, y: TensorDataset(torch.as_tensor(x), torch.as_tensor(y)),
    "a pair": lambda x, y: (x, y),
    "a dict": lambda x, y: {"image": x, "label": y},
    "arrays": lambda x, y: (np.asarray(x), np.asarray(y)),
}
COLUMN_LABELS: Mapping[str, tuple[Callable[[Tensor], Any], str]] = {
    "int": (lambda y: y, ""),
    "float": (lambda y: y.double(), ""),
    "column": (lambda y: y[:, None], ""),
    "one-hot": (lambda y: torch.eye(CLASSES)[y], ""),
    "too few": (lambda y: y[:-1], "labels of shape (22,) for 23 images"),
    "of two classes": (lambda y: torch.eye(CLASSES)[y][:, :2], "label of shape (2,)"),
    "too large": (lambda y: y.where(torch.arange(SIZE) != 7, CLASSES), "Item 7 of the search part has the label 3"),
    "soft": (lambda y: torch.full((SIZE, CLASSES), 0.25), "Item 0 of the search part has 3 numbers as its label"),
}


@pytest.mark.parametrize("pack", COLUMNS)
@pytest.mark.parametrize("labels", COLUMN_LABELS)
@pytest.mark.parametrize("nan", [False, True])
def test_images_and_labels_in_memory(pack: str, labels: str, nan: bool) -> None:
    images = IMAGES.clone()
    if nan:
        images[11, 0, 1] = torch.nan
    make, message = COLUMN_LABELS[labels]
    if pack == "tensors" and labels == "too few":
        pytest.skip("torch refuses that itself")
    if not nan and not message:
        found, accuracy = evaluated(COLUMNS[pack](images, make(LABELS)))
        assert (found.size, accuracy) == (SIZE, sum(RIGHT) / SIZE)
        return
    with pytest.raises(AutopruneError) as caught:
        evaluated(COLUMNS[pack](images, make(LABELS)))
    assert ("Item 11" if nan else message) in sentence(caught.value)


@pytest.mark.parametrize("named", [False, True])
@pytest.mark.parametrize("workers", [0, 1])
def test_a_loader_with_its_own_collation_and_workers(named: bool, workers: int) -> None:
    kind = Kind(random.Random(0))
    kind.type, kind.label, kind.item, kind.bad = "float32", "float", "pair", ""
    options: dict[str, Any] = {"num_workers": workers, "batch_size": BATCH, "shuffle": True}
    for collate in (None, partial(_collate, named=named)):
        found, accuracy = evaluated(DataLoader(Mapped(kind), collate_fn=collate, **options))
        assert (found.size, accuracy) == (SIZE, sum(RIGHT) / SIZE)
    kind.bad = "raises"
    for collate in (None, partial(_collate, named=named)):
        with pytest.raises(AutopruneError, match="KeyError: 'the disk is gone'") as caught:
            evaluated(DataLoader(Mapped(kind), collate_fn=collate, **options))
        sentence(caught.value)


class Dice(Dataset[Any]):
    """Images that differ at every reading."""

    def __len__(self) -> int:
        return 12

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        return torch.rand(SHAPE) + random.random() + np.random.rand(), index % CLASSES  # noqa: NPY002


@pytest.mark.parametrize("most", [2**31, 100])
@pytest.mark.parametrize("collate", [None, partial(_collate, named=False)])
def test_random_transforms_and_shuffling_are_the_same_in_every_pass(
    most: int, collate: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("autoprune.evaluation._batches.MAX_CACHED_BYTES", most)
    monkeypatch.setattr("autoprune.data._stream.MAX_HELD_BYTES", most)
    found, _ = evaluated(DataLoader(Dice(), batch_size=5, shuffle=True, collate_fn=collate))
    found.refer(NET)
    found(NET)
    assert found.distance == 0.0
    assert found.size == 12


class Fickle(IterableDataset[Any]):
    """Goes on where it was, so that no seed makes it repeat itself."""

    def __init__(self) -> None:
        self.generator = torch.Generator().manual_seed(0)

    def __iter__(self) -> Iterator[Any]:
        for index in range(12):
            yield torch.rand(SHAPE, generator=self.generator), index % CLASSES


def test_images_that_are_not_the_same_in_the_second_pass_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    assert evaluated(Fickle())[0].size == 12
    monkeypatch.setattr("autoprune.data._stream.MAX_HELD_BYTES", 100)
    monkeypatch.setattr("autoprune.evaluation._batches.MAX_CACHED_BYTES", 100)
    found, _ = evaluated(Fickle())
    with pytest.raises(AutopruneError, match="Batch 0 of the search part holds other images than on the first pass"):
        found(NET)


@pytest.mark.parametrize(
    ("part", "message"),
    [
        (Mapped, "is the class Mapped"),
        ("cifar10:data", "is the str 'cifar10:data'"),
        (7, "is a int"),
        (IMAGES, "images without labels"),
        ({"image": IMAGES}, "a dict with the keys image; its label must be"),
        ({"image": IMAGES, "label": LABELS, "target": LABELS}, "its label must be under one of"),
        ({"image": IMAGES, "img": IMAGES, "label": LABELS}, "its image must be under one of"),
    ],
)
def test_what_is_no_part_is_named(part: Any, message: str) -> None:
    with pytest.raises(AutopruneError) as caught:
        evaluated(part)
    assert message in sentence(caught.value)


@pytest.mark.parametrize("seed", range(count(300, 40)))
def test_a_factory_may_return_every_kind(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    kind = Kind(random.Random(seed))
    kind.bad = ""
    module = ModuleType("users_data")
    module.make = lambda: {"calibration": PACKS[kind.pack](kind), "search": PACKS[kind.pack](kind)}  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "users_data", module)
    data = load_data("users_data:make", input_size=SHAPE, num_classes=CLASSES)
    found: list[tuple[tuple[float, ...], int]] = []
    for part in (data.search, data.report):
        assert isinstance(part, Held | Items)
        found += [(tuple(part[index][0].flatten().tolist()), int(part[index][1])) for index in range(len(part))]
    drawn = kind.drawn
    assert sorted(found) == sorted((tuple(IMAGES[index].flatten().tolist()), int(LABELS[index])) for index in drawn)
    assert data.input_shape == SHAPE
