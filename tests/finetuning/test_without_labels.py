"""Fine-tuning from the dense network's outputs alone: of any nesting, by the divergence, measured in the task's metric."""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset, IterableDataset, TensorDataset

import autoprune
from autoprune.cli import main
from autoprune.data import Expected, RunBatch
from autoprune.errors import AutopruneError, UsageError
from autoprune.finetuning._batches import NestedTraining, TrainingBatches
from autoprune.model_guard import ModelInputs
from autoprune.page import write_page
from autoprune.runs import RunFolder
from autoprune.support.jsonl import read_jsonl

from ..evaluation.test_label_free import Refusing, images

PLAIN = autoprune.Recipe(
    epochs=1, batch_size=32, lr=0.1, momentum=0.0, warmup=0, ema=0, clip=0, weight_decay=0, precision="fp32"
)
FEW = autoprune.Recipe(epochs=3, batch_size=8, lr=0.02, precision="fp32", ema=0.5)


class Detector(nn.Module):
    """A body with norms, and heads that answer otherwise in train mode, as detectors' do."""

    def __init__(self, seed: int = 0) -> None:
        super().__init__()
        torch.manual_seed(seed)
        self.body = nn.Sequential(
            nn.Conv2d(2, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU(), nn.Conv2d(8, 8, 3, padding=1)
        )
        self.box, self.scores = nn.Conv2d(8, 4, 1), nn.Conv2d(8, 3, 1)
        with torch.no_grad():  # statistics as training leaves them
            self.body[1].momentum = None
            self.body(images(64, 8))
        self.eval()

    def forward(self, x: Tensor) -> Any:
        if self.training:
            raise RuntimeError("targets should not be none when in training mode")
        x = self.body(x).relu()
        return {"boxes": self.box(x), "levels": [self.scores(x), x.amax(1) > 0.5]}


class Two(nn.Module):
    """An image and its scale, by name."""

    def __init__(self, seed: int = 0) -> None:
        super().__init__()
        torch.manual_seed(seed)
        self.conv, self.head = nn.Conv2d(2, 8, 3), nn.Linear(8, 5)

    def forward(self, image: Tensor, scale: Tensor) -> Tensor:
        found: Tensor = self.head((self.conv(image).relu() * scale[:, None, None, None]).mean((2, 3)))
        return found


def disturbed(network: nn.Module) -> nn.Module:
    """The same network with other weights: what pruning leaves."""
    other = copy.deepcopy(network)
    generator = torch.Generator().manual_seed(7)
    with torch.no_grad():
        for parameter in other.parameters():
            parameter.add_(0.2 * parameter.std(correction=0) * torch.randn(parameter.shape, generator=generator))
    return other


def linear(seed: int, out: int = 3) -> nn.Module:
    torch.manual_seed(seed)
    return nn.Sequential(nn.Flatten(), nn.Linear(72, out)).eval()


@pytest.mark.parametrize("divergence", [None, "relative", "cosine"])
def test_one_step_is_that_of_sgd_on_the_divergence(divergence: str | None) -> None:
    """With every extra off an epoch of one batch is one step of SGD on the divergence, written out here."""
    student, teacher, x = linear(0), linear(1), images(32, 1)
    twin = copy.deepcopy(student)
    found = autoprune.finetune(
        student, train=x, evaluate=images(8, 2), teacher=teacher, recipe=PLAIN, divergence=divergence
    )
    with torch.no_grad():
        theirs = teacher(x)
    ours = twin(x)
    loss = {
        None: 16 * F.kl_div((ours / 4).log_softmax(1), (theirs / 4).softmax(1), reduction="batchmean"),
        "relative": F.mse_loss(ours, theirs) / theirs.var(correction=0),
        "cosine": (1 - F.cosine_similarity(ours, theirs)).mean(),
    }[divergence]
    loss.backward()
    loss = loss.detach()
    assert found.history[0]["train_loss"] == pytest.approx(float(loss), rel=1e-4)
    for mine, parameter in zip(found.model.parameters(), twin.parameters(), strict=True):
        assert parameter.grad is not None
        assert torch.allclose(mine, parameter - 0.1 * parameter.grad, atol=1e-6)
    assert found.result["metric"]["name"] == ("agreement" if divergence is None else "divergence")


@pytest.mark.parametrize("kind", ["pair", "dict"])
def test_no_label_is_touched(kind: str) -> None:
    given = {name: Refusing(count, seed, kind) for name, count, seed in (("train", 24, 1), ("evaluate", 10, 2))}
    found = autoprune.finetune(linear(0), **given, teacher=linear(1), recipe=FEW, labels=False)
    alone = autoprune.finetune(linear(0), train=images(24, 1), evaluate=images(10, 2), teacher=linear(1), recipe=FEW)
    states = [result.model.state_dict().values() for result in (found, alone)]
    assert all(torch.equal(a, b) for a, b in zip(*states, strict=True))
    with pytest.raises((RuntimeError, AutopruneError)):
        autoprune.finetune(linear(0), **given, teacher=linear(1), recipe=FEW, labels=True)


def apart(network: nn.Module, dense: nn.Module, x: Tensor) -> float:
    """The mean over the two tensors of real numbers of squared error over variance."""
    with torch.no_grad():
        pairs = [(a["boxes"], a["levels"][0]) for a in (network.eval()(x), dense.eval()(x))]
    return float(sum(F.mse_loss(a, b) / b.var(correction=0) for a, b in zip(*pairs, strict=True)) / 2)


def test_a_detectors_outputs_are_learned_in_their_own_unit_and_direction(tmp_path: Path) -> None:
    dense = Detector().eval()
    small = disturbed(dense)
    x = images(40, 3)
    given: dict[str, Any] = {"train": images(48, 1), "evaluate": images(16, 2), "report": x, "teacher": dense}
    found = autoprune.finetune(small, **given, recipe=FEW, out=tmp_path)
    assert found.result["metric"] == {"name": "divergence", "maximize": False, "share": False}
    assert found.result["accuracy"] == pytest.approx(apart(found.model, dense, x), rel=1e-4)
    assert found.result["accuracy"] < 0.7 * apart(small, dense, x)
    assert found.result["accuracy_se"] > 0
    assert found.result["loss"] == found.result["accuracy"]
    best = min(found.history, key=lambda line: line["search_accuracy"])
    assert found.result["best_epoch"] == best["epoch"]
    assert found.history[0]["best"]
    assert not torch.equal(found.model.body[1].running_mean, dense.body[1].running_mean)
    again = autoprune.finetune(small, **given, recipe=FEW, out=tmp_path)
    assert again.result == found.result


def pairs(count: int, seed: int) -> list[Any]:
    return [{"image": image, "scale": image.mean()} for image in images(count, seed)]


def together(count: int, seed: int) -> dict[str, Tensor]:
    found = pairs(count, seed)
    return {name: torch.stack([item[name] for item in found]) for name in found[0]}


def test_inputs_of_any_nesting_are_learned_from_alone_or_with_class_numbers() -> None:
    dense = Two().eval()
    small = disturbed(dense)
    with torch.no_grad():
        classes = dense(**together(24, 1)).argmax(1)
    labelled = list(zip(pairs(24, 1), classes.tolist(), strict=True))
    options = {"teacher": dense, "recipe": FEW, "example_input": together(2, 9)}
    for train, named in ((pairs(24, 1), False), (together(24, 1), False), (labelled, False), (labelled, None)):
        found = autoprune.finetune(small, train=train, evaluate=pairs(12, 2), labels=named, **options)
        assert found.result["metric"]["name"] == "agreement"
        assert found.result["distilled"]
    plain = autoprune.finetune(small, train=labelled, evaluate=labelled, **{**options, "teacher": None})
    assert plain.result["metric"]["name"] == "accuracy"
    with torch.no_grad():
        right = plain.model(**together(24, 1)).argmax(1) == classes
    assert plain.result["accuracy"] == pytest.approx(float(right.double().mean()))


def only_boxes(model: nn.Module, batch: Any) -> Any:
    return model(batch["image"])["boxes"]


class Scenes(Dataset[Any]):
    """Items that only a function can run, with random transforms of their own."""

    def __init__(self, count: int, seed: int, *, noise: float = 0.0) -> None:
        self.images, self.noise = images(count, seed), noise

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> Any:
        return {"image": self.images[index] + self.noise * torch.rand(()), "name": f"scene {index}"}


def test_a_function_runs_batches_in_training_too() -> None:
    dense = Detector().eval()
    small, x = disturbed(dense), images(20, 3)
    for train in (Scenes(24, 1), DataLoader(Scenes(24, 1), batch_size=6, shuffle=True)):
        found = autoprune.finetune(
            small, train=train, evaluate=Scenes(20, 3), teacher=dense, recipe=FEW, run=only_boxes,
            example_input={"image": x[:2]},
        )  # fmt: skip
        with torch.no_grad():
            after, before, theirs = (network.eval()(x)["boxes"] for network in (found.model, small, dense))
        assert found.result["accuracy"] == pytest.approx(
            float(F.mse_loss(after, theirs) / theirs.var(correction=0)), rel=1e-4
        )
        assert F.mse_loss(after, theirs) < F.mse_loss(before, theirs)
        assert torch.equal(found.model.scores.weight, small.scores.weight)  # what is not compared is not learned


class Once(IterableDataset[Any]):
    def __init__(self, count: int) -> None:
        self.count = count

    def __iter__(self) -> Iterator[Any]:
        return iter(pairs(self.count, 1))


@pytest.mark.parametrize("given", ["set", "loader", "tensors", "stream", "run", "ready"])
def test_an_epoch_holds_every_item_once_and_follows_from_its_number(given: str) -> None:
    example, runs = together(2, 0), given in ("run", "ready")
    part = {
        "set": pairs(12, 1),
        "loader": DataLoader(Scenes(12, 1), batch_size=5, shuffle=True),
        "tensors": together(12, 1),
        "stream": Once(12),
        "run": Scenes(12, 1, noise=0.01),
        "ready": [{"image": batch} for batch in images(12, 1).split(4)],
    }[given]
    expected = Expected.of(None if runs else images(2, 0) if given == "loader" else example, runs=runs, targets=True)

    def epoch(number: int) -> list[Tensor]:
        found = TrainingBatches(NestedTraining(part, expected), batch_size=4, seed=3)
        assert (found.size, found.steps, found.batch_size) == (12, 3, 4)
        batches = [inputs for inputs, _ in found.epoch(number)]
        assert len(batches) == 3
        tensors = []
        for batch in batches:
            assert isinstance(batch, RunBatch if runs else Tensor if given == "loader" else ModelInputs)
            tensors.append(
                batch.value["image"]
                if isinstance(batch, RunBatch)
                else batch
                if isinstance(batch, Tensor)
                else batch.tensors[0]
            )
        return tensors

    first, again, second = epoch(1), epoch(1), epoch(2)
    assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True))
    assert not torch.equal(torch.cat(first), torch.cat(second))
    tolerance = 0.011 if given == "run" else 1e-6
    for found in (first, second):
        gaps = (torch.cat(found)[:, None] - images(12, 1)[None]).abs().amax((2, 3, 4))
        assert sorted(gaps.argmin(1).tolist()) == list(range(12))
        assert float(gaps.amin(1).max()) <= tolerance
    if given == "run":  # random transforms are drawn anew
        ordered = [
            torch.cat(found)[(torch.cat(found)[:, None] - images(12, 1)[None]).abs().amax((2, 3, 4)).argmin(0)]
            for found in (first, second)
        ]
        assert not torch.equal(*ordered)


