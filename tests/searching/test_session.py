"""What a run records, and the same asked again."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from autoprune import Budget, UsageError
from autoprune.models import LoadedModel, load_model
from autoprune.runs import RunConfig, load_inputs
from autoprune.runs import _inputs as inputs
from autoprune.searching import check_plugins, resolve
from autoprune.searching._resolve import _as_recorded

DATA = """
import torch
from torch.utils.data import TensorDataset

def data(mean=()):
    part = TensorDataset(torch.ones(12, 1, 8, 8) - mean[0], torch.arange(12) % 10)
    return {"calibration": part, "validation": part, "test": part}
"""


def test_one_value_for_all_channels_and_a_side_are_what_the_run_recorded() -> None:
    stored = RunConfig(
        model="m",
        model_fingerprint="",
        data="d",
        data_fingerprint="",
        budget=Budget(0.5),
        mean=(0.5, 0.5, 0.5),
        std=(0.2, 0.3, 0.4),
        input_shape=(1, 28, 28),
    )
    same = _as_recorded({"mean": (0.5,), "std": (0.2, 0.3, 0.4), "input_shape": (28, 28)}, stored)
    assert stored.differences(replace(stored, **same)) == []
    other = _as_recorded({"mean": (0.4,), "std": (0.2,), "input_shape": (32, 32)}, stored)
    assert len(stored.differences(replace(stored, **other))) == 3


def test_what_is_said_of_a_target_is_compared_with_what_the_run_recorded_of_it() -> None:
    target = resolve({"budget": Budget(latency=0.8), "target": {"batch": 32}}).target
    assert target is not None
    assert target["batch"] == 32
    assert target["threads"] == torch.get_num_threads()
    stored = RunConfig(
        model="m", model_fingerprint="m", data="d", data_fingerprint="d", budget=Budget(latency=0.8), target=target
    )
    assert _as_recorded({"target": {"batch": 32}}, stored)["target"] == target
    assert _as_recorded({"target": {"batch": 1}}, stored)["target"] == {**target, "batch": 1}
    assert resolve({"budget": 0.5}).target is None
    with pytest.raises(UsageError, match="--budget latency"):
        resolve({"budget": 0.5, "target": {"batch": 2}})


def test_the_mean_that_a_data_factory_was_told_is_recorded(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(DATA)
    spec = f"{tmp_path / 'mine.py'}:data"
    told = load_inputs("digits", spec, mean=(0.25,)).recorded
    assert told["mean"] == (0.25,)
    assert load_inputs("digits", spec, mean=told["mean"]).recorded == told
    assert load_inputs("digits", spec).recorded["data_fingerprint"] != told["data_fingerprint"]


def test_published_preprocessing_is_kept_with_the_statistics_that_were_recorded(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    seen: list[Any] = []

    def with_transform(spec: str, **options: Any) -> LoadedModel:
        return replace(load_model(spec), transform=len)  # any function will do

    def spy(spec: str, **options: Any) -> Any:
        seen.append(options["transform"])
        raise UsageError("enough.")

    monkeypatch.setattr(inputs, "load_model", with_transform)
    monkeypatch.setattr(inputs, "load_data", spy)
    own = load_model("digits")
    for mean, std in (((), ()), (own.mean, own.std), ((0.1,), own.std)):
        with pytest.raises(UsageError, match="enough"):
            load_inputs("digits", "digits", mean=mean, std=std)
    assert seen == [len, len, None]


def test_a_selection_by_module_and_name() -> None:
    check_plugins(resolve({"select": "autoprune.select:Lasso", "budget": 0.5}))
    for name in ("math:pi", "math:sqrt", "autoprune.agents:Random"):
        with pytest.raises(UsageError, match=r"not a subclass of autoprune\.select\.Selection"):
            check_plugins(resolve({"select": name, "budget": 0.5}))
