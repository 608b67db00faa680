from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch

from autoprune.cli import main
from autoprune.data import load_data
from autoprune.models import load_model
from autoprune.runs import RunFolder
from autoprune.support.strict_json import read_json
from autoprune.support.tensors import load_safetensors
from autoprune.surgery import Policy

SEARCH = ["search", "--budget", "0.5", "--seed", "1"]


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished search by a simple rule."""
    folder = tmp_path_factory.mktemp("runs") / "uniform"
    assert main([*SEARCH, "--agent", "uniform", "--out", str(folder), "--quiet"]) == 0
    return folder


def said(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[str, str]:
    """Run the command line, which must succeed, and return what it printed on stdout and on stderr."""
    assert main(list(arguments)) == 0
    out, err = capsys.readouterr()
    return out, err


def test_first_line_tells_of_the_embedded_default(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    out, err = said(capsys, *SEARCH, "--agent", "uniform")
    first = err.splitlines()[0]
    assert "digits" in first
    assert "trained on first use and cached" in first
    assert "runs/digits-uniform-0.5-s1" in out
    assert (tmp_path / "runs" / "digits-uniform-0.5-s1" / "policy.json").is_file()


def test_run_folder_holds_what_it_should(finished: Path) -> None:
    names = {path.name for path in finished.iterdir() if not path.name.startswith(".")}
    files = {"config.json", "episodes.jsonl", "load.py", "policy.json", "model.safetensors", "report.json"}
    assert names == files | {"finished"}
    report = read_json(finished / "report.json")
    assert report["budget"] == {"limits": [{"kind": "macs", "value": 0.5, "unit": "ratio"}], "mode": "exact"}
    assert {"agent", "seed", "policies_scored", "score_cost", "wall_s", "dense", "final", "rows"} <= set(report)
    assert [row["name"] for row in report["rows"]] == ["dense", "uniform"]
    assert [found["name"] for found in report["scored"]] == ["shallow", "deep", "uniform"]
    for row in report["rows"]:
        assert 0 <= row["accuracy"] <= 1
        assert {"search_accuracy", "loss", "macs", "params"} <= set(row)
    assert report["final"]["macs"] <= 0.5 * report["dense"]["macs"]


def test_report_says_what_the_saved_network_does(finished: Path) -> None:
    from autoprune.runs import RunFolder, rebuild_run

    report = read_json(finished / "report.json")
    small = rebuild_run(RunFolder(finished)).model
    dense = load_model("digits")
    images, labels = load_data("digits", mean=dense.mean, std=dense.std).report.tensors  # type: ignore[attr-defined]
    with torch.no_grad():
        logits = small(images)
    assert (logits.argmax(1) == labels).double().mean().item() == pytest.approx(report["final"]["accuracy"], abs=1e-12)
    assert torch.nn.functional.cross_entropy(logits, labels).item() == pytest.approx(report["final"]["loss"], rel=1e-4)
    assert sum(p.numel() for p in small.parameters()) == report["final"]["params"]


def test_finished_run_is_printed_again_and_never_searched(
    finished: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    lines = (finished / "episodes.jsonl").read_bytes()
    monkeypatch.setattr("autoprune.searching._session.Driver", None)
    out, _ = said(capsys, "search", "--out", str(finished))
    assert [line.split()[0] for line in out.splitlines()[2:6]] == ["dense", "shallow", "deep", "uniform"]
    again, _ = said(capsys, "search", "--out", str(finished), "--model", "digits", "--data", "digits", "--json")
    assert json.loads(again) == read_json(finished / "report.json")
    assert (finished / "episodes.jsonl").read_bytes() == lines


@pytest.mark.parametrize(
    ("change", "difference"),
    [
        (["--seed", "2"], "seed: 1 in the run, 2 now"),
        (["--budget", "0.6"], "budget: "),
        (["--agent", "deep"], "agent: uniform in the run, deep now"),
        (["--model", "cifar-resnet20"], "model: digits in the run, cifar-resnet20 now"),
        (["--mean", "0.1"], "mean: "),
    ],
)
def test_other_options_on_a_run_are_refused(
    finished: Path, capsys: pytest.CaptureFixture[str], change: list[str], difference: str
) -> None:
    assert main(["search", "--out", str(finished), *change, "--quiet"]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert difference in err


def test_another_models_weights_on_a_run_are_refused(
    finished: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from safetensors.torch import save_file

    state = {name: tensor.clone() for name, tensor in load_model("digits").model.state_dict().items()}
    save_file(state, tmp_path / "same.safetensors")
    state["conv1.weight"] *= 1.5
    save_file(state, tmp_path / "other.safetensors")
    said(capsys, "search", "--out", str(finished), "--weights", str(tmp_path / "same.safetensors"), "--quiet")
    assert main(["search", "--out", str(finished), "--weights", str(tmp_path / "other.safetensors"), "--quiet"]) == 2
    assert "model_fingerprint: " in capsys.readouterr().err


@pytest.mark.parametrize("format", ["onnx", "pt2", "safetensors"])
def test_export_and_eval_agree_with_the_report(
    finished: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], format: str
) -> None:
    path = tmp_path / f"net.{format}"
    out, _ = said(capsys, "export", str(finished), "--format", format, "--to", str(path), "--no-verify", "--json")
    told = json.loads(out)
    assert (told["path"], told["format"], told["dynamic_batch"]) == (str(path), format, True)
    assert (told["size_bytes"], told["verification"]) == (path.stat().st_size, None)
    if format == "safetensors":
        saved = load_safetensors(finished / "model.safetensors")
        assert all(torch.equal(tensor, saved[name]) for name, tensor in load_safetensors(path).items())
        return
    measured: dict[str, Any] = json.loads(said(capsys, "eval", str(path), "--json")[0])
    report = read_json(finished / "report.json")
    assert measured["images"] == 397
    assert measured["accuracy"] == pytest.approx(report["final"]["accuracy"], abs=1e-12)
    assert measured["loss"] == pytest.approx(report["final"]["loss"], rel=1e-3)


def test_eval_of_the_run_and_of_the_dense_network(finished: Path, capsys: pytest.CaptureFixture[str]) -> None:
    report = read_json(finished / "report.json")
    for arguments, row in (([str(finished)], "final"), ([], "dense")):
        measured = json.loads(said(capsys, "eval", *arguments, "--json")[0])
        assert measured["accuracy"] == report[row]["accuracy"]
        searched = json.loads(said(capsys, "eval", *arguments, "--part", "search", "--json")[0])
        assert searched["accuracy"] == report[row]["search_accuracy"]


def test_prune_takes_the_weights_beside_refits_or_slices(
    finished: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    report = read_json(finished / "report.json")
    out, _ = said(capsys, "prune", "--policy", str(finished / "policy.json"), "--out", str(tmp_path / "a"), "--json")
    assert json.loads(out)["macs"] == report["final"]["macs"]
    assert json.loads(out)["params"] == report["final"]["params"]
    saved = load_safetensors(finished / "model.safetensors")
    assert all(torch.equal(t, saved[n]) for n, t in load_safetensors(tmp_path / "a" / "model.safetensors").items())

    evaluated = json.loads(said(capsys, "eval", str(tmp_path / "a"), "--json")[0])
    assert evaluated["accuracy"] == report["final"]["accuracy"]
    to = ["--to", str(tmp_path / "a.safetensors"), "--no-verify"]
    said(capsys, "export", str(tmp_path / "a"), "--format", "safetensors", *to)
    assert load_safetensors(tmp_path / "a.safetensors").keys() == saved.keys()

    alone = tmp_path / "alone.json"
    Policy.load(finished / "policy.json").save(alone)
    assert main(["prune", "--policy", str(alone)]) == 2
    assert "give --data to refit them, or --no-refit" in capsys.readouterr().err

    said(capsys, "prune", "--policy", str(alone), "--data", "digits", "--out", str(tmp_path / "b"))
    refitted = load_safetensors(tmp_path / "b" / "model.safetensors")
    torch.testing.assert_close(refitted["linear.weight"], saved["linear.weight"], atol=1e-3, rtol=1e-2)

    said(capsys, "prune", "--policy", str(alone), "--no-refit", "--out", str(tmp_path / "c"))
    sliced = load_safetensors(tmp_path / "c" / "model.safetensors")["blocks.0.conv1.weight"]
    kept = Policy.load(alone).kept()["blocks.0.conv1"]
    assert torch.equal(sliced, load_model("digits").model.state_dict()["blocks.0.conv1.weight"][kept])


def test_inspect_says_what_is_decided_and_what_is_not_and_why(capsys: pytest.CaptureFixture[str]) -> None:
    found = json.loads(said(capsys, "inspect", "--json")[0])
    assert [g["name"] for g in found["groups"] if g["decided"]] == [f"blocks.{i}.conv1" for i in range(4)]
    assert all(g["reason"] for g in found["groups"] if not g["prunable"])
    assert sum(layer["macs"] for layer in found["layers"]) == found["macs"]
    weights = sum(
        p.numel() for n, p in load_model("digits").model.named_parameters() if "bn" not in n and "shortcut.1" not in n
    )
    assert sum(layer["params"] for layer in found["layers"]) == weights
    text, _ = said(capsys, "inspect")
    assert "4 groups are decided by a search" in text
    assert "add --include-residual" in text


def start(*arguments: str, cwd: Path) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "autoprune", *arguments]
    env = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(
        command,
        cwd=cwd,
        env=env,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: signal.signal(
            signal.SIGINT, signal.SIG_DFL
        ),  # what a shell starts in the background ignores it
    )


def wait_for_lines(path: Path, lines: int, process: subprocess.Popen[str]) -> None:
    while not path.is_file() or path.read_bytes().count(b"\n") < lines:
        assert process.poll() is None, process.communicate()[1]
        time.sleep(0.02)


def comparable(path: Path) -> dict[str, Any]:
    """The report without what is measured with a clock."""
    report = read_json(path / "report.json")
    for key in ("wall_s", "score_cost", "total_cost", "passes", "dense_seconds"):
        report.pop(key)
    for row in [report["dense"], report["final"], *report["rows"], *report["scored"]]:
        row.pop("score_cost")
    return report


@pytest.mark.parametrize(("agent", "lines"), [("tpe", 3), ("ddpg", 4)])
def test_killed_and_continued(agent: str, lines: int, tmp_path: Path) -> None:
    options = [*SEARCH, "--agent", agent, "--episodes", "6", "--finish-steps", "2", "--quiet"]
    with start(*options, "--out", "killed", cwd=tmp_path) as process:
        wait_for_lines(tmp_path / "killed" / "episodes.jsonl", lines, process)
        process.kill()
    before = (tmp_path / "killed" / "episodes.jsonl").read_bytes()
    assert not (tmp_path / "killed" / "report.json").exists()
    assert main(["search", "--out", str(tmp_path / "killed"), "--quiet"]) == 0
    assert (tmp_path / "killed" / "episodes.jsonl").read_bytes().startswith(before[: before.rfind(b"\n") + 1])
    if agent == "tpe":
        assert main([*options, "--out", str(tmp_path / "whole")]) == 0
        assert comparable(tmp_path / "killed") == comparable(tmp_path / "whole")
    else:
        assert comparable(tmp_path / "killed")["policies_scored"] == 6


def test_interrupted_says_how_to_go_on(tmp_path: Path) -> None:
    with start(*SEARCH, "--agent", "random", "--episodes", "5000", "--out", "run", cwd=tmp_path) as process:
        wait_for_lines(tmp_path / "run" / "episodes.jsonl", 3, process)
        process.send_signal(signal.SIGINT)
        assert process.stderr is not None
        while "Ending with the best so far; Ctrl-C again stops at once" not in process.stderr.readline():
            assert process.poll() is None
        process.send_signal(signal.SIGINT)
        out, err = process.communicate()
    assert process.returncode == 130
    assert out == ""
    assert "continue with: autoprune search --out run" in err
    assert "Traceback" not in err


def test_help_of_every_verb_has_examples(capsys: pytest.CaptureFixture[str]) -> None:
    for verb in ("search", "inspect", "prune", "export", "verify", "eval"):
        out, _ = said(capsys, verb, "--help")
        assert f"autoprune {verb} " in out.partition("Examples:")[2]


def test_a_reward_in_the_current_folder_is_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "reward_of_mine.py").write_text(
        "def small(score, dense, budget):\n    return -score.params / dense.params\n"
    )
    monkeypatch.setattr(sys, "path", [path for path in sys.path if path])
    monkeypatch.chdir(tmp_path)
    before = list(sys.path)
    command = [*SEARCH, "--agent", "uniform", "--reward", "reward_of_mine:small", "--out", "run", "--json"]
    found = json.loads(said(capsys, *command)[0])
    assert found["final"]["search_reward"] == -found["final"]["params"] / found["dense"]["params"]
    assert sys.path == before


def test_a_mode_alone_on_a_run_is_compared(finished: Path, capsys: pytest.CaptureFixture[str]) -> None:
    said(capsys, "search", "--out", str(finished), "--budget-mode", "exact", "--quiet")
    assert main(["search", "--out", str(finished), "--budget-mode", "at-most", "--quiet"]) == 2
    assert "budget: 0.5 (exact) in the run, 0.5 (at-most) now" in capsys.readouterr().err


def test_random_weights_are_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    policy = Policy((), model={"name": "cifar-resnet20", "input_shape": [3, 32, 32], "num_classes": 10})
    policy.save(tmp_path / "policy.json")
    _, err = said(capsys, "prune", "--policy", str(tmp_path / "policy.json"), "--no-refit")
    assert "cifar-resnet20 has random weights" in err


def test_a_preset_is_asked_for_unless_something_else_is(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = tmp_path / "run"
    said(capsys, *SEARCH, "--preset", "amc", "--episodes", "3", "--workers", "2", "--out", str(run), "--quiet")
    config = RunFolder(run).read_config()
    assert (config.agent, config.budget.mode, config.episodes) == ("amc", "at-most", 3)
    assert (config.min_keep, config.select, config.score) == (0.2, "magnitude", "cached")
    said(capsys, *SEARCH, "--preset", "amc", "--episodes", "3", "--out", str(run), "--quiet")
    assert main([*SEARCH, "--preset", "acm", "--out", str(tmp_path / "other")]) == 2
    assert "Unknown preset 'acm'. Did you mean 'amc'? Known: amc." in capsys.readouterr().err
    assert main(["search", "--preset", "amc", "--out", str(tmp_path / "other")]) == 2
    assert "No budget was given" in capsys.readouterr().err
    assert main([*SEARCH, "--workers", "0", "--out", str(tmp_path / "other")]) == 2
    assert "The number of workers is 0" in capsys.readouterr().err


def test_a_race_and_the_closed_form_alone(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "run"
    options = [*SEARCH, "--agent", "random", "--episodes", "4", "--race", "--finish-steps", "0", "--out", str(out)]
    assert main(options) == 0
    assert "The race stopped " in capsys.readouterr().out
    report, config = read_json(out / "report.json"), read_json(out / "config.json")
    shares = [json.loads(line)["share"] for line in (out / "episodes.jsonl").read_text().splitlines()]
    assert report["policies_stopped"] == sum(share < 1 for share in shares)
    assert (config["race"], config["finish_steps"]) == (True, 0)
    assert main(["search", "--budget", "0.5", "--budget-mode", "at-most", "--race"]) == 2
    assert "leave --race out" in capsys.readouterr().err


def test_a_search_ends_with_what_its_network_takes_unless_told_not_to(
    finished: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out, _ = said(capsys, "search", "--out", str(finished))
    found = re.search(r"Measured in PyTorch .*: (about )?([0-9.]+) of the dense network's time \(([0-9.]+) ms\)", out)
    assert found is not None
    assert 0.1 < float(found[2]) < 10
    assert "Measured" not in said(capsys, "search", "--out", str(finished), "--no-time")[0]
    assert "Measured" not in said(capsys, "search", "--out", str(finished), "--quiet")[0]