class Frozen(nn.Module):
    def __init__(self, function: Any) -> None:
        super().__init__()
        self.layer, self.function = nn.Conv2d(2, 3, 1), function

    def forward(self, x: Tensor) -> Any:
        return self.function(self.layer(x))


def test_what_cannot_be_learned_is_said_in_a_sentence() -> None:
    def refused(match: str, network: nn.Module = linear(0), **options: Any) -> None:  # noqa: B008
        given = {"train": images(16, 1), "evaluate": images(8, 2), "teacher": linear(1), "recipe": PLAIN}
        with pytest.raises(UsageError, match=match):
            autoprune.finetune(network, **{**given, **options})

    refused("images without labels.*give teacher", teacher=None)
    refused("nothing to learn from but the dense network's outputs.*own_trainer", recipe=autoprune.Recipe(distill=0.0))
    hard = Frozen(lambda x: x.detach())
    refused("outputs have no gradient", hard, teacher=Frozen(lambda x: x.detach()))
    refused(
        "The network gives \\(16, 3, 6, 6\\) where the dense network gives \\(16, 6, 6\\)",
        Frozen(lambda x: x),
        teacher=Frozen(lambda x: x.mean(1)),
    )
    refused(
        "divergence rounded has no gradient",
        divergence=type(
            "rounded", (), {"__call__": lambda *given: torch.zeros(len(given[1])), "__name__": "rounded"}
        )(),
    )
    refused("needs an example_input", run=only_boxes)
    refused("two metrics", maximize="psnr", minimize_metric="mae")
    refused("The evaluate part has no labels", train=TensorDataset(images(16, 1), torch.arange(16) % 3), teacher=None)
    maps = TensorDataset(images(16, 1), images(16, 1))
    refused("No loss is known for psnr", Frozen(lambda x: x[:, :2]), teacher=Frozen(lambda x: x[:, :2]), maximize="psnr",
            train=maps, evaluate=maps, recipe=autoprune.Recipe(distill=0.0))  # fmt: skip


