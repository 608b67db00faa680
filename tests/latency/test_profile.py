from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from autoprune.errors import UsageError
from autoprune.latency import LatencyCost, Multiple, Profile, Target
from autoprune.latency import _profile as module
from autoprune.support.jsonl import read_jsonl, to_line

from ._synthetic import TARGET, Net, measured, traced

GRAPH, DECISIONS, EXAMPLE = traced(Net())


@pytest.fixture
def path(tmp_path: Path) -> Path:
    file = tmp_path / "cpu.jsonl"
    measured(GRAPH, DECISIONS, lambda row, number: float(1e-6 * row[:2].prod()), path=file, networks=8)
    return file


def change(path: Path, number: int, **values: Any) -> None:
    lines = read_jsonl(path)
    lines[number] |= values
    path.write_text("".join(map(to_line, lines)))


def test_round_trip(path: Path) -> None:
    profile = Profile.load(path, expect=TARGET)
    assert len(profile.samples) == 8
    assert LatencyCost(profile, GRAPH, DECISIONS).dense > 0
    profile.add_multiples("x", [Multiple(8, 0.5, 0.6, 0.61)])
    again = Profile.load(path)
    assert again.multiples["x"] == (Multiple(8, 0.5, 0.6, 0.61),)
    for one, other in zip(profile.samples, again.samples, strict=True):
        np.testing.assert_allclose(one.channels, other.channels)
        assert one.counts == other.counts
        assert one.ratio == pytest.approx(other.ratio)


def test_a_torn_last_line_is_cut_off(path: Path) -> None:
    whole = path.read_bytes()
    path.write_bytes(whole[:-40])
    assert len(Profile.open(TARGET, path).samples) == 7
    assert path.read_bytes() == whole[: whole[:-40].rindex(b"\n") + 1]


@pytest.mark.parametrize(
    ("number", "values", "said"),
    [
        (0, {"version": 7}, "has version 7, but this autoprune reads 1"),
        (0, {"machine": 3}, "is damaged"),
        (2, {"ratio": None}, "is damaged"),
        (2, {"measured": "unknown"}, "is damaged"),
        (2, {"channels": [[1, 2]]}, "is damaged"),
        (3, {"parts": [0.5, 0.5]}, "the times of the segments are not as many"),
        (3, {"dense_s": 0}, "a time is not above 0"),
    ],
)
def test_damaged_files_are_refused(path: Path, number: int, values: dict[str, Any], said: str) -> None:
    change(path, number, **values)
    with pytest.raises(UsageError) as caught:
        Profile.load(path)
    assert said in str(caught.value)
    assert "profile again into a new file" in str(caught.value)


def test_missing_and_garbled_files_are_refused(tmp_path: Path, path: Path) -> None:
    with pytest.raises(UsageError, match="does not exist; make it with autoprune profile"):
        Profile.load(tmp_path / "none.jsonl")
    lines = path.read_text().splitlines()
    path.write_text("\n".join([lines[0], "{", *lines[1:]]) + "\n")
    with pytest.raises(UsageError, match=r"Line 2 of .* is damaged"):
        Profile.load(path)
    (tmp_path / "empty.jsonl").touch()
    with pytest.raises(UsageError, match="has version None"):
        Profile.load(tmp_path / "empty.jsonl")


@pytest.mark.parametrize(
    ("change_", "said"),
    [
        ({"batch": 2}, "is for batch 1"),
        ({"threads": 2}, "is for threads 1"),
        ({"dtype": "bfloat16"}, "is for dtype float32"),
        ({"runtime": "compile"}, "is for runtime eager"),
    ],
)
def test_another_target_is_refused(path: Path, change_: dict[str, Any], said: str) -> None:
    other = replace(TARGET, **change_)
    with pytest.raises(UsageError) as caught:
        Profile.load(path, expect=other)
    assert said in str(caught.value)
    assert str(other) in str(caught.value)


@pytest.mark.parametrize(("key", "value"), [("cpu", "Abacus"), ("torch", "0.4"), ("memory_kept", "Sometimes")])
def test_another_machine_or_version_is_refused(path: Path, key: str, value: str) -> None:
    machine = module.machine_of(TARGET)
    change(path, 0, machine=machine | {key: value})
    with pytest.raises(UsageError) as caught:
        Profile.open(TARGET, path)
    assert f"was measured with {key} {value}, but here it is {machine[key]}" in str(caught.value)
    assert Profile.load(path).machine[key] == value  # it can be looked at anywhere


def test_versions_of_onnxruntime_count_for_it_only() -> None:
    assert "onnxruntime" in module.machine_of(Target("onnxruntime"))
    assert "onnxruntime" not in module.machine_of(Target("eager"))


def test_how_memory_is_kept_counts_for_torch_only() -> None:
    assert "memory_kept" in module.machine_of(Target("eager"))
    assert "memory_kept" not in module.machine_of(Target("onnxruntime"))
