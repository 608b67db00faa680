"""Files name code, and nobody but the command line or the caller lets it run: every verb, every kind of name."""

from __future__ import annotations

import json
import shlex
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch

from autoprune import Budget, Policy, UsageError
from autoprune.cli import main
from autoprune.data import load_data
from autoprune.evaluation import resolve_reward
from autoprune.models import load_model
from autoprune.registry import NotAllowedError
from autoprune.registry import _trust as trust
from autoprune.runs import RunConfig, RunFolder, load_dense
from autoprune.searching import search_to_folder
from autoprune.support.strict_json import read_json, write_json_atomic
from autoprune.support.tensors import save_safetensors_atomic
from autoprune.surgery import PolicyGroup
from autoprune.verification import evaluate_target

from .._sample import pick
from ..page._runs import make_run

MODULE = "code_of_a_stranger"
CODE = """
from pathlib import Path
Path("IT_RAN").touch()

from autoprune.agents import Uniform
from autoprune.data import load_data
from autoprune.models import DigitsNet, load_model
from autoprune.select import selections

Agent = Uniform
Selection = selections.get("magnitude")


def model():
    net = DigitsNet(10)
    net.input_shape = (1, 8, 8)
    return net


def nested():
    return load_model("code_of_a_stranger:model").model


def data():
    parts = load_data("digits")
    return {"calibration": parts.calibration, "validation": parts.search, "test": parts.report}


def reward(score, dense, budget):
    return score.accuracy


def cost(kept):
    return float(sum(kept.values()))
"""


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / f"{MODULE}.py").write_text(CODE)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [path for path in sys.path if path])
    monkeypatch.setattr(trust, "_allowed", set())
    monkeypatch.delitem(sys.modules, MODULE, raising=False)
    return tmp_path


def run_folder(path: Path, *, finished: bool = True, **names: Any) -> RunFolder:
    """Write a run's files, in which the model, data, reward, ... are what is given."""
    folder = RunFolder(path)
    digits = load_model("digits")
    values: dict[str, Any] = {
        "model": "digits",
        "data": "digits",
        "agent": "uniform",
        "budget": Budget(0.5),
        "episodes": 1,
        "finish_steps": 0,
        **names,
    }
    config = RunConfig(
        **values,
        model_fingerprint=digits.fingerprint,
        data_fingerprint=load_data("digits").fingerprint,
        mean=digits.mean,
        std=digits.std,
        input_shape=digits.input_shape,
    )
    path.mkdir(parents=True)
    write_json_atomic(folder.config_path, config.to_dict())
    model = {"name": config.model, "input_shape": [1, 8, 8], "num_classes": 10, "buildable": True}
    groups = (PolicyGroup("conv1", 16, 16, tuple(range(16))),)
    Policy(groups, model=model, agent="uniform", seed=0).save(folder.policy_path)
    save_safetensors_atomic(folder.model_path, {"a": torch.zeros(1)})
    if finished:
        report = make_run(path.parent / "another") / "report.json"
        write_json_atomic(folder.report_path, {**read_json(report), "digests": {}})
    return folder


FILE = f"{MODULE}.py"
CASES: dict[str, tuple[Mapping[str, Any], list[str]]] = {
    "eval, model": ({"model": f"{MODULE}:model"}, ["eval", "run"]),
    "eval, file": ({"model": f"{FILE}:model"}, ["eval", "run"]),
    "eval, folder and file": ({"model": f"./{FILE}:model"}, ["eval", "run"]),
    "prune, model": ({"model": f"{MODULE}:model"}, ["prune", "--policy", "run/policy.json"]),
    "prune and refit, model": (
        {"model": f"{FILE}:model"},
        ["prune", "--policy", "run/policy.json", "--data", "digits"],
    ),
    "finetune, model": ({"model": f"{MODULE}:model"}, ["finetune", "run", "--epochs", "1"]),
    "export, model": ({"model": f"{MODULE}:model"}, ["export", "run", "--format", "safetensors"]),
    "verify, the record's run": ({"model": f"{MODULE}:model"}, ["verify", "net.pt2"]),
    "verify, the folder's run": ({"model": f"{FILE}:model"}, ["verify", "run/net.safetensors"]),
    "resume, model": ({"model": f"{MODULE}:model", "finished": False}, ["search", "--out", "run", "--quiet"]),
    "resume, data": ({"data": f"{MODULE}:data", "finished": False}, ["search", "--out", "run", "--quiet"]),
    "resume, data in a file": ({"data": f"{FILE}:data", "finished": False}, ["search", "--out", "run", "--quiet"]),
    "resume, reward": ({"reward": f"{MODULE}:reward", "finished": False}, ["search", "--out", "run", "--quiet"]),
    "resume, agent": ({"agent": f"{MODULE}:Agent", "finished": False}, ["search", "--out", "run", "--quiet"]),
    "resume, selection": ({"select": f"{MODULE}:Selection", "finished": False}, ["search", "--out", "run", "--quiet"]),
    "resume, cost": (
        {"budget": Budget(**{f"{MODULE}:cost": 0.5}), "finished": False},
        ["search", "--out", "run", "--quiet"],
    ),
    "sensitivity, model": ({"model": f"{MODULE}:model"}, ["report", "run", "--sensitivity", "--no-time"]),
    "sensitivity, data": ({"data": f"{MODULE}:data"}, ["report", "run", "--sensitivity", "--no-time"]),
}