def test_targets_measure_what_the_dense_networks_outputs_teach() -> None:
    dense = Frozen(lambda x: x[:, :2]).eval()
    x = images(24, 1)
    with torch.no_grad():
        maps = TensorDataset(x, dense(x) + 0.1)
    found = autoprune.finetune(
        disturbed(dense), train=maps, evaluate=maps, teacher=dense, recipe=FEW, minimize_metric="mae"
    )
    assert found.result["metric"]["name"] == "mae"
    assert found.result["best_epoch"] == min(found.history, key=lambda line: line["search_accuracy"])["epoch"]
    with torch.no_grad():
        ours, theirs = found.model(x), dense(x)
    assert found.result["accuracy"] == pytest.approx(float((ours - theirs - 0.1).abs().mean()), rel=1e-4)
    assert found.result["loss"] == pytest.approx(
        float((ours - theirs).square().mean() / theirs.var(correction=0)), rel=1e-3
    )


# From the command line.


def net() -> nn.Module:
    torch.manual_seed(0)
    layers = [nn.Conv2d(2, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.Conv2d(8, 6, 3), nn.ReLU()]
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(6, 3)).eval()


def heads() -> nn.Module:
    return Detector()


def unlabelled() -> dict[str, Any]:
    return {name: Refusing(24, seed, "pair") for seed, name in enumerate(("calibration", "search", "report", "train"))}


