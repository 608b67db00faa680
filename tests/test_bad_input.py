"""Whatever is wrong with the input: one sentence on stderr, nothing on stdout, no traceback, the right exit code."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from autoprune.budget import Budget
from autoprune.cli import main
from autoprune.errors import UsageError
from autoprune.models import load_model

PLUGINS = """
import torch
from torch.utils.data import TensorDataset

def raising(score, dense, budget):
    raise KeyError("nothing here")

def nan(score, dense, budget):
    return float("nan")

def no_images():
    return {"calibration": TensorDataset(torch.zeros(0, 1, 8, 8), torch.zeros(0).long()),
            "validation": TensorDataset(torch.zeros(4, 1, 8, 8), torch.zeros(4).long())}

def large_images():
    part = TensorDataset(torch.zeros(8, 1, 16, 16), torch.arange(8))
    return {"calibration": part, "validation": part}

def broken(num_classes=10):
    raise RuntimeError("out of paper")
"""


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "bad_plugins.py").write_text(PLUGINS)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def fails(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str]:
    """Run the command line and return its exit code and its one sentence."""
    code = main([*arguments, "--quiet"] if arguments[0] == "search" else list(arguments))
    out, err = capsys.readouterr()
    assert out == ""
    assert "Traceback" not in err
    assert err.startswith("Error: ")
    assert err.count("\n") == 1, err
    assert err.endswith(".\n"), err
    return code, err


@pytest.mark.parametrize("budget", ["0", "1.5", "abc", "nan", "-0.5"])
def test_budget_out_of_range(here: Path, capsys: pytest.CaptureFixture[str], budget: str) -> None:
    code, said = fails(capsys, "search", "--budget", budget)
    assert code == 2
    assert f"'{budget}'" in said
    assert "in (0, 1]" in said


def test_budget_that_cannot_be_met_says_the_smallest_that_can(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, said = fails(capsys, "search", "--budget", "0.001", "--out", "run")
    assert code == 2
    main(["inspect", "--include-residual", "--json"])
    smallest = json.loads(capsys.readouterr().out)["smallest_budget"]
    assert f"{-(-smallest * 10**4 // 1) / 10**4:.4f}" in said
    assert not (here / "run" / "config.json").exists()


@pytest.mark.parametrize(
    ("arguments", "hint"),
    [
        (["--agent", "ddgp"], "Unknown agent 'ddgp'. Did you mean 'ddpg'?"),
        (["--reward", "acuracy"], "Unknown reward 'acuracy'. Did you mean 'accuracy'?"),
        (["--select", "laso"], "Unknown selection 'laso'. Did you mean 'lasso'?"),
        (["--score", "cache"], "Unknown score 'cache'. Did you mean 'cached'?"),
        (["--model", "cifar-resnet57"], "Unknown model 'cifar-resnet57'. Did you mean"),
        (["--data", "digitz"], "Unknown data 'digitz'. Did you mean 'digits'?"),
        (["--reward", "bad_plugins:missing"], "cannot be imported"),
        (["--reward", "accuracy-flops"], "at-most"),
        (["--agent", "tpe", "--agent-option", "nose=1"], "has no option 'nose'"),
        (["--agent-option", "noise"], "must be like name=value"),
        (["--episodes", "0"], "episodes is 0"),
        (["--seed", "-1"], "seed is -1"),
        (["--min-keep", "2"], "min-keep is 2.0"),
        (["--round-to", "0"], "round-to is '0'"),
        (["--mean", "a,b"], "--mean is 'a,b'"),
        (["--input-size", "3x"], "--input-size is '3x'"),
        (["--budget-mode", "excat"], "'excat'"),
        (["--device", "tpu"], "'tpu'"),
    ],
)
def test_names_and_numbers(here: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], hint: str) -> None:
    code, said = fails(capsys, "search", "--budget", "0.5", "--out", "run", *arguments)
    assert code == 2
    assert hint in said
    assert not (here / "run" / "config.json").exists()


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")
def test_cuda_where_there_is_none(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, said = fails(capsys, "search", "--budget", "0.5", "--device", "cuda")
    assert code == 2
    assert "--device cpu" in said


def test_no_budget(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, said = fails(capsys, "search")
    assert code == 2
    assert "--budget 0.5" in said


def test_a_model_without_data(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, said = fails(capsys, "search", "--budget", "0.5", "--model", "cifar-resnet20")
    assert code == 2
    assert "cifar-resnet20" in said
    assert "--data" in said


def test_missing_weights(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, said = fails(capsys, "search", "--budget", "0.5", "--weights", "nowhere.safetensors")
    assert code == 2
    assert "'nowhere.safetensors'" in said


def test_weights_of_another_network(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    save_file({"conv1.weight": torch.zeros(3, 1, 3, 3)}, here / "other.safetensors")
    code, said = fails(capsys, "search", "--budget", "0.5", "--weights", "other.safetensors")
    assert code == 2
    assert "other.safetensors" in said


def test_weights_that_are_not_numbers(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    state = load_model("digits").model.state_dict()
    state["blocks.1.conv1.weight"] = state["blocks.1.conv1.weight"].clone()
    state["blocks.1.conv1.weight"][0] = torch.nan
    save_file(state, here / "nan.safetensors")
    code, said = fails(capsys, "search", "--budget", "0.5", "--weights", "nan.safetensors")
    assert code == 2
    assert "'blocks.1.conv1.weight'" in said
    assert "NaN" in said


def test_damaged_weights(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (here / "torn.safetensors").write_bytes(b"\x10\0\0")
    code, said = fails(capsys, "search", "--budget", "0.5", "--weights", "torn.safetensors")
    assert code == 2
    assert "torn.safetensors" in said


@pytest.mark.parametrize(
    ("data", "hint"),
    [
        ("bad_plugins:no_images", "at least one"),
        ("bad_plugins:large_images", "(1, 16, 16)"),
        ("cifar10:nowhere", "nowhere"),
        ("imagefolder:nowhere", "nowhere"),
    ],
)
def test_data_that_are_empty_missing_or_of_the_wrong_size(
    here: Path, capsys: pytest.CaptureFixture[str], data: str, hint: str
) -> None:
    code, said = fails(capsys, "search", "--budget", "0.5", "--data", data)
    assert code == 2
    assert hint in said


@pytest.mark.parametrize(("reward", "hint"), [("raising", "nothing here"), ("nan", "returned nan")])
def test_a_reward_that_raises_or_is_no_number(
    here: Path, capsys: pytest.CaptureFixture[str], reward: str, hint: str
) -> None:
    code, said = fails(capsys, "search", "--budget", "0.5", "--reward", f"bad_plugins:{reward}", "--out", "run")
    assert code == 2
    assert f"The reward '{reward}'" in said
    assert hint in said


def test_a_factory_that_fails_has_failed_while_it_ran(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, said = fails(capsys, "search", "--budget", "0.5", "--model", "bad_plugins:broken")
    assert code == 1
    assert "out of paper" in said


def test_output_that_cannot_be_written(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (here / "file").touch()
    code, said = fails(capsys, "search", "--budget", "0.5", "--out", "file/run")
    assert code == 2
    assert "'file/run' cannot be written" in said


@pytest.mark.parametrize(
    ("arguments", "hint"),
    [
        (["search", "--bugdet", "0.5"], "No such option: --bugdet"),
        (["serach"], "No such command 'serach'"),
        (["export", "nowhere", "--format", "onnx"], "There is no run in 'nowhere'"),
        (["export", "nowhere", "--format", "tflite"], "Unknown format 'tflite'"),
        (["eval", "nowhere"], "neither .onnx nor .pt2"),
        (["eval", "--part", "raport"], "Did you mean 'report'?"),
        (["prune", "--policy", "nowhere.json"], "'nowhere.json' does not exist"),
        (["inspect", "--model", "nowhere.py:net"], "nowhere.py"),
    ],
)
def test_other_verbs(here: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], hint: str) -> None:
    code, said = fails(capsys, *arguments)
    assert code == 2
    assert hint in said


def test_an_unexpected_error_is_a_sentence_too(
    here: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise ZeroDivisionError("of all things\nand more")

    monkeypatch.setattr("autoprune.models.load_model", fail)
    code, said = fails(capsys, "inspect")
    assert code == 1
    assert "Unexpected ZeroDivisionError: of all things and more; run the same with --debug" in said
    with pytest.raises(ZeroDivisionError):
        main(["inspect", "--debug"])


def test_debug_raises_what_was_meant_for_people(here: Path) -> None:
    with pytest.raises(UsageError):
        main(["search", "--budget", "2", "--debug"])


@pytest.mark.parametrize(
    ("budget", "message"),
    [
        ({"value": 1.5}, "'1.5', but must be a ratio"),
        ({"value": True}, "'True', but must be a ratio"),
        ({"value": 0.5, "mode": "excat"}, "'excat'"),
        ({"value": 0.5, "macs": 0.5}, "MACs twice"),
        ({"value": "macs=0.5,latency=12mb"}, "unit is none of us, µs, ms, s"),
        ({"value": "latancy=12ms"}, "Did you mean 'latency'"),
        ({"value": "latency=12"}, "'12', but must be a ratio"),
        ({"size": "0MB"}, "number above 0"),
        ({"value": "macs=0.5,"}, "''"),
        ({}, "'None', but must be a ratio"),
    ],
)
def test_budgets_that_are_none(budget: dict[str, object], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        Budget(**budget)  # type: ignore[arg-type]
