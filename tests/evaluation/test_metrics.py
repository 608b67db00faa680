"""Metrics of outputs against targets: torchmetrics' numbers, errors by the jackknife, and what is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import TensorDataset

import autoprune
from autoprune.cli import main
from autoprune.data import Expected
from autoprune.errors import AutopruneError, UsageError
from autoprune.evaluation import Answers, Evaluator, Metric, Task, metrics
from autoprune.runs import RunFolder

CPU = torch.device("cpu")
COUNT = 24


class Fixed(nn.Module):
    """Gives what was said for the images in their order."""

    def __init__(self, outputs: Tensor) -> None:
        super().__init__()
        self.outputs = outputs

    def forward(self, images: Tensor) -> Any:
        return {"out": self.outputs[images[:, 0].long()], "index": images.long()}


def seeded(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def judged(name: str, outputs: Tensor, targets: Any, *, maximize: bool | None = None) -> tuple[Evaluator, Answers]:
    images = torch.arange(COUNT).float()[:, None]
    maximize = metrics.get(name).maximize if maximize is None else maximize
    task = Task(metric=Metric.named(name, maximize=maximize))
    expected = Expected.of(images, targets=True, batch=7)
    found = Evaluator((images, targets), name="search", device=CPU, batch_size=7, expected=expected, task=task)
    found.refer(Fixed(seeded(*outputs.shape, seed=9)))
    found(Fixed(outputs))
    assert found.answers is not None
    return found, found.answers


def maps(classes: int, seed: int = 3) -> Tensor:
    return torch.randint(classes, (COUNT, 5, 6), generator=torch.Generator().manual_seed(seed))


def oracle(name: str, outputs: Tensor, targets: Tensor) -> float:
    """What torchmetrics says."""
    torchmetrics = pytest.importorskip("torchmetrics")
    span = float(targets.float().max() - targets.float().min())
    if name in ("miou", "dice"):
        kind, classes = ("multiclass", outputs.shape[1]) if outputs.shape[1] > 1 else ("binary", None)
        found = outputs.argmax(1) if classes else (outputs[:, 0] > 0).long()
        given = {"task": kind, "num_classes": classes, "ignore_index": 255} | ({"average": "macro"} if classes else {})
        if name == "miou":
            return float(torchmetrics.functional.jaccard_index(found, targets, **given))
        return float(torchmetrics.functional.f1_score(found, targets, **given))
    functional = torchmetrics.functional
    if name == "pixel-accuracy":
        kind = {"task": "multiclass", "num_classes": outputs.shape[1]} if outputs.shape[1] > 1 else {"task": "binary"}
        found = outputs if outputs.shape[1] > 1 else (outputs[:, 0] > 0).long()
        return float(functional.accuracy(found, targets, ignore_index=255, average="micro", **kind))
    if name == "psnr":
        return float(functional.image.peak_signal_noise_ratio(outputs, targets, data_range=span, dim=(1, 2, 3)))
    if name == "ssim":
        return float(functional.image.structural_similarity_index_measure(outputs, targets, data_range=span))
    if name == "mae":
        return float(functional.mean_absolute_error(outputs, targets))
    return float(functional.mean_squared_error(outputs, targets, squared=False))


CASES = {
    "miou": (seeded(COUNT, 4, 5, 6), maps(4)),
    "miou of one map": (seeded(COUNT, 1, 5, 6), maps(2)),
    "miou with places left out": (seeded(COUNT, 3, 5, 6), torch.where(maps(4) == 3, 255, maps(4))),
    "pixel-accuracy": (seeded(COUNT, 4, 5, 6), maps(4)),
    "pixel-accuracy of one map": (seeded(COUNT, 1, 5, 6), maps(2)),
    "pixel-accuracy with places left out": (seeded(COUNT, 3, 5, 6), torch.where(maps(4) == 3, 255, maps(4))),
    "pixel-accuracy of series": (seeded(COUNT, 4, 7), maps(4).flatten(1)[:, :7]),
    "dice": (seeded(COUNT, 4, 5, 6), maps(4)),
    "psnr": (seeded(COUNT, 2, 8, 8), seeded(COUNT, 2, 8, 8, seed=1)),
    "ssim": (seeded(COUNT, 1, 16, 16), seeded(COUNT, 1, 16, 16, seed=1)),
    "mae": (seeded(COUNT, 3), seeded(COUNT, 3, seed=1)),
    "rmse": (seeded(COUNT, 2, 4), seeded(COUNT, 2, 4, seed=1)),
}


@pytest.mark.parametrize("case", CASES)
def test_metrics_are_those_of_torchmetrics_and_their_errors_the_jackknifes(case: str) -> None:
    name = case.split()[0]
    outputs, targets = CASES[case]
    expected = oracle(name, outputs, targets)
    found, answers = judged(name, outputs, targets)
    assert found.total(answers) == pytest.approx(expected, rel=1e-4)
    each = found.each(answers).numpy()
    assert each.shape == (COUNT,)
    without = []  # the metric with one image left out, each computed anew
    for left in range(COUNT):
        rest = [place for place in range(COUNT) if place != left]
        without.append(found.total(answers.of(torch.tensor(rest))))
    error = np.sqrt((COUNT - 1) / COUNT * np.sum((np.array(without) - np.mean(without)) ** 2))
    assert each.std(ddof=1) / np.sqrt(COUNT) == pytest.approx(error, rel=1e-6)
    if name in ("mae", "psnr", "ssim"):
        assert each.mean() == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize("left_out", [False, True])
def test_pixel_accuracy_counts_places_that_count(left_out: bool) -> None:
    outputs, targets = seeded(COUNT, 4, 5, 6), maps(5 if left_out else 4)
    targets = torch.where(targets == 4, -100, targets)
    right = (outputs.argmax(1) == targets).sum((1, 2)).double().numpy()
    counted = (targets >= 0).sum((1, 2)).double().numpy()
    found, answers = judged("pixel-accuracy", outputs, targets)
    assert found.metric.share
    assert found.total(answers) == pytest.approx(right.sum() / counted.sum())
    error = found.error(found.total(answers))
    if left_out:  # the linearised error of a ratio, which the jackknife's comes near
        rest = right - right.sum() / counted.sum() * counted
        assert error == pytest.approx(rest.std(ddof=1) / np.sqrt(COUNT) / counted.mean(), rel=0.05)
    else:  # of images of one size it is a mean of shares
        assert error == pytest.approx((right / 30).std(ddof=1) / np.sqrt(COUNT), rel=1e-6)


def test_targets_of_any_nesting_are_read_by_their_first_tensor() -> None:
    outputs, targets = CASES["mae"]
    nested = [{"value": row, "name": "a"} for row in targets]
    data = [(torch.tensor([float(place)]), target) for place, target in enumerate(nested)]
    task = Task(metric=Metric.named("mae", maximize=False))
    expected = Expected.of(torch.zeros(2, 1), targets=True, batch=7)
    found = Evaluator(data, name="search", device=CPU, expected=expected, task=task)
    found.refer(Fixed(seeded(*outputs.shape, seed=9)))
    assert found(Fixed(outputs))[0] == pytest.approx(float((outputs - targets).abs().mean()), rel=1e-5)


def test_what_does_not_fit_is_said_in_a_sentence() -> None:
    outputs, targets = CASES["miou"]
    with pytest.raises(UsageError, match="has the class 7, but the network gives 4"):
        judged("miou", outputs, torch.full_like(targets, 7))
    with pytest.raises(UsageError, match="compares class scores"):
        judged("miou", outputs, seeded(COUNT, 5, 6))
    with pytest.raises(UsageError, match="of the same shape, but they are \\(7, 3\\) and \\(7, 2\\)"):
        judged("mae", seeded(COUNT, 3), seeded(COUNT, 2))
    with pytest.raises(UsageError, match="is better the smaller"):
        judged("mae", seeded(COUNT, 3), seeded(COUNT, 3), maximize=True)
    with pytest.raises(UsageError, match=r"Unknown metric 'miuo'\. Did you mean 'miou'"):
        judged("miuo", outputs, targets, maximize=True)
    with pytest.raises(UsageError, match="target is NaN"):
        judged("mae", seeded(COUNT, 3), seeded(COUNT, 3) * float("nan"))
    with pytest.raises(UsageError, match="needs images"):
        judged("ssim", seeded(COUNT, 3), seeded(COUNT, 3))


class Small(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.body = nn.Sequential(nn.Conv2d(1, 8, 3, padding=1), nn.ReLU(), nn.Conv2d(8, 8, 3, padding=1), nn.ReLU())
        self.out = nn.Conv2d(8, 1, 1)

    def forward(self, x: Tensor) -> Tensor:
        found: Tensor = self.out(self.body(x))
        return found


def searched(evaluate: Any, report: Any = None, **options: Any) -> autoprune.SearchResult:
    options = {"budget": 0.6, "episodes": 2, "finish_steps": 0, "baselines": ["uniform"], **options}
    return autoprune.search(
        Small(),
        torch.zeros(2, 1, 8, 8),
        calibration=seeded(40, 1, 8, 8, seed=4),
        evaluate=evaluate,
        report=report,
        **options,
    )


def test_a_search_goes_by_a_metric_with_targets(tmp_path: Path) -> None:
    model = Small()
    parts = []
    for seed in (5, 6):
        images = seeded(30, 1, 8, 8, seed=seed)
        with torch.no_grad():
            parts.append(TensorDataset(images, model(images) + 0.01 * seeded(30, 1, 8, 8, seed=seed + 10)))
    found = searched(*parts, minimize_metric="rmse", out=tmp_path / "run")
    assert found.report["metric"] == {"name": "rmse", "maximize": False, "share": False}
    dense, final = found.report["dense"], found.report["final"]
    assert dense["accuracy"] == pytest.approx(0.01, rel=0.1)
    assert final["accuracy"] > dense["accuracy"]
    assert final["search_reward"] == -final["search_accuracy"]
    assert final["accuracy_se"] > 0
    assert final["drop_se"] > 0
    config = RunFolder(tmp_path / "run").read_config()
    assert (config.labels, config.metric, config.maximize) == (True, "rmse", False)
    with torch.no_grad():
        images, targets = parts[1].tensors
        rmse = float((found.model(images) - targets).square().mean().sqrt())
    assert final["accuracy"] == pytest.approx(rmse, rel=1e-4)


def test_a_search_goes_by_any_number_of_a_function() -> None:
    images = seeded(30, 1, 8, 8, seed=5)
    with torch.no_grad():
        dense = Small()(images)

    def evaluate(model: nn.Module) -> dict[str, float]:
        return {"error_db": float(10 * (model(images) - dense).square().mean().clamp(min=1e-6).log10()), "other": 7.0}

    found = searched(evaluate, minimize_metric="error_db")
    rows = {row["name"]: row for row in found.report["rows"]}
    assert found.report["metric"] == {"name": "error_db", "maximize": False, "share": False}
    assert rows["dense"]["accuracy"] == pytest.approx(-60.0)
    assert rows["auto"]["search_reward"] == -rows["auto"]["search_accuracy"]
    assert rows["auto"]["accuracy_se"] is None
    said = [note for note in found.report["notes"] if "No standard error of the error_db is known" in note]
    assert len(said) == 1
    assert "the search part gives one number; return it sample by sample" in said[0]
    best = min(row["search_accuracy"] for row in found.report["rows"][1:])
    assert rows["auto"]["search_accuracy"] == best


@pytest.mark.parametrize("kind", ["tensor", "array", "list"])
def test_what_a_function_gives_by_sample_has_a_standard_error(kind: str) -> None:
    images = seeded(30, 1, 8, 8, seed=5)
    with torch.no_grad():
        dense = Small()(images) + 0.1 * seeded(30, 1, 8, 8, seed=6)

    def errors(model: nn.Module) -> np.ndarray:
        found: np.ndarray = (model(images) - dense).abs().mean((1, 2, 3)).double().numpy()
        return found

    def evaluate(model: nn.Module) -> dict[str, Any]:
        each = errors(model)
        return {"deviation": {"tensor": torch.from_numpy(each), "array": each, "list": each.tolist()}[kind]}

    found = searched(evaluate, evaluate, minimize_metric="deviation")
    with torch.no_grad():
        own, theirs = errors(found.model), errors(Small())
    final = found.report["final"]
    assert final["accuracy"] == pytest.approx(own.mean(), rel=1e-4)
    assert final["accuracy_se"] == pytest.approx(own.std(ddof=1) / np.sqrt(30), rel=1e-3)
    assert final["drop_se"] == pytest.approx((own - theirs).std(ddof=1) / np.sqrt(30), rel=1e-2)
    assert final["images"] is None  # what the search cost in images is not known
    assert not any("standard error" in note for note in found.report["notes"])
    part = Evaluator(evaluate, name="search", device=CPU, task=Task(metric=Metric.named("deviation", maximize=False)))
    value, _ = part(Small())
    with torch.no_grad():
        assert part.error(value) == pytest.approx(errors(Small()).std(ddof=1) / np.sqrt(30))


def test_as_many_samples_for_every_network() -> None:
    counts = iter([30, 30, 29])

    def evaluate(model: nn.Module) -> dict[str, Any]:
        return {"deviation": torch.zeros(next(counts))}

    with pytest.raises(AutopruneError, match="returned 29 numbers as deviation, but 30 numbers the first time"):
        searched(evaluate, minimize_metric="deviation")


@pytest.mark.parametrize(
    ("returned", "match"),
    [
        ({"map50": float("nan")}, "returned map50 nan; it must be a finite number"),
        ({"map50": "0.4"}, "must return a dict with 'map50', which is a number"),
        ({"map": 0.4}, "must return a dict with 'map50', which is a number"),
        ({"map50": torch.zeros(3, 2)}, "must return a dict with 'map50', which is a number"),
        ({"map50": [0.4, float("nan")]}, "returned map50 nan; it must be a finite number"),
        (0.4, "must return a dict with 'map50'"),
    ],
)
def test_a_function_that_returns_something_else_is_refused_before_the_search(returned: Any, match: str) -> None:
    with pytest.raises(AutopruneError, match=match):
        searched(lambda model: returned, maximize="map50")


def test_a_function_without_an_accuracy_is_asked_what_counts() -> None:
    with pytest.raises(AutopruneError, match="say what counts: maximize='map50'"):
        searched(lambda model: {"map50": 0.4})
    with pytest.raises(UsageError, match=r"Unknown metric 'map50'.*a function evaluate"):
        searched(seeded(30, 1, 8, 8, seed=5), maximize="map50")
    with pytest.raises(UsageError, match="The metric miou needs labels"):
        searched(seeded(30, 1, 8, 8, seed=5), maximize="miou")
    with pytest.raises(UsageError, match="two metrics, but one counts"):
        searched(lambda model: {"a": 0.4, "b": 0.1}, maximize="a", minimize_metric="b")


def small() -> nn.Module:
    return Small()


def masked() -> dict[str, Any]:
    found = {}
    for seed, name in enumerate(("calibration", "search", "report"), start=4):
        images = seeded(20, 1, 8, 8, seed=seed)
        found[name] = TensorDataset(images, (images[:, 0] > 0).long())
    return found


def judging() -> dict[str, Any]:
    def evaluate(model: nn.Module) -> dict[str, float]:
        return {"spread": float(model(seeded(10, 1, 8, 8)).detach().std())}

    return {"calibration": seeded(20, 1, 8, 8, seed=4), "search": evaluate, "report": evaluate}


class Segmenter(nn.Module):
    """Class scores of places, under a name, as torchvision's networks give them."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.body = nn.Sequential(nn.Conv2d(1, 8, 3, padding=1), nn.ReLU(), nn.Conv2d(8, 8, 3, padding=1), nn.ReLU())
        self.out = nn.Conv2d(8, 3, 1)

    def forward(self, x: Tensor) -> Any:
        return {"out": self.out(self.body(x))}