def partly() -> dict[str, Any]:
    """Labels for what is measured, none for what is trained on."""
    found: dict[str, Any] = unlabelled()
    for seed, name in ((1, "search"), (2, "report")):
        x = images(24, seed)
        found[name] = TensorDataset(x, net()(x).argmax(1))
    return {**found, "train": Refusing(24, 3, "alone"), "calibration": images(24, 0)}


def scenes() -> dict[str, Any]:
    return {name: Scenes(24, seed) for seed, name in enumerate(("calibration", "search", "report", "train"))}


def searched(tmp_path: Path, network: str, data: str, *options: str) -> tuple[Path, list[str]]:
    module = tmp_path / "task.py"
    module.write_text(f"from {__name__} import heads, net, only_boxes, partly, scenes, unlabelled\n")
    named = ["--model", f"{module}:{network}", "--data", f"{module}:{data}"]
    run = tmp_path / "run"
    common = [
        "--input-size",
        "2x6x6",
        "--budget",
        "0.6",
        "--agent",
        "uniform",
        "--baselines",
        "",
        "--finish-steps",
        "0",
    ]
    assert main(["search", *named, *common, "--out", str(run), "--quiet", *options]) == 0
    return run, named


TUNE = ["--epochs", "2", "--precision", "fp32", "--batch-size", "8"]


