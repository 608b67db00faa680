"""Inputs of any nesting, from data sets, loaders, streams and tensors, are the same batches of the network's inputs."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset, IterableDataset, TensorDataset

import autoprune
from autoprune.data import Expected, Nested, adapt
from autoprune.errors import AutopruneError, UsageError
from autoprune.model_guard import ModelInputs

COUNT = 20


def tensors(seed: int = 1, count: int = COUNT) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    images = torch.randn(count, 2, 6, 6, generator=generator)
    return images, torch.randn(count, 4, generator=generator), torch.randint(3, (count,), generator=generator)


@dataclass
class Scene:
    image: Any
    more: Any


class Named(NamedTuple):
    image: Any
    more: Any


class Of(Dataset[Any]):
    def __init__(self, item: Callable[[Any, Any, Any], Any], seed: int = 1) -> None:
        self.item, self.rows = item, tensors(seed)

    def __len__(self) -> int:
        return COUNT

    def __getitem__(self, index: int) -> Any:
        return self.item(*(column[index] for column in self.rows))


class Streamed(IterableDataset[Any]):
    def __init__(self, data: Of) -> None:
        self.data = data

    def __iter__(self) -> Iterator[Any]:
        return (self.data[index] for index in range(COUNT))


FORMS: dict[str, tuple[Callable[[Any, Any], Any], Callable[[Any, Any, Any], Any]]] = {
    "pairs of a tuple": (lambda x, z: (x, z), lambda x, z, y: ((x, z), y)),
    "longer tuples": (lambda x, z: (x, z), lambda x, z, y: (x, z, y)),
    "inputs alone": (lambda x, z: (x, z), lambda x, z, y: (x, z)),
    "dicts": (lambda x, z: {"image": x, "more": z}, lambda x, z, y: {"image": x, "more": z, "target": y, "id": 7}),
    "pairs of a dict": (lambda x, z: {"image": x, "more": z}, lambda x, z, y: ({"image": x, "more": z}, y)),
    "nested": (lambda x, z: (x, {"more": [z]}), lambda x, z, y: ((x, {"more": [z]}), y)),
    "named tuples": (Named, lambda x, z, y: (Named(x, z), y)),
    "data classes": (Scene, lambda x, z, y: (Scene(x, z), y)),
    "arrays": (lambda x, z: (x, z), lambda x, z, y: ((x.numpy(), z.numpy().tolist()), int(y))),
}


def expected_of(form: str, **more: Any) -> Expected:
    images, extra, _ = tensors(9, 2)
    return Expected.of(FORMS[form][0](images, extra), batch=6, **more)


def flat(found: Nested) -> tuple[list[Tensor], Any]:
    batches = list(found.batches())
    joined = ModelInputs.join([inputs for inputs, _ in batches])
    targets = [target for _, target in batches]
    return list(joined.tensors), None if targets[0] is None else torch.cat(targets)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("source", ["data", "loader", "stream", "items", "batches"])
def test_whatever_yields_them_the_network_gets_the_same_inputs(form: str, source: str) -> None:
    data = Of(FORMS[form][1])
    images, extra, labels = tensors()
    plain = form not in ("named tuples", "data classes", "arrays")
    given: Any = data
    if source == "loader":
        given = DataLoader(data, batch_size=7) if plain else DataLoader(data, batch_size=None)
    elif source == "stream":
        given = Streamed(data)
    elif source == "items":
        given = [data[index] for index in range(COUNT)]
    elif source == "batches":
        given = (FORMS[form][1](images[some], extra[some], labels[some]) for some in (slice(0, 9), slice(9, 20)))
        if form == "arrays":
            return
    found = adapt(given, "search", expected_of(form), labelled=False)
    assert isinstance(found, Nested)
    inputs, targets = flat(found)
    assert torch.equal(inputs[0], images)
    assert torch.allclose(inputs[1], extra)
    assert (targets is None) == (form == "inputs alone")
    if targets is not None:
        assert torch.equal(targets, labels)
    assert found.size == COUNT
    assert flat(found.unlabelled())[1] is None
    drawn = found.drawn(5, 0)
    assert isinstance(drawn, ModelInputs)
    assert len(drawn) == 5
    assert any(torch.equal(drawn.tensors[0][0], image) for image in images)


def test_tensors_of_all_items_are_cut_into_batches() -> None:
    images, extra, labels = tensors()
    for given in ((images, extra), ((images, extra), labels), TensorDataset(images, extra, labels)):
        found = adapt(given, "search", expected_of("inputs alone"), labelled=False)
        assert isinstance(found, Nested)
        assert [len(inputs) for inputs, _ in found.batches()] == [6, 6, 6, 2]
        assert torch.equal(flat(found)[0][1], extra)


class Two(nn.Module):
    """Two inputs, two outputs."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.body = nn.Sequential(nn.Conv2d(2, 8, 3), nn.ReLU(), nn.Conv2d(8, 8, 3), nn.ReLU())
        self.side = nn.Linear(4, 8)
        self.scores, self.number = nn.Linear(8, 3), nn.Linear(8, 1)

    def forward(self, image: Tensor, more: Tensor) -> dict[str, Tensor]:
        found = self.body(image).mean((2, 3)) + self.side(more)
        return {"scores": self.scores(found), "number": self.number(found)}