def segmented(seed: int) -> TensorDataset:
    images = seeded(20, 1, 8, 8, seed=seed)
    with torch.no_grad():
        noisy: Tensor = Segmenter()(images)["out"] + 0.05 * seeded(20, 3, 8, 8, seed=seed + 1)
    return TensorDataset(images, noisy.argmax(1))


def test_the_accuracy_of_maps_is_that_of_their_places(tmp_path: Path) -> None:
    options: dict[str, Any] = {"budget": 0.6, "episodes": 1, "finish_steps": 0, "baselines": [], "maximize": "accuracy"}
    options |= {
        "calibration": seeded(20, 1, 8, 8),
        "evaluate": segmented(5),
        "report": segmented(7),
        "out": tmp_path / "run",
    }
    found = autoprune.search(Segmenter(), torch.zeros(2, 1, 8, 8), **options)
    assert found.report["metric"] == {"name": "pixel-accuracy", "maximize": True, "share": True}
    images, targets = segmented(7).tensors
    for model, row in ((Segmenter(), found.report["dense"]), (found.model, found.report["final"])):
        with torch.no_grad():
            right = (model(images)["out"].argmax(1) == targets).double().mean((1, 2)).numpy()
        assert row["accuracy"] == pytest.approx(right.mean())
        assert row["accuracy_se"] == pytest.approx(right.std(ddof=1) / np.sqrt(20))
    assert found.report["final"]["drop_se"] > 0
    again = autoprune.search(Segmenter(), torch.zeros(2, 1, 8, 8), **options)  # asked for in the same words
    assert again.report == found.report