@pytest.mark.parametrize(("network", "metric"), [("net", "agreement"), ("heads", "divergence")])
def test_a_run_without_labels_is_fine_tuned_and_says_its_metric(
    network: str, metric: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run, named = searched(tmp_path, network, "unlabelled", "--no-labels")
    assert main(["finetune", str(run), *named, *TUNE]) == 0
    out, err = capsys.readouterr()
    assert f"search {metric}" in err
    assert "learns the dense network's outputs" in err
    assert f"{metric} " in next(line for line in out.splitlines() if line.startswith("distilled: fine-tuned"))
    assert "acc" not in out.replace("accuracy-", "").split("+ distilled")[0].splitlines()[0]
    report = RunFolder(run).read_report()
    result = report["finetuned"][0]
    assert result["metric"] == report["metric"]
    history = read_jsonl(run / "finetune" / "distilled" / "history.jsonl")
    pick = max if metric == "agreement" else min
    assert result["search_accuracy"] == pick(line["search_accuracy"] for line in history)
    assert main(["eval", str(run), *named, "--finetuned", "distilled", "--json"]) == 0
    measured = json.loads(capsys.readouterr().out)
    assert measured["accuracy"] == pytest.approx(result["accuracy"], rel=1e-4)
    assert measured["accuracy_se"] == pytest.approx(result["accuracy_se"], rel=1e-4)
    write_page([run], tmp_path / "page.html")
    page = (tmp_path / "page.html").read_text()
    assert f"{metric.capitalize()} while fine-tuning" in page
    assert main(["finetune", str(run), *named, *TUNE, "--no-distill"]) == 2
    assert "No labels are read, so that there is nothing to learn from" in capsys.readouterr().err


def test_a_run_with_labels_is_fine_tuned_on_images_without(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run, named = searched(tmp_path, "net", "partly")
    assert main(["finetune", str(run), *named, *TUNE]) == 0
    assert "learns the dense network's outputs, no labels; it is measured by accuracy" in capsys.readouterr().err
    result = RunFolder(run).read_report()["finetuned"][0]
    assert result["metric"]["name"] == "accuracy"
    assert main(["finetune", str(run), *named, *TUNE, "--no-labels"]) == 0  # the same, said
    assert "were done before" in capsys.readouterr().err
    assert main(["finetune", str(run), *named, *TUNE, "--labels", "--name", "other"]) == 2
    assert "the training images" in capsys.readouterr().err


def test_labels_that_are_there_are_left_alone_where_that_is_asked(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = tmp_path / "digits"
    assert main(["search", "--budget", "0.4", "--agent", "uniform", "--baselines", "", "--finish-steps", "0", "--out", str(run),
                 "--quiet"]) == 0  # fmt: skip
    assert main(["finetune", str(run), "--epochs", "1", "--precision", "fp32", "--no-labels"]) == 0
    assert "measured by accuracy" in capsys.readouterr().err
    result = RunFolder(run).read_report()["finetuned"][0]
    assert result["accuracy"] > 0.9
    assert result["settings"]["augment"] == "shift"
    assert main(["finetune", str(run), "--epochs", "1", "--precision", "fp32"]) == 0  # goes on as it was begun
    assert "were done before" in capsys.readouterr().err
    assert main(["finetune", str(run), "--epochs", "1", "--precision", "fp32", "--labels"]) == 2
    assert "labels: False begun, True now" in capsys.readouterr().err


def test_a_run_function_of_the_command_line_runs_training_too(tmp_path: Path) -> None:
    function = f"{__name__}:only_boxes"
    run, named = searched(tmp_path, "heads", "scenes", "--run", function)
    assert main(["finetune", str(run), *named, "--run", function, *TUNE, "--quiet"]) == 0
    result = RunFolder(run).read_report()["finetuned"][0]
    assert result["metric"]["name"] == "divergence"
    assert 0 < result["accuracy"] < 1
