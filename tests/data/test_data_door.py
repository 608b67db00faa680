"""What a search says of the images and functions that it is given."""

from __future__ import annotations

import random
from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset, SubsetRandomSampler, TensorDataset

import autoprune
from autoprune import AutopruneError, SearchResult, UsageError
from autoprune.data import Expected, adapt
from autoprune.evaluation import Evaluator
from autoprune.model_guard import eval_mode
from autoprune.problem import Problem, make_problem


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a = nn.Conv2d(2, 8, 3, padding=1)
        self.norm = nn.BatchNorm2d(8)
        self.head = nn.Linear(8, 3)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.head(self.norm(self.a(x)).relu().mean((2, 3)))
        return y


@pytest.fixture
def net() -> Net:
    torch.manual_seed(0)
    return Net().eval()


def images(count: int, seed: int) -> TensorDataset:
    generator = torch.Generator().manual_seed(seed)
    return TensorDataset(
        torch.randn(count, 2, 6, 6, generator=generator), torch.randint(3, (count,), generator=generator)
    )


CALIBRATION, SEARCH, REPORT = images(40, 1), images(30, 2), images(20, 3)


def problem(net: nn.Module, **options: Any) -> Problem:
    given = {"calibration": CALIBRATION, "evaluate": SEARCH, "report": REPORT, "budget": 0.7, **options}
    return make_problem(net, torch.zeros(2, 2, 6, 6), **given)


def search(net: nn.Module, **options: Any) -> SearchResult:
    given = {"calibration": CALIBRATION, "evaluate": SEARCH, "report": REPORT, "budget": 0.7, "agent": "uniform"}
    given |= {"episodes": 1, "finish_steps": 0, **options}
    return autoprune.search(net, torch.zeros(2, 2, 6, 6), **given)


def test_notes_on_images(net: Net) -> None:
    assert problem(net).notes == ()
    x, y = REPORT.tensors
    both = TensorDataset(
        torch.cat([SEARCH.tensors[0][:3], CALIBRATION.tensors[0][:2], x, x[:1]]), torch.zeros(26).long()
    )
    notes = " ".join(problem(net, report=both, calibration=CALIBRATION.tensors[0][:16]).notes)
    assert "There are only 16 calibration images" in notes
    assert "3 of the 26 report images are search images too" in notes
    assert "2 of the 26 report images are calibration images too" in notes
    assert "1 of the 26 report images repeat another one" in notes
    assert "All 26 report images are of class 0" in notes
    bytes_too = TensorDataset((x * 10).byte(), y)
    assert any("The report part has images of uint8" in note for note in problem(net, report=bytes_too).notes)
    assert "search images too" in search(net, report=SEARCH).table


class Seen(Dataset[Any]):
    """Says which items were asked for."""

    def __init__(self, data: TensorDataset) -> None:
        self.data = data
        self.seen: set[int] = set()

    def __len__(self) -> int:
        return len(self.data)

    def __getitem__(self, index: int) -> Any:
        self.seen.add(int(index))
        return {"image": self.data[index][0], "label": self.data[index][1]}


def test_of_one_data_set_split_by_samplers_no_part_sees_another_ones_images(net: Net) -> None:
    every = [Seen(images(90, 4)) for _ in range(3)]
    parts = [range(40), range(40, 70), range(70, 90)]
    loaders = [
        DataLoader(data, batch_size=7, sampler=SubsetRandomSampler(part))
        for data, part in zip(every, parts, strict=True)
    ]
    found = search(net, calibration=loaders[0], evaluate=loaders[1], report=loaders[2])
    assert [data.seen for data in every] == [set(part) for part in parts]
    dense = found.report["dense"]
    x, y = (tensor[70:90] for tensor in every[2].data.tensors)
    with torch.no_grad():
        accuracy = float((net(x).argmax(1) == y).double().mean())
    assert dense["accuracy"] == accuracy
    assert dense["accuracy_se"] == pytest.approx((accuracy * (1 - accuracy) / 20) ** 0.5)


def test_a_report_image_that_cannot_be_used_is_said_before_the_search(net: Net) -> None:
    calls: list[int] = []

    def reward(*_: object) -> float:
        calls.append(1)
        return 0.0

    x, y = (tensor.clone() for tensor in REPORT.tensors)
    x[13, 0, 0, 0] = torch.nan
    with pytest.raises(UsageError, match="Item 13 of the report part has an image with NaN"):
        search(net, report=DataLoader(TensorDataset(x, y), batch_size=4), reward=reward)
    assert len(calls) <= 1  # the dense network's on the search part
    y[5] = 3
    with pytest.raises(UsageError, match=r"Item 5 of the report part has the label 3, but it must be 0 to 2"):
        search(net, report=TensorDataset(REPORT.tensors[0], y))


def accuracy_of(model: nn.Module) -> float:
    with torch.no_grad():
        return float((model(SEARCH.tensors[0]).argmax(1) == SEARCH.tensors[1]).double().mean())


def test_an_evaluate_function_that_draws_gets_the_same_draws_every_time(net: Net) -> None:
    def noisy(model: nn.Module) -> Mapping[str, float]:
        drawn = torch.rand(()).item() + random.random() + np.random.rand()  # noqa: NPY002
        return {"accuracy": 0.5 * accuracy_of(model) + drawn / 10, "loss": 1.0}

    found = problem(net, evaluate=noisy, report=None)
    assert [note for note in found.notes if "No standard error" not in note] == []
    counts = found.projector.smallest
    assert found.score(counts).accuracy == found.score(counts).accuracy