def test_outputs_without_an_accuracy_are_refused_in_a_sentence() -> None:
    class Head(nn.Module):
        def __init__(self, out: int) -> None:
            super().__init__()
            self.conv, self.out = nn.Conv2d(1, 8, 3), nn.Linear(8, out)

        def forward(self, x: Tensor) -> Tensor:
            found: Tensor = self.out(self.conv(x).relu().mean((2, 3)))
            return found

    def searched(out: int, targets: Tensor, **options: Any) -> autoprune.SearchResult:
        part = TensorDataset(seeded(20, 1, 8, 8), targets)
        options = {"budget": 0.6, "episodes": 1, "finish_steps": 0, "baselines": [], **options}
        return autoprune.search(Head(out), torch.zeros(2, 1, 8, 8), calibration=part, evaluate=part, **options)

    yes = torch.arange(20) % 2
    for options in ({"labels": True}, {"maximize": "accuracy"}):
        with pytest.raises(
            UsageError, match=r"gives \(2, 1\), not class scores \(N, classes\) of at least two classes"
        ):
            searched(1, yes, **options)
    with pytest.raises(UsageError, match=r"not one-hot.*where several are right at once, evaluate with a function"):
        searched(3, torch.ones(20, 3), labels=True)
    assert searched(1, yes).report["metric"]["name"] == "divergence"  # of itself no label is read then


