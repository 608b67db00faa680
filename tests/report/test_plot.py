"""The picture of the groups: its data without a plotting library, and files that are what they are called."""

from __future__ import annotations

import sys
from itertools import combinations
from pathlib import Path
from typing import Any

import pytest
import torch

from autoprune.cli import main
from autoprune.errors import UsageError
from autoprune.inspection import inspect_model
from autoprune.models import load_model
from autoprune.report import WHOLE, Picture, draw, picture


@pytest.fixture(scope="module")
def found() -> dict[str, Any]:
    return inspect_model(load_model("cifar-resnet20").model, torch.zeros(2, 3, 32, 32))


@pytest.fixture(scope="module")
def shown(found: dict[str, Any]) -> Picture:
    return picture(found)


def test_lines_span_the_layers_that_make_and_read_them(found: dict[str, Any], shown: Picture) -> None:
    names = [layer["name"] for layer in found["layers"]]
    assert [stop.name for stop in shown.stops] == names
    for line, group in zip(shown.lines, found["groups"], strict=True):
        at = [names.index(name) for name in (*group["producers"], *group["consumers"])]
        assert (line.start, line.end) == (min(at), max(at))
        assert (line.letter, line.channels) == (group["letter"], group["channels"])
        assert (line.colour == WHOLE) == (group["reason"] is not None)
    assert sum(stop.share for stop in shown.stops) == pytest.approx(1)


def test_lines_at_one_height_do_not_overlap_and_residual_ones_lie_on_top(shown: Picture) -> None:
    for one, other in combinations(shown.lines, 2):
        assert one.row != other.row or one.end < other.start or other.end < one.start
    residual = [line.row for line in shown.lines if line.residual]
    assert max(residual) < min(line.row for line in shown.lines if not line.residual)
    assert shown.rows == max(line.row for line in shown.lines) + 1


def test_strokes_end_where_layers_read_and_make(found: dict[str, Any], shown: Picture) -> None:
    names = [group["name"] for group in found["groups"]]
    for stop, layer in zip(shown.stops, found["layers"], strict=True):
        assert [names[place] for place in stop.reads] == layer["in_groups"]
        assert [names[place] for place in stop.writes] == layer["out_groups"]


@pytest.mark.parametrize(("suffix", "start"), [(".png", b"\x89PNG"), (".svg", b"<?xml"), (".pdf", b"%PDF")])
def test_files(shown: Picture, tmp_path: Path, suffix: str, start: bytes) -> None:
    pytest.importorskip("matplotlib")
    path = tmp_path / f"graph{suffix}"
    draw(shown, path)
    assert path.read_bytes().startswith(start)
    assert [entry.name for entry in tmp_path.iterdir()] == [path.name]
    if suffix == ".svg":
        assert "layer1.0.conv1" in path.read_text(encoding="utf-8")


def test_command_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("matplotlib")
    path = tmp_path / "groups.png"
    assert main(["inspect", "--plot", str(path), "--json"]) == 0
    said = capsys.readouterr()
    assert said.out.startswith("{")
    assert str(path) in said.err
    assert path.read_bytes().startswith(b"\x89PNG")


def test_endings_and_missing_library_are_said_before_anything_is_traced(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert main(["inspect", "--plot", "groups.jpg"]) == 2
    assert "'groups.jpg' must end in .png, .svg or .pdf" in capsys.readouterr().err
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    assert main(["inspect", "--plot", str(tmp_path / "groups.png")]) == 2
    assert "pip install 'autoprune[plot]'" in capsys.readouterr().err
    with pytest.raises(UsageError, match="matplotlib"):
        draw(Picture("", (), (), 0), tmp_path / "groups.png")
