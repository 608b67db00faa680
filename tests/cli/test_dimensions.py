"""Networks over one and three dimensions on the command line: inspect, search, prune, eval."""

from __future__ import annotations

import json
from pathlib import Path
from textwrap import dedent

import pytest
import torch
from torch.nn import functional as F

from autoprune.cli import main
from autoprune.errors import UsageError
from autoprune.models import load_model
from autoprune.support.strict_json import read_json
from autoprune.support.tensors import load_safetensors

NETS = """
    import torch
    from torch import nn


    def sound():
        return nn.Sequential(
            nn.Conv1d(1, 8, 9, stride=4), nn.BatchNorm1d(8), nn.ReLU(), nn.Conv1d(8, 12, 5, stride=2), nn.ReLU(),
            nn.MaxPool1d(2), nn.Conv1d(12, 8, 3), nn.ReLU(), nn.AdaptiveAvgPool1d(1), nn.Flatten(), nn.Linear(8, 3))


    def video():
        return nn.Sequential(
            nn.Conv3d(3, 6, 3, padding=1), nn.BatchNorm3d(6), nn.ReLU(), nn.Conv3d(6, 8, 3, stride=2, padding=1), nn.ReLU(),
            nn.AdaptiveAvgPool3d(1), nn.Flatten(), nn.Linear(8, 3))


    class Series(nn.Module):
        def __init__(self):
            super().__init__()
            self.project = nn.Linear(20, 12)
            self.rnn = nn.GRU(12, 6, batch_first=True)
            self.head = nn.Linear(6, 3)

        def forward(self, x):
            return self.head(self.rnn(self.project(x).relu())[0][:, -1])


    def series():
        return Series()


    def parts(input_size):
        generator = torch.Generator().manual_seed(0)

        def part(count):
            return torch.randn(count, *input_size, generator=generator), torch.arange(count) % 3

        return {"calibration": part(40), "search": part(24), "report": part(24)}
"""
CASES = {"sound": ("1x400", (1, 400)), "video": ("3x4x8x8", (3, 4, 8, 8)), "series": ("10x20", (10, 20))}


@pytest.fixture
def nets(tmp_path: Path) -> Path:
    path = tmp_path / "dimensions_nets.py"
    path.write_text(dedent(NETS))
    return path


@pytest.mark.parametrize("name", CASES)
def test_inspect_search_and_prune(name: str, nets: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    size, shape = CASES[name]
    model = ["--model", f"{nets}:{name}", "--input-size", size]
    assert main(["inspect", *model, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert tuple(found["input_shape"]) == shape
    free = [group["name"] for group in found["groups"] if group["prunable"]]
    assert len(free) == {"sound": 3, "video": 2, "series": 1}[name]
    run = tmp_path / "run"
    search = [
        "search",
        *model,
        "--data",
        f"{nets}:parts",
        "--budget",
        "0.7",
        "--agent",
        "uniform",
        "--out",
        str(run),
        "-q",
    ]
    assert main(search) == 0
    report = read_json(run / "report.json", "report")
    assert report["final"]["macs"] <= 0.7 * report["dense"]["macs"]
    assert not any("fixed batch size" in note for note in report["notes"])
    assert (
        main(
            [
                "prune",
                "--policy",
                str(run / "policy.json"),
                "--model",
                f"{nets}:{name}",
                "--out",
                str(tmp_path / "again"),
            ]
        )
        == 0
    )
    again, state = (
        load_safetensors(tmp_path / "again" / "model.safetensors"),
        load_safetensors(run / "model.safetensors"),
    )
    assert all(torch.equal(again[key], value) for key, value in state.items())


@pytest.mark.parametrize(
    ("name", "size", "shape"),
    [
        ("sound", 400, (1, 400)),
        ("video", 8, (3, 8, 8, 8)),
        ("video", (4, 8, 8), (3, 4, 8, 8)),
        ("series", (10, 20), (10, 20)),
    ],
)
def test_sides_and_sizes_are_those_of_the_networks_dimensions(
    name: str, size: int | tuple[int, ...], shape: tuple[int, ...], nets: Path
) -> None:
    loaded = load_model(f"{nets}:{name}", input_size=size)
    assert loaded.input_shape == shape
    with torch.no_grad():
        assert F.softmax(loaded.model(loaded.example_input()), 1).shape == (2, 3)


def test_a_shape_of_other_dimensions_is_refused(nets: Path) -> None:
    with pytest.raises(UsageError, match=r"\(3, 32, 32\) is no signal's size; give its side, or \(C, L\)"):
        load_model(f"{nets}:sound", input_size=(3, 32, 32))