@pytest.mark.parametrize(("data", "metric"), [("masked", "miou"), ("judging", "spread")])
def test_the_command_line_takes_targets_and_functions(data: str, metric: str, tmp_path: Path) -> None:
    (tmp_path / "task.py").write_text(f"from {__name__} import judging, masked, small\n")
    named = [f"{tmp_path / 'task.py'}:{name}" for name in ("small", data)]
    typed = [
        "search",
        "--model",
        named[0],
        "--data",
        named[1],
        "--input-size",
        "1x8x8",
        "--budget",
        "0.6",
        "--maximize",
        metric,
    ]
    typed += [
        "--episodes",
        "1",
        "--finish-steps",
        "0",
        "--baselines",
        "uniform",
        "--quiet",
        "--out",
        str(tmp_path / "run"),
    ]
    assert main(typed) == 0
    report = RunFolder(tmp_path / "run").read_report()
    assert report["metric"] == {"name": metric, "maximize": True, "share": False}
    part = masked()["report"]
    with torch.no_grad():
        found = Small()(part.tensors[0])
    if data == "masked":
        assert report["dense"]["accuracy"] == pytest.approx(oracle("miou", found, part.tensors[1]), rel=1e-4)
    else:
        assert report["dense"]["accuracy"] == pytest.approx(judging()["report"](Small())["spread"])