def test_an_evaluate_function_that_answers_differently_is_averaged_and_named(net: Net) -> None:
    own = random.Random(0)
    drawn: list[float] = []

    def noisy(model: nn.Module) -> Mapping[str, float]:
        drawn.append(own.uniform(-0.2, 0.2))
        return {"accuracy": 0.5 + drawn[-1], "loss": 1.0}

    found = problem(net, evaluate=noisy, report=None)
    first = [100 * (0.5 + value) for value in drawn[:4]]
    assert f"answered {min(first):.2f} to {max(first):.2f} % for the same network in 4 calls" in found.notes[0]
    assert found.dense.accuracy == pytest.approx(0.5 + sum(drawn[:4]) / 4)
    score = found.score(found.projector.smallest)
    assert score.accuracy == pytest.approx(0.5 + sum(drawn[-4:]) / 4)


@pytest.mark.parametrize(
    ("result", "message"),
    [
        ({"accuracy": float("nan")}, "returned accuracy nan"),
        ({"accuracy": "0.9", "loss": 1.0}, "it must return a dict with 'accuracy' and 'loss', which are numbers"),
        ({"accuracy": 0.9, "loss": "low"}, "returned the loss 'low'"),
        ({"accuracy": 0.9, "loss": float("nan")}, "returned the loss NaN for the dense network"),
        ({"accuracy": True}, "which are numbers"),
        ({"accuracy": torch.zeros(3, 2)}, "which are numbers"),
        (0.9, "returned 0.9"),
        (None, "returned None"),
    ],
)
def test_what_an_evaluate_function_may_return(net: Net, result: Any, message: str) -> None:
    with pytest.raises(AutopruneError, match=message) as caught:
        problem(net, evaluate=lambda _: result)
    assert "\n" not in str(caught.value)


def test_an_evaluate_function_or_reward_that_raises_is_named(net: Net) -> None:
    def fails(_: nn.Module) -> Mapping[str, float]:
        raise OSError("the disk is full")

    with pytest.raises(
        AutopruneError, match=r"evaluate function for the search part raised OSError: the disk"
    ) as caught:
        problem(net, evaluate=fails)
    assert isinstance(caught.value.__cause__, OSError)
    with pytest.raises(AutopruneError, match="The reward 'fails' raised TypeError") as caught:
        problem(net, reward=fails)
    assert isinstance(caught.value.__cause__, TypeError)


def test_numbers_of_other_types_are_taken(net: Net) -> None:
    found = problem(net, evaluate=lambda _: {"accuracy": torch.tensor(0.5), "loss": np.float32(2)}, report=None)
    assert (found.dense.accuracy, found.dense.loss) == (0.5, 2.0)


class Exploding(nn.Module):
    """Divides by how many values of an image are above 0."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.head = nn.Conv2d(2, 8, 3), nn.Conv2d(8, 8, 3), nn.Linear(8, 3)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.head(self.b(self.a(x).relu()).relu().mean((2, 3)))
        return y / (x > 0).float().sum((1, 2, 3))[:, None].clamp(max=1)


def test_a_dense_network_whose_answers_are_nan_is_refused() -> None:
    torch.manual_seed(0)
    x, y = (tensor.clone() for tensor in SEARCH.tensors)
    x[[4, 9]] = -1.0
    with pytest.raises(UsageError, match="answer to item 4 of the search part is NaN or infinite, and to 2 of 30"):
        make_problem(Exploding(), x[:2], calibration=CALIBRATION, evaluate=TensorDataset(x, y))


def test_answers_that_are_nan_are_wrong_ones() -> None:
    def nan(x: Tensor) -> Tensor:
        return torch.full((len(x), 3), torch.nan)

    class Nan(nn.Module):
        forward = staticmethod(nan)

    zeros = TensorDataset(torch.randn(5, 2, 6, 6), torch.zeros(5).long())
    assert Evaluator(zeros, name="search", device=torch.device("cpu"))(Nan())[0] == 0.0


def test_evaluation_leaves_every_module_in_its_own_mode(net: Net) -> None:
    net.train()
    net.norm.eval()
    before = [module.training for module in net.modules()]
    with eval_mode(net):
        assert not any(module.training for module in net.modules())
    Evaluator(SEARCH, name="search", device=torch.device("cpu"))(net)
    assert [module.training for module in net.modules()] == before


def test_whole_searches_on_what_people_pass(net: Net) -> None:
    x, y = SEARCH.tensors
    expected = search(net).report["rows"]
    passed: list[Any] = [
        DataLoader(Seen(SEARCH), batch_size=8, shuffle=True),
        (x.double().numpy(), torch.eye(3)[y]),
        [(image, float(label)) for image, label in zip(x, y, strict=True)],
    ]
    for part in passed:
        found = search(net, evaluate=part).report["rows"]
        assert [(row["name"], row["counts"]) for row in found] == [(row["name"], row["counts"]) for row in expected]
        assert [row["search_accuracy"] for row in found] == pytest.approx([row["search_accuracy"] for row in expected])


def test_what_a_loader_drops_is_said() -> None:
    data = images(20, 1)
    assert any(
        "4 of its items are left out" in note for note in adapt(DataLoader(data, 8, drop_last=True), "search").notes
    )
    assert not adapt(DataLoader(data, 10, drop_last=True), "search").notes
    assert not adapt(DataLoader(data, 8), "search").notes


def test_a_list_of_batches_of_images_alone_is_all_of_them() -> None:
    every = torch.randn(12, 2, 6, 6)
    found = adapt([every[:5], every[5:10], every[10:]], "search", Expected((2, 6, 6), torch.float32), labelled=None)
    assert torch.equal(torch.cat([some for some, _ in found.batches(4)]), every)  # type: ignore[union-attr]
    with pytest.raises(UsageError, match=r"images of shape \(2, 6, 5\)"):
        adapt([every[:5], every[5:, :, :, :5]], "search", Expected((2, 6, 6), torch.float32), labelled=None)