def searched(example: Any, parts: dict[str, Any], **options: Any) -> autoprune.SearchResult:
    options = {"budget": 0.7, "episodes": 2, "finish_steps": 0, "baselines": ["uniform"], **options}
    return autoprune.search(Two(), example, **parts, **options)


def numbers(found: autoprune.SearchResult) -> list[Any]:
    return [[row[key] for key in ("name", "accuracy", "loss", "counts", "drop_se")] for row in found.report["rows"]]


def test_a_network_of_two_inputs_is_searched_by_position_by_name_and_by_a_function(tmp_path: Path) -> None:
    images, extra, _ = tensors(9, 2)
    parts = {
        name: Of(FORMS["longer tuples"][1], seed) for seed, name in enumerate(("calibration", "evaluate", "report"))
    }
    named = {name: Of(FORMS["dicts"][1], seed) for seed, name in enumerate(("calibration", "evaluate", "report"))}
    by_place = searched((images, extra), parts)
    by_name = searched({"image": images, "more": extra}, named)

    def run(model: nn.Module, batch: Any) -> Any:
        return model(batch["image"], more=batch["more"])

    batch = {"image": images, "more": extra, "target": torch.zeros(2), "id": torch.zeros(2)}
    run_by = searched(batch, named, run=run, out=tmp_path / "run")
    assert numbers(searched(batch, named, run=run, out=tmp_path / "run")) == numbers(run_by)
    assert numbers(by_place) == numbers(by_name)
    assert by_place.report["metric"]["name"] == "divergence"
    assert [row["name"] for row in run_by.report["rows"]] == [row["name"] for row in by_place.report["rows"]]
    assert by_place.model(images, extra)["scores"].shape == (2, 3)
    assert run_by.report["final"]["macs"] <= 0.7 * run_by.report["dense"]["macs"]
    assert run_by.report["final"]["accuracy"] < 0.5


class Failing(Of):
    def __getitem__(self, index: int) -> Any:
        if index == 3:
            raise OSError("the disk is gone")
        return super().__getitem__(index)


def test_what_does_not_fit_is_said_in_a_sentence() -> None:
    form = expected_of("longer tuples")

    def refused(item: Callable[[Any, Any, Any], Any], match: str, kind: type[Of] = Of, **more: Any) -> None:
        with pytest.raises((UsageError, AutopruneError), match=match) as caught:
            adapt(kind(item), "search", form, **{"labelled": False, **more})
        assert "\n" not in str(caught.value)

    count = iter(range(1000))
    refused(lambda x, z, y: x, "in which the inputs are not found: the example input is a tuple of 2")
    refused(lambda x, z, y: {"a": x}, "a dict with the keys a, in which the inputs are not found")
    refused(lambda x, z, y: (x, z[: 1 + next(count) % 3], y), "tensors of several shapes or types")
    refused(lambda x, z, y: (x, z[:3], y), "of shape \\(3,\\) an item but the example input's is \\(4,\\)")
    refused(lambda x, z, y: (x, z * np.nan, y), "Item 0 of the search part has an input with NaN")
    refused(lambda x, z, y: ((x, z), y), "the disk is gone", Failing)
    refused(lambda x, z, y: (x, z), "without a target", labelled=True)
    whole = Expected.of((torch.zeros(2, 2, 6, 6), torch.zeros(2, 4, dtype=torch.long)))
    with pytest.raises(UsageError, match="is of float32 but the example input of int64"):
        adapt(Of(lambda x, z, y: (x, z)), "search", whole, labelled=False)
    with pytest.raises(UsageError, match="cannot be put together"):
        adapt(Of(lambda x, z, y: (x, object())), "search", Expected.of(None, runs=True), labelled=False)
    with pytest.raises(UsageError, match="raised KeyError: 'img'; it is called as run"):
        searched(
            {"image": torch.zeros(2, 2, 6, 6)},
            {"calibration": Of(lambda x, z, y: x), "evaluate": Of(lambda x, z, y: x)},
            run=lambda model, batch: model(batch["img"]),
        )


def test_integers_are_taken_where_the_network_takes_them() -> None:
    example = (torch.zeros(2, 2, 6, 6), torch.zeros(2, 4, dtype=torch.long))
    found = adapt(Of(lambda x, z, y: ((x, (z > 0).int()), y)), "search", Expected.of(example), labelled=None)
    assert isinstance(found, Nested)
    assert [tensor.dtype for tensor in flat(found)[0]] == [torch.float32, torch.int64]


class Untouched:
    def __getattribute__(self, name: str) -> Any:
        raise RuntimeError("the label was read")


def test_a_label_beside_nested_inputs_is_not_touched() -> None:
    data = Of(lambda x, z, y: ((x, z), Untouched()))
    for given in (data, Streamed(data), [data[index] for index in range(COUNT)]):
        found = adapt(given, "search", expected_of("longer tuples"), labelled=None)
        assert isinstance(found, Nested)
        assert flat(found)[1] is None