@pytest.mark.parametrize("case", pick(list(CASES), 8))
def test_what_files_name_is_not_imported(here: Path, capsys: pytest.CaptureFixture[str], case: str) -> None:
    names, command = CASES[case]
    folder = run_folder(here / "run", **names)
    (here / "net.pt2").touch()
    (folder.path / "net.safetensors").touch()
    record = {"version": 1, "format": "pt2", "sha256": "", "network": "", "dynamic_batch": True, "run": "run"}
    write_json_atomic(here / "net.pt2.json", record)
    code = main(command)
    out, err = capsys.readouterr()
    assert code == 2, err
    assert out == ""
    assert not (here / "IT_RAN").exists()
    assert MODULE not in sys.modules
    said = err.splitlines()[-1]
    assert "is named by a file" in said
    typed = shlex.split(said.partition("if you trust it: ")[2])
    assert typed[:-2] == ["autoprune", *command]
    assert typed[-2] == "--allow"
    name = typed[-1]
    assert name.rpartition(":")[2] in CODE
    main(typed[1:])  # whatever comes of it, it was let run
    capsys.readouterr()
    assert (here / "IT_RAN").exists()


def test_a_page_is_written_without_what_would_run(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = run_folder(here / "run", finished=False, model=f"{MODULE}:model")
    folder.policy_path.unlink()
    assert main(["report", "run", "--no-time", "--out", "page.html"]) == 0
    assert f"autoprune report run --no-time --out page.html --allow {MODULE}:model" in capsys.readouterr().err
    assert not (here / "IT_RAN").exists()


def test_the_command_line_itself_names_code(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for number, named in enumerate(
        (["--model", f"{MODULE}:model"], [f"--allow={MODULE}:model"], ["--model", "digits"])
    ):
        folder = run_folder(here / f"run{number}", model=f"{MODULE}:model")
        main(["eval", str(folder.path), *named])
        assert "is named by a file" not in capsys.readouterr().err
        assert (here / "IT_RAN").exists() is (number < 2)
        (here / "IT_RAN").unlink(missing_ok=True)
        sys.modules.pop(MODULE, None)


def test_code_that_was_named_may_use_autoprune(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    main(["inspect", "--model", f"{MODULE}:nested", "--json"])
    assert json.loads(capsys.readouterr().out)["input_shape"] == [1, 8, 8]


def test_nothing_but_names_can_be_allowed(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["eval", "--allow", "everything"]) == 2
    assert "'everything' cannot be allowed" in capsys.readouterr().err
    for name in ("*", "module", "module:", ":f", "a:b c"):
        with pytest.raises(UsageError, match="cannot be allowed"):
            trust.allow(name)


def test_what_a_command_line_names() -> None:
    found = trust.named_in(
        ["--budget", "macs=0.5,my.costs:watts=3", "--agents", "auto,a:B", "--model=x=y.py:net", "run"]
    )
    assert {"my.costs:watts", "a:B", "x=y.py:net"} <= found
    assert not {"macs", "auto", "run"} & found


def test_python_callers_name_what_they_pass(here: Path) -> None:
    sys.path.append(str(here))
    policy = {"name": f"{MODULE}:model", "input_shape": [1, 8, 8]}
    folder = run_folder(here / "run", model=f"{MODULE}:model", finished=False)
    refused: tuple[Callable[[], object], ...] = (
        lambda: load_dense(policy),
        lambda: search_to_folder({}, folder.path),
        lambda: search_to_folder({"seed": 0, "data": "digits"}, folder.path),
        lambda: evaluate_target(folder.path),
    )
    for call in refused[:3]:
        with pytest.raises(NotAllowedError, match=rf"autoprune.registry.allow\('{MODULE}:model'\)"):
            call()
    assert MODULE not in sys.modules
    assert load_model(f"{MODULE}:model").spec == f"{MODULE}:model"  # the caller's own word
    assert callable(resolve_reward(f"{MODULE}:reward"))
    with pytest.raises(NotAllowedError):
        load_dense(policy)
    assert load_dense(policy, model=f"{MODULE}:model").input_shape == (1, 8, 8)
    assert load_dense(policy).input_shape == (1, 8, 8)  # named once, it may be named by files in this process
    trust.allow(f"{MODULE}:reward")
