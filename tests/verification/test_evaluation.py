from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn

from autoprune.cli import main
from autoprune.exporting import export_model
from autoprune.support.strict_json import read_json, write_json_atomic


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished search by a simple rule."""
    folder = tmp_path_factory.mktemp("runs") / "run"
    assert main(["search", "--budget", "0.6", "--agent", "uniform", "--out", str(folder), "--quiet"]) == 0
    return folder


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--weights", "dense.pth"], "--weights dense.pth is about a dense network"),
        (["--input-size", "1x16x16"], "--input-size 1x16x16 is about a dense network"),
    ],
)
def test_options_of_a_dense_network_are_refused_for_a_run(
    run: Path, options: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["eval", str(run), *options]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert message in err


def test_a_run_from_python_needs_data(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = read_json(run / "config.json")
    write_json_atomic(run / "config.json", {**config, "data": "python"})
    assert main(["eval", str(run)]) == 2
    err = capsys.readouterr().err
    assert "was made from Python, so its data have no name; give them with --data" in err
    assert "and --model" in err
    assert main(["eval", str(run), "--data", "digits"]) == 0
    report = read_json(run / "report.json")
    assert f"accuracy {100 * report['final']['accuracy']:.2f}" in capsys.readouterr().out


@pytest.mark.parametrize("format", ["pt2", "onnx"])
def test_an_exported_network_for_other_images_says_what_to_name(
    format: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / f"net.{format}"
    export_model(
        nn.Sequential(nn.Conv2d(3, 4, 3), nn.Flatten(), nn.Linear(36, 10)), torch.randn(2, 3, 5, 5), path, format=format
    )
    assert main(["eval", str(path)]) == 2
    err = capsys.readouterr().err
    assert (
        f"The network in '{path}' does not take the images of 'digits' as they are made for 'digits' (shape (1, 8, 8))"
        in err
    )
    assert "--model and --data" in err
