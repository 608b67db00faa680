from __future__ import annotations

from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from autoprune.cli import main
from autoprune.errors import UsageError
from autoprune.report import _timing as _run
from autoprune.report import read_timing, time_run, why_no_faster
from autoprune.support import packages
from autoprune.support.strict_json import read_json, write_json_atomic
from autoprune.timing import time_networks, timing_table
from autoprune.timing._machine import busy_note, pinned_threads


def network(width: int) -> nn.Module:
    return nn.Sequential(nn.Conv2d(1, width, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(width, 3))


class Branching(nn.Module):
    """Cannot be exported."""

    def forward(self, images: Tensor) -> Tensor:
        return images.flatten(1) if images.sum() > 0 else -images.flatten(1)


def test_rows_for_each_network_target_and_batch() -> None:
    networks = {"dense": network(8).train(), "small": network(4)}
    before = torch.get_num_threads()
    found = time_networks(networks, torch.randn(2, 1, 8, 8), batches=(1, 3), threads=1, budget_s=0.0)
    kinds = [(row["name"], row["target"], row["batch"]) for row in found["rows"]]
    assert kinds == [
        (name, target, batch) for target in ("eager", "onnxruntime") for batch in (1, 3) for name in ("dense", "small")
    ]
    assert found["threads"] == 1
    assert found["version"] == 1
    assert {"device", "torch", "onnxruntime", "cpu"} <= set(found)
    for row in found["rows"]:
        assert row["ms"] > 0
        assert row["ms_iqr"] >= 0
        assert row["rounds"] == 7
        assert row["name"] == "small" or row["ratio"] == 1.0
    assert torch.get_num_threads() == before
    assert networks["dense"].training


def test_without_onnxruntime_there_are_eager_rows_only(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(packages, "find_spec", lambda name: None if name == "onnxruntime" else find_spec(name))
    said: list[str] = []
    found = time_networks(
        {"dense": network(4)}, torch.randn(1, 1, 8, 8), batches=(1,), budget_s=0.0, progress=said.append
    )
    assert [row["target"] for row in found["rows"]] == ["eager"]
    assert any("onnxruntime is not installed (pip install 'autoprune[onnx]')" in text for text in said)


def test_a_network_that_cannot_be_exported_is_said() -> None:
    said: list[str] = []
    found = time_networks(
        {"dense": Branching()}, torch.randn(2, 1, 8, 8), batches=(1,), budget_s=0.0, progress=said.append
    )
    assert {row["target"] for row in found["rows"]} == {"eager"}
    assert any(text.startswith("No times in onnxruntime: torch cannot export the network") for text in said)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"targets": ("egaer",)}, "Did you mean 'eager'"),
        ({"batches": (0,)}, "batch size is 0"),
        ({"threads": 0}, "threads is 0"),
    ],
)
def test_what_makes_no_sense_is_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        time_networks({"dense": network(2)}, torch.randn(1, 1, 8, 8), **options)
    with pytest.raises(UsageError, match="no network"):
        time_networks({}, torch.randn(1, 1, 8, 8))


def test_a_busy_machine_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("autoprune.timing._machine.processors", lambda: 4)
    assert busy_note(2, 2.0) is None
    assert busy_note(2, None) is None
    assert "3.0 processes wanted its 4 processors" in str(busy_note(2, 3.0))


def test_threads_are_put_back_after_an_error() -> None:
    before = torch.get_num_threads()
    with suppress(KeyError), pinned_threads(before + 1) as threads:
        assert threads == before + 1
        raise KeyError
    assert torch.get_num_threads() == before


def test_times_of_a_run_are_of_networks_as_large_as_its_report_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = tmp_path / "run"
    with pytest.raises(UsageError, match="no run in"):
        time_run(run)
    assert main(["search", "--budget", "0.5", "--agent", "deep", "--out", str(run), "--quiet"]) == 0
    assert read_timing(run) is None
    seen: dict[str, int] = {}

    def sizes(networks: dict[str, nn.Module], example: Tensor, **options: Any) -> dict[str, Any]:
        seen.update({name: sum(p.numel() for p in module.parameters()) for name, module in networks.items()})
        assert all(module(example).shape == (2, 10) for module in networks.values())
        return time_networks({"dense": nn.Flatten()}, example, targets=("eager",), batches=(2,), budget_s=0.0)

    monkeypatch.setattr(_run, "time_networks", sizes)
    found = time_run(run)
    rows = {row["name"]: row["params"] for row in read_json(run / "report.json")["rows"]}
    assert seen == rows
    assert read_timing(run) == found
    write_json_atomic(run / "timing.json", {"version": 2})
    with pytest.raises(UsageError, match="has version 2"):
        read_timing(run)


def test_table_has_a_column_for_each_target_and_batch() -> None:
    row = {"target": "eager", "batch": 1, "ms": 2.0, "ms_iqr": 0.1, "ratio": 1.0, "rounds": 7, "precise": True}
    small = {**row, "name": "small", "ms": 1.2, "ratio": 0.6, "precise": False}
    lines = timing_table([{**row, "name": "dense"}, small, {**row, "name": "dense", "batch": 32}]).splitlines()
    assert lines[0].split("  ")[-1].strip() == "eager, batch 32"
    assert lines[2].split() == ["dense", "2", "2"]
    assert lines[3].split() == ["small", "1.2", "(~0.60)", "-"]


@pytest.mark.parametrize(
    ("module_ms", "counts", "option"),
    [
        (0.01, {"a": 13, "b": 8}, "--budget latency="),  # small layers, whatever their counts
        (1.0, {"a": 13, "b": 8}, "1 of 2 groups keep a number of channels that is no multiple of 8"),
        (1.0, {"a": 13, "b": 12}, "1 of 2 groups"),  # b is whole, as its maker wanted it
        (1.0, {"a": 8, "b": 12}, "--budget latency="),
    ],
)
def test_why_a_network_is_not_faster_is_said_with_what_changes_it(
    module_ms: float, counts: dict[str, int], option: str
) -> None:
    said = why_no_faster(module_ms, {"a": 16, "b": 12}, counts)
    assert option in said
    assert ("--round-to 8" in said) is ("multiple of 8" in said)
