"""Networks are compared with the dense network's outputs, of any nesting, and no label is read."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset, IterableDataset, TensorDataset

import autoprune
from autoprune.cli import main
from autoprune.data import RunBatch, adapt
from autoprune.errors import AutopruneError, UsageError
from autoprune.evaluation import (
    AGREEMENT,
    DIVERGENCE,
    Answers,
    DivergenceFn,
    Evaluator,
    Metric,
    Task,
    divergences,
    outputs_of,
)
from autoprune.report import Progress
from autoprune.runs import RunFolder

CPU = torch.device("cpu")


def images(count: int, seed: int, shape: tuple[int, ...] = (2, 6, 6)) -> Tensor:
    return torch.randn(count, *shape, generator=torch.Generator().manual_seed(seed))


def classifier(seed: int = 0, classes: int = 3) -> nn.Module:
    torch.manual_seed(seed)
    features = [nn.Conv2d(2, 8, 3), nn.ReLU(), nn.Conv2d(8, 6, 3), nn.ReLU()]
    return nn.Sequential(*features, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(6, classes)).eval()


@dataclass
class Found:
    scores: Tensor
    more: dict[str, Any]


class Heads(nn.Module):
    """Class scores, a map, the class and a mask."""

    def __init__(self, seed: int = 0) -> None:
        super().__init__()
        torch.manual_seed(seed)
        self.body = nn.Sequential(nn.Conv2d(2, 8, 3, padding=1), nn.ReLU(), nn.Conv2d(8, 8, 3, padding=1), nn.ReLU())
        self.map = nn.Conv2d(8, 2, 1)
        self.scores = nn.Linear(8, 4)

    def forward(self, x: Tensor) -> Found:
        x = self.body(x)
        scores = self.scores(x.mean((2, 3)))
        found = self.map(x)
        return Found(scores, {"map": [found, None], "class": scores.argmax(1), "mask": found > 0})


def judged(network: nn.Module, dense: nn.Module, part: Any, **task: Any) -> Evaluator:
    found = Evaluator(part, name="search", device=CPU, batch_size=7, task=Task(labels=False, **task))
    found.refer(dense)
    found(network)
    return found


def logits_of(network: nn.Module, part: Tensor) -> np.ndarray:
    with torch.no_grad():
        return network(part).double().numpy()


def kl(found: np.ndarray, reference: np.ndarray) -> np.ndarray:
    """The divergence of softmaxes of temperature 4, summed as it is defined."""
    ours, theirs = (np.exp(some / 4) / np.exp(some / 4).sum(1, keepdims=True) for some in (found, reference))
    return (theirs * (np.log(theirs) - np.log(ours))).sum(1)


def test_class_scores_are_measured_by_agreement_and_divergence() -> None:
    part, dense, other = images(30, 1), classifier(0), classifier(1)
    found = judged(other, dense, part)
    ours, theirs = logits_of(other, part), logits_of(dense, part)
    assert found.metric == AGREEMENT
    assert isinstance(found.answers, Answers)
    assert found.total(found.answers) == np.mean(ours.argmax(1) == theirs.argmax(1))
    np.testing.assert_allclose(found.answers.distance.numpy(), kl(ours, theirs), rtol=1e-4, atol=1e-6)
    assert found.distance == pytest.approx(kl(ours, theirs).mean(), rel=1e-3)
    assert any("No labels are read" in note and "(N, 3) by kl" in note for note in found.notes)


def test_every_tensor_of_real_numbers_counts_as_much() -> None:
    part, dense, other = images(20, 1), Heads(0), Heads(1)
    found = judged(other, dense, part)
    with torch.no_grad():
        ours, theirs = other(part), dense(part)
    maps = [some.more["map"][0].double().numpy() for some in (ours, theirs)]
    squares = ((maps[0] - maps[1]) ** 2).mean((1, 2, 3)) / maps[1].var()
    expected = (kl(ours.scores.double().numpy(), theirs.scores.double().numpy()) + squares) / 2
    assert found.metric == DIVERGENCE
    assert found.answers is not None
    np.testing.assert_allclose(found.answers.distance.numpy(), expected, rtol=1e-4, atol=1e-6)
    assert found.total(found.answers) == pytest.approx(expected.mean(), rel=1e-5)
    assert sum("no part of the divergence" in note for note in found.notes) == 2


def test_each_tensor_is_compared_as_asked() -> None:
    part, dense, other = images(20, 1), Heads(0), Heads(1)
    with torch.no_grad():
        ours, theirs = other(part), dense(part)
    angle = torch.cosine_similarity(ours.scores, theirs.scores, dim=1).numpy()
    at_each = kl(
        *(some.more["map"][0].double().numpy().transpose(0, 2, 3, 1).reshape(-1, 2) for some in (ours, theirs))
    )
    found = judged(other, dense, part, divergence="cosine,kl")
    assert found.answers is not None
    expected = (1 - angle + at_each.reshape(20, -1).mean(1)) / 2
    np.testing.assert_allclose(found.answers.distance.numpy(), expected, rtol=1e-3, atol=1e-6)
    with pytest.raises(UsageError, match="3 divergences are named"):
        judged(other, dense, part, divergence="kl,kl,kl")
    with pytest.raises(UsageError, match="Did you mean 'cosine'"):
        judged(other, dense, part, divergence="cosin")


@pytest.mark.parametrize(
    ("asked", "metric"),
    [("cosine", DIVERGENCE), ("relative", DIVERGENCE), ("kl", AGREEMENT), (None, AGREEMENT)],
)
def test_embeddings_are_measured_by_the_divergence_that_is_named(asked: str | None, metric: Metric) -> None:
    """Nothing tells (N, features) from class scores but the divergence that is named."""
    part, dense, other = images(20, 1), classifier(0), classifier(1)
    found = judged(other, dense, part, divergence=asked)
    assert found.metric == metric
    assert found.answers is not None
    ours, theirs = logits_of(other, part), logits_of(dense, part)
    expected = {
        "cosine": 1 - np.mean((ours * theirs).sum(1) / np.linalg.norm(ours, axis=1) / np.linalg.norm(theirs, axis=1)),
        "relative": np.mean((ours - theirs) ** 2) / theirs.var(),
    }.get(str(asked), np.mean(ours.argmax(1) == theirs.argmax(1)))
    assert found.total(found.answers) == pytest.approx(expected, rel=1e-4)
    named = judged(other, dense, part, divergence=asked, metric=AGREEMENT)  # whoever asks for it gets it
    assert named.metric == AGREEMENT


def test_a_function_of_ones_own_and_one_head_that_is_no_class_score_are_no_agreement() -> None:
    class Two(nn.Module):
        def __init__(self, seed: int) -> None:
            super().__init__()
            self.net = classifier(seed)

        def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
            return self.net(x), self.net(x)[:, :2]

    def kl(found: Tensor, reference: Tensor, variance: float) -> Tensor:
        return (found - reference).square().mean(1)

    part = images(20, 1)
    assert judged(classifier(1), classifier(0), part, divergence=kl).metric == DIVERGENCE
    assert judged(Two(1), Two(0), part, divergence="kl,cosine").metric == DIVERGENCE
    assert judged(Two(1), Two(0), part, divergence="kl,kl").metric == AGREEMENT
    searching = searched(network(), parts("alone"), divergence="cosine", baselines=[], episodes=1)
    assert searching.report["metric"]["name"] == "divergence"


def test_outputs_that_are_too_many_are_computed_again(monkeypatch: pytest.MonkeyPatch) -> None:
    part, dense, other = images(20, 1), Heads(0), Heads(1)
    kept = judged(other, dense, part)
    monkeypatch.setattr("autoprune.evaluation._reference.MAX_REFERENCE_BYTES", 0)
    again = judged(other, dense, part)
    assert kept.answers is not None
    assert again.answers is not None
    assert torch.equal(kept.answers.distance, again.answers.distance)
    assert any("run beside every network" in note for note in again.notes)


class Refusing(Dataset[Any]):
    """Labels that must not be touched."""

    class Label:
        def __getattribute__(self, name: str) -> Any:
            raise RuntimeError("the label was read")

    class Row(dict[str, Any]):
        def __getitem__(self, key: str) -> Any:
            if key == "label":
                raise RuntimeError("the label was read")
            return super().__getitem__(key)

    def __init__(self, count: int, seed: int, kind: str) -> None:
        self.images, self.kind = images(count, seed), kind

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> Any:
        if not 0 <= index < len(self):
            raise IndexError(index)
        image = self.images[index]
        if self.kind == "dict":
            return self.Row(image=image, label=0)
        return image if self.kind == "alone" else (image, self.Label())


class Streamed(IterableDataset[Any]):
    def __init__(self, data: Refusing) -> None:
        self.data = data

    def __iter__(self) -> Iterator[Any]:
        return (self.data[index] for index in range(len(self.data)))


@pytest.mark.parametrize("kind", ["pair", "dict", "alone"])
@pytest.mark.parametrize("given", ["data", "loader", "stream"])
def test_a_label_is_never_read(kind: str, given: str) -> None:
    data = Refusing(20, 1, kind)
    part = {"data": data, "loader": DataLoader(data, batch_size=6), "stream": Streamed(data)}[given]
    found = judged(classifier(1), classifier(0), part)
    expected = judged(classifier(1), classifier(0), data.images)
    assert found.answers is not None
    assert expected.answers is not None
    assert torch.allclose(found.answers.distance, expected.answers.distance, atol=1e-7)
    assert found.labels is None
    if kind != "alone":
        with pytest.raises((RuntimeError, AutopruneError)):
            list(adapt(part, "search", labelled=True).batches(5))  # a label that is asked for says so


def parts(kind: str = "pair") -> dict[str, Any]:
    return {name: Refusing(24, seed, kind) for name, seed in (("calibration", 1), ("search", 2), ("report", 3))}


def network() -> nn.Module:
    return classifier(0)


def searched(model: nn.Module, given: dict[str, Any], **options: Any) -> autoprune.SearchResult:
    options = {"budget": 0.6, "episodes": 2, "finish_steps": 0, "baselines": ["uniform"], **options}
    return autoprune.search(
        model,
        images(2, 0),
        calibration=given["calibration"],
        evaluate=given["search"],
        report=given["report"],
        **options,
    )


def test_a_search_reads_no_label_and_says_what_it_measures(tmp_path: Path) -> None:
    asked = searched(network(), parts(), labels=False, out=tmp_path / "a")
    alone = searched(network(), parts("alone"))
    assert asked.report["metric"] == {"name": "agreement", "maximize": True, "share": True}
    assert asked.report["reward"] == alone.report["reward"] == "divergence"
    config = RunFolder(tmp_path / "a").read_config()
    assert (config.labels, config.metric, config.reward) == (False, "agreement", "divergence")
    for row, other in zip(asked.report["rows"], alone.report["rows"], strict=True):
        assert {key: row[key] for key in ("accuracy", "loss", "counts")} == {
            key: other[key] for key in ("accuracy", "loss", "counts")
        }
    assert asked.report["dense"]["accuracy"] == 1.0
    assert any("No labels are read" in note for note in asked.report["notes"])
    found = RunFolder(tmp_path / "a").read_episodes()
    assert all(episode.score.metric == AGREEMENT and episode.score.loss == episode.score.distance for episode in found)
    assert all(episode.score.reward == -episode.score.distance for episode in found)


def test_the_command_line_reads_no_label(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "refusing.py").write_text(
        f"from {__name__} import network, parts\n\n\ndef net():\n    return network()\n\n\ndef data():\n    return parts()\n"
    )
    spec = f"{tmp_path / 'refusing.py'}"
    typed = ["search", "--model", f"{spec}:net", "--data", f"{spec}:data", "--input-size", "2x6x6", "--budget", "0.6"]
    typed += [
        "--episodes",
        "2",
        "--finish-steps",
        "0",
        "--baselines",
        "uniform",
        "--quiet",
        "--out",
        str(tmp_path / "run"),
    ]
    assert main([*typed, "--no-labels"]) == 0
    capsys.readouterr()
    shell = RunFolder(tmp_path / "run").read_report()
    assert main(["eval", str(tmp_path / "run"), "--model", f"{spec}:net", "--data", f"{spec}:data", "--json"]) == 0
    measured = json.loads(capsys.readouterr().out)
    assert measured["metric"]["name"] == "agreement"
    for key in ("accuracy", "accuracy_se", "loss"):
        assert measured[key] == pytest.approx(shell["final"][key], abs=1e-6)
    here = searched(network(), parts(), labels=False).report
    assert [row["accuracy"] for row in shell["rows"]] == [row["accuracy"] for row in here["rows"]]
    assert main([*typed[:-1], str(tmp_path / "other"), "--labels"]) == 1  # a label that is asked for says so


class _Stop(Progress):
    def __init__(self, after: int) -> None:
        super().__init__()
        self.left = after

    def scored(self, episode: Any, best: Any) -> None:
        self.left -= 1
        if self.left == 0:
            raise KeyboardInterrupt


def test_a_run_that_was_stopped_goes_on_as_if_it_had_not(tmp_path: Path) -> None:
    model = Heads(0)
    whole = searched(model, parts("alone"), episodes=4, out=tmp_path / "whole")
    with pytest.raises(KeyboardInterrupt):
        searched(model, parts("alone"), episodes=4, out=tmp_path / "cut", progress=_Stop(3))
    rest = searched(model, parts("alone"), episodes=4, out=tmp_path / "cut")
    assert whole.report["metric"] == {"name": "divergence", "maximize": False, "share": False}
    for key in ("accuracy", "accuracy_se", "drop_se", "loss", "counts", "search_reward", "right"):
        assert [row[key] for row in rest.report["rows"]] == [row[key] for row in whole.report["rows"]]
    assert whole.report["dense"]["accuracy"] == 0.0
    assert all(row["drop_se"] > 0 for row in whole.report["rows"][1:])


def test_a_race_stops_what_is_clearly_further_from_the_dense_network() -> None:
    from autoprune.problem import make_problem

    data = images(300, 5)
    problem = make_problem(
        Heads(0), images(2, 0), calibration=images(50, 4), evaluate=data, budget=0.7, batch_size=10, finish_steps=0
    )
    best, worst = (problem.projector.project([share] * len(problem.decisions)) for share in (0.9, 0.2))
    problem.race_against([best])
    score = problem.score(worst)
    assert score.share <= 1.0
    assert score.metric == DIVERGENCE
    assert score.accuracy == score.distance == score.loss


def own(found: Tensor, reference: Tensor, variance: float) -> Tensor:
    return (found - reference).abs().flatten(1).mean(1)


def refused(
    dense: nn.Module, part: Any, match: str, *, divergence: str | DivergenceFn | None = None, **task: Any
) -> None:
    with pytest.raises(UsageError, match=match):
        judged(dense, dense, part, divergence=divergence, **task)


class _Of(nn.Module):
    def __init__(self, function: Any) -> None:
        super().__init__()
        self.function = function

    def forward(self, x: Tensor) -> Any:
        return self.function(x)


def test_what_cannot_be_compared_is_refused_in_a_sentence() -> None:
    part = images(20, 1)
    refused(_Of(lambda x: x.argmax(1)), part, "no tensor of real numbers")
    refused(_Of(lambda x: x.mean()), part, "a tensor of shape \\(\\) for 7 images")
    refused(_Of(lambda x: x * float("nan")), part, "item 0 of the search part is NaN or infinite")
    refused(_Of(lambda x: (x, x) if float(x.sum()) > 0 else [x, x]), part, "changes within the search part")
    refused(_Of(lambda x: x[:, :1].mean((1, 2, 3))), part, "'kl' needs classes", divergence="kl")
    refused(_Of(lambda x: x), part, "one number for each", divergence=lambda found, reference, variance: found)
    refused(_Of(lambda x: x), part, "must be 0", divergence=lambda found, reference, variance: found.sum((1, 2, 3)))
    refused(_Of(lambda x: x), part, "the network gives", metric=AGREEMENT)
    with pytest.raises(UsageError, match="a function evaluates"):
        searched(network(), {**parts(), "search": lambda model: {"accuracy": 0.5}, "report": None}, labels=False)


def test_a_divergence_of_ones_own_leads_a_search(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(divergences._items, "absolute", own)
    part, dense, other = images(20, 1), Heads(0), Heads(1)
    named = judged(other, dense, part, divergence="absolute")
    passed = searched(Heads(0), parts("alone"), divergence=own, baselines=[])
    with torch.no_grad():
        ours, theirs = other(part), dense(part)
    pairs = ((ours.scores, theirs.scores), (ours.more["map"][0], theirs.more["map"][0]))
    assert named.distance == pytest.approx(np.mean([float((a - b).abs().mean()) for a, b in pairs]), rel=1e-5)
    assert passed.report["rows"][1]["accuracy"] > 0


def test_outputs_are_found_in_any_nesting() -> None:
    x = images(3, 0)
    found = outputs_of({"a": [x, (x.double(), "text")], "b": Found(x.half(), {"c": x.long(), "d": x[:2]})}, 3)
    assert [tensor.dtype for tensor in found.tensors] == [torch.float32, torch.float64, torch.float16]
    assert len(found.left_out) == 2
    assert not found.scores_classes
    assert outputs_of(TensorDataset, 3).tensors == ()


@pytest.mark.parametrize("rows", [None, 2, 5])
def test_what_has_another_length_than_the_batch_counts_as_one(rows: int | None) -> None:
    """What a detector keeps of an image is no batch: its boxes are not compared as class scores of so many images."""
    batch = [images(1, 0)[0], images(1, 1)[0], images(1, 2)[0]]  # a list of three pictures of two channels
    lengths = RunBatch(batch).lengths
    assert lengths == {2, 3}
    for count in (3, 7):
        boxes, scores = torch.rand(count, 4), torch.rand(count)
        found = outputs_of(
            [{"boxes": boxes, "scores": scores, "labels": torch.zeros(count, dtype=torch.long)}], None, lengths
        )
        if count == 3:
            assert (found.count, [tensor.shape for tensor in found.tensors]) == (3, [(3, 4), (3,)])
        else:
            assert (found.count, [tensor.shape for tensor in found.tensors]) == (1, [(1, 7, 4), (1, 7)])
            assert not found.scores_classes
    if rows is None:
        assert outputs_of(torch.tensor(2.5), None, lengths).tensors[0].shape == (1,)
    else:
        assert outputs_of(torch.zeros(rows, 3), None, lengths).count == (rows if rows in lengths else 1)
