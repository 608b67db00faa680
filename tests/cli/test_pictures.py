"""A search on an image folder, from the command line: what is done to pictures is said, recorded, and done by the other verbs."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file
from torch import nn

from autoprune.cli import main

CODE = """
import numpy
import torch
from torch import nn

class Net(nn.Sequential):
    input_shape = (1, 8, 8)

def net():
    return Net(nn.Conv2d(1, 6, 3), nn.ReLU(), nn.Conv2d(6, 4, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(),
               nn.Linear(4, 2))

def tensor(picture):
    return torch.from_numpy(numpy.array(picture.convert("L"))).float()[None] / 255

def fails(picture):
    return picture.nothing
"""


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "own.py").write_text(CODE)
    rng = np.random.default_rng(0)
    for part, count in (("train", 20), ("val", 12)):
        for name in ("a", "b"):
            (tmp_path / part / name).mkdir(parents=True)
            for n in range(count):
                Image.fromarray(rng.integers(0, 256, (8, 8), np.uint8)).save(tmp_path / part / name / f"{n}.png")
    torch.manual_seed(0)
    weights = nn.Sequential(
        nn.Conv2d(1, 6, 3),
        nn.ReLU(),
        nn.Conv2d(6, 4, 3),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(4, 2),
    ).state_dict()
    save_file({f"model.{name}": value for name, value in weights.items()}, tmp_path / "w.safetensors")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def run(*arguments: str) -> int:
    common = [
        "search",
        "--model",
        "own.py:net",
        "--weights",
        "w.safetensors",
        "--data",
        "imagefolder:.",
        "--out",
        "run",
    ]
    return main(
        [*common, "--budget", "0.6", "--agent", "uniform", "--episodes", "1", "--finish-steps", "0", *arguments]
    )


def test_pictures_as_they_are(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("--mean", "0.5", "--std", "0.25") == 0
    said = capsys.readouterr().err
    assert "Images: made grey, pictures of 8x8 as they are" in " ".join(said.split())
    config = json.loads((here / "run" / "config.json").read_text())
    assert config["prepared"].startswith("made grey, pictures of 8x8 as they are")
    assert (config["resize"], config["crop"], config["transform"]) == (None, None, None)
    assert run("--mean", "0.5", "--std", "0.25", "--resize", "none") == 2
    assert "resize: None in the run, [] now" in capsys.readouterr().err


def test_a_transform_of_ones_own_is_used_by_the_verbs_that_follow(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("--transform", "own.py:tensor", "--quiet") == 0
    report = json.loads((here / "run" / "report.json").read_text())
    assert json.loads((here / "run" / "config.json").read_text())["transform"] == "own.py:tensor"
    capsys.readouterr()
    assert main(["eval", "run", "--json", "--allow", "own.py:net"]) == 2  # the run names a transform, too
    assert "--allow own.py:tensor" in capsys.readouterr().err
    assert main(["eval", "run", "--json", "--transform", "own.py:tensor", "--allow", "own.py:net"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["accuracy"] == pytest.approx(report["final"]["accuracy"])
    assert found["loss"] == pytest.approx(report["final"]["loss"])
    assert run("--transform", "own.py:fails", "--out", "third", "--quiet") == 1
    said = capsys.readouterr().err
    assert "Item 0 of the calibration part cannot be read, the data set raised AttributeError" in said
    assert main(["search", "--data", "digits", "--budget", "0.5", "--crop", "4", "--out", "other"]) == 2
    assert "about image folders" in capsys.readouterr().err
