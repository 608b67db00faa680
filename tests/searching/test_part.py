"""A search that prunes one part of a network, from Python and by the command line, through the files that it leaves."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from torch import Tensor

import autoprune
from autoprune.cli import main
from autoprune.models import load_model
from autoprune.support.tensors import load_safetensors

from .._sample import FULL

FACTORY = """
import torch
from torch import Tensor, nn


def block(before, after, stride=1):
    return nn.Sequential(nn.Conv2d(before, after, 3, stride, 1), nn.BatchNorm2d(after), nn.ReLU())


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.backbone = nn.Sequential(block(1, 16), block(16, 16, 2), block(16, 12))
        self.head = nn.Linear(12, 10)

    def forward(self, images):
        maps, kept = self.backbone(2 * images), []
        for each in maps:  # how often hangs on the values
            while float(each.abs().max()) > 1:
                each = each / 2
            kept.append(each)
        return self.head(torch.stack(kept).mean((2, 3)))


def make():
    torch.manual_seed(0)
    return Net()


make.input_shape = (1, 8, 8)
"""


def test_the_command_line_prunes_a_part_and_its_files_lead_back(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "net.py").write_text(FACTORY)
    spec, run = f"{tmp_path / 'net.py'}:make", tmp_path / "run"
    search = [
        "search",
        "--model",
        spec,
        "--data",
        "digits",
        "--input-size",
        "1x8x8",
        "--part",
        "backbone",
        "--accept-dense",
    ]
    options = ["--budget", "0.5", "--agent", "uniform", "--finish-steps", "2", "--baselines", "shallow"]
    assert main([*search, *options, "--out", str(run), "--quiet"]) == 0
    report = json.loads((run / "report.json").read_text())
    assert report["final"]["macs"] <= 0.5 * report["dense"]["macs"]
    assert json.loads((run / "config.json").read_text())["part"] == ["backbone"]
    trusted = ["--allow", spec]
    assert main(["search", "--out", str(run), "--quiet", *trusted]) == 0
    assert main(["search", "--out", str(run), "--part", "head", "--quiet", *trusted]) == 2
    assert "part: " in capsys.readouterr().err

    saved = load_safetensors(run / "model.safetensors")
    dense = load_model(spec, input_size=(1, 8, 8)).model
    assert saved.keys() == dense.state_dict().keys()
    assert len(saved["backbone.0.0.weight"]) < 16
    assert torch.equal(saved["head.weight"], dense.state_dict()["head.weight"])
    assert main(["prune", "--policy", str(run / "policy.json"), "--out", str(tmp_path / "again"), *trusted]) == 0
    again = load_safetensors(tmp_path / "again" / "model.safetensors")
    assert all(torch.equal(tensor, saved[name]) for name, tensor in again.items())
    to = ["--to", str(tmp_path / "net.safetensors"), "--format", "safetensors", "--no-verify"]
    assert main(["export", str(run), *to, *trusted]) == 0
    capsys.readouterr()
    assert main(["eval", str(run), "--json", *trusted]) == 0
    assert json.loads(capsys.readouterr().out)["accuracy"] == report["final"]["accuracy"]


BOXES = """

class Boxes(Net):
    def forward(self, images):
        return [scores[scores > scores.mean()] for scores in self.backbone(images)]


def make_boxes():
    torch.manual_seed(0)
    return Boxes()


def run(model, batch):
    images = batch if isinstance(batch, Tensor) else batch[0]
    return model.backbone(images)


make_boxes.input_shape = (1, 8, 8)
"""


def test_a_part_of_what_a_function_runs_leads_back_from_the_files_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "part_of_boxes.py").write_text(FACTORY + BOXES)
    monkeypatch.syspath_prepend(str(tmp_path))
    spec, run = "part_of_boxes:make_boxes", tmp_path / "run"
    search = ["search", "--model", spec, "--data", "digits", "--input-size", "1x8x8", "--part", "backbone"]
    options = ["--budget", "0.5", "--agent", "uniform", "--finish-steps", "2", "--baselines", "shallow"]
    assert main([*search, *options, "--run", "part_of_boxes:run", "--no-labels", "--out", str(run), "--quiet"]) == 0
    told = json.loads((run / "policy.json").read_text())["model"]
    image = {"tensor": [1, 8, 8], "dtype": "float32"}
    assert told["inputs"] == {"args": [{"tuple": [{"tuple": [image]}, {"dict": {}}]}], "kwargs": {}}
    capsys.readouterr()
    again = str(tmp_path / "again")
    assert main(["prune", "--policy", str(run / "policy.json"), "--out", again, "--allow", spec, "--json"]) == 0
    report = json.loads((run / "report.json").read_text())
    assert json.loads(capsys.readouterr().out)["macs"] == report["final"]["macs"]
    saved = load_safetensors(run / "model.safetensors")
    assert all(torch.equal(t, saved[name]) for name, t in load_safetensors(Path(again) / "model.safetensors").items())


def test_python_prunes_a_part_of_a_network_that_gives_no_class_scores(tmp_path: Path) -> None:
    (tmp_path / "net.py").write_text(FACTORY)
    dense = load_model(f"{tmp_path / 'net.py'}:make", input_size=(1, 8, 8)).model

    class Boxes(torch.nn.Module):
        """As many answers as there are places above the mean: of another shape for each image."""

        def __init__(self) -> None:
            super().__init__()
            self.net = dense

        def forward(self, images: Tensor) -> list[Tensor]:
            return [scores[scores > scores.mean()] for scores in self.net.backbone(images)]

    model, images = Boxes().eval(), torch.rand(24, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        answers = dense.backbone(images)

    def evaluate(network: torch.nn.Module) -> dict[str, float]:
        with torch.no_grad():
            assert len(network(images)) == len(images)
            error = (network.net.backbone(images) - answers).square().mean() / answers.var()
        return {"accuracy": float((1 - error).clamp(0, 1))}

    given = {"calibration": images, "evaluate": evaluate, "budget": 0.5, "agent": "uniform", "baselines": ()}
    found = autoprune.search(model, images[:2], part="net.backbone", finish_steps=0, **given)
    assert found.policy.model["part"] == ["net.backbone"]
    assert found.report["final"]["accuracy"] > 0.5
    assert evaluate(found.model)["accuracy"] == pytest.approx(found.report["final"]["accuracy"], abs=1e-4)
    with pytest.raises(autoprune.UsageError, match="limits latency"):
        autoprune.search(model, images[:2], part="net.backbone", **{**given, "budget": "latency=0.5"})


@pytest.mark.skipif(not FULL, reason="a detector is traced in .ci/full")
def test_a_detector_of_torchvisions_is_searched_and_detects() -> None:
    detection = pytest.importorskip("torchvision.models.detection")
    torch.manual_seed(0)
    model = detection.fasterrcnn_mobilenet_v3_large_320_fpn(
        weights=None, weights_backbone=None, num_classes=5, min_size=64, max_size=64
    ).eval()
    images = torch.rand(16, 3, 64, 64)

    def run(network: torch.nn.Module, batch: Tensor) -> list[Tensor]:
        return list(network.backbone(network.transform([*batch])[0].tensors).values())

    found = autoprune.search(
        *(model, images[:2]),
        **{"calibration": images, "evaluate": images, "labels": False, "run": run},
        **{"part": "backbone", "budget": 0.5, "agent": "random", "episodes": 3, "select": "magnitude"},
        **{"baselines": ("uniform",), "finish_steps": 5, "finish_policies": 1},
    )
    assert found.report["final"]["macs"] <= 0.5 * found.report["dense"]["macs"]
    assert found.model.state_dict().keys() == model.state_dict().keys()
    with torch.no_grad():
        assert [set(one) for one in found.model(images[:2])] == [{"boxes", "labels", "scores"}] * 2
