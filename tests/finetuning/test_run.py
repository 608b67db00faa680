from __future__ import annotations

import json
import shutil
from importlib.util import find_spec
from pathlib import Path

import pytest
import torch

import autoprune
from autoprune.cli import main
from autoprune.finetuning import finetuned_weights
from autoprune.finetuning._features import Recorder, boundaries
from autoprune.graph import build_graph
from autoprune.models import load_model
from autoprune.runs import RunFolder
from autoprune.support.jsonl import read_jsonl
from autoprune.support.strict_json import read_json, write_json_atomic
from autoprune.support.tensors import load_safetensors
from autoprune.surgery import prune_model

TUNE = ["--epochs", "1", "--precision", "fp32", "--quiet"]


@pytest.fixture(scope="module")
def tuned(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A search by a simple rule, fine-tuned at once."""
    run = tmp_path_factory.mktemp("runs") / "uniform"
    search = ["search", "--budget", "0.4", "--agent", "uniform", "--out", str(run), "--finetune", "2", "--quiet"]
    assert main(search) == 0
    return run


def copied(run: Path, to: Path) -> Path:
    shutil.copytree(run, to)
    return to


def test_search_fine_tunes_and_the_report_says_so(tuned: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tuned / "finetune" / "distilled"
    names = {path.name for path in folder.iterdir() if not path.name.startswith(".")}
    assert names == {
        "config.json", "history.jsonl", "model.safetensors", "result.json", "checkpoint.json", "checkpoint-2.safetensors",
        "load.py",
    }  # fmt: skip
    report = read_json(tuned / "report.json")
    assert report["finetuned"] == [read_json(folder / "result.json")]
    assert report["finetuned"][0]["macs"] == report["final"]["macs"]
    assert report["finetuned"][0]["params"] == report["final"]["params"]
    assert main(["search", "--out", str(tuned)]) == 0
    out = capsys.readouterr().out
    assert "+ distilled, 2 ep" in out
    assert "distilled: fine-tuned with distillation" in out


def test_eval_measures_the_fine_tuned_network(tuned: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["eval", str(tuned), "--finetuned", "distilled", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    result = read_json(tuned / "finetune" / "distilled" / "result.json")
    assert (found["accuracy"], found["accuracy_se"]) == (result["accuracy"], result["accuracy_se"])


def test_export_writes_the_fine_tuned_network(tuned: Path, tmp_path: Path) -> None:
    to = tmp_path / "small.safetensors"
    command = ["export", str(tuned), "--finetuned", "distilled", "--format", "safetensors", "--to", str(to)]
    assert main(command) == 0
    kept = load_safetensors(finetuned_weights(RunFolder(tuned), "distilled"))
    assert all(torch.equal(kept[name], tensor) for name, tensor in load_safetensors(to).items())


def test_finished_is_said_and_another_recipe_refused(tuned: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["finetune", str(tuned), "--epochs", "2"]) == 0
    assert "all 2 epochs were done before" in capsys.readouterr().err
    assert main(["finetune", str(tuned), "--epochs", "3"]) == 2
    assert "epochs: 2 begun, 3 now" in capsys.readouterr().err


def test_plain_and_from_scratch_lie_beside(tuned: Path, tmp_path: Path) -> None:
    run = copied(tuned, tmp_path / "run")
    assert main(["finetune", str(run), "--no-distill", *TUNE]) == 0
    assert main(["finetune", str(run), "--no-distill", "--from-scratch", *TUNE]) == 0
    found = {result["name"]: result for result in read_json(run / "report.json")["finetuned"]}
    assert list(found) == ["distilled", "plain", "scratch"]
    assert [result["distilled"] for result in found.values()] == [True, False, False]
    assert [result["from_scratch"] for result in found.values()] == [False, False, True]
    assert found["scratch"]["accuracy"] < found["plain"]["accuracy"] - 0.3  # one epoch from nothing
    assert finetuned_weights(RunFolder(run)).parent.name == "distilled"


def test_from_python(tuned: Path, tmp_path: Path) -> None:
    run = copied(tuned, tmp_path / "run")
    recipe = autoprune.Recipe(epochs=1, feature_weight=0.5, precision="bf16")
    found = autoprune.finetune(run, recipe=recipe, name="matched")
    kept = load_safetensors(finetuned_weights(RunFolder(run), "matched"))
    assert all(torch.equal(kept[name], value) for name, value in found.model.state_dict().items())
    assert len(found.history) == 1
    assert found.result["settings"]["feature_weight"] == 0.5


def test_a_folder_of_prune_can_be_fine_tuned(tuned: Path, tmp_path: Path) -> None:
    small = tmp_path / "small"
    assert main(["prune", "--policy", str(tuned / "policy.json"), "--out", str(small)]) == 0
    assert main(["finetune", str(small), *TUNE]) == 0
    assert read_json(small / "finetune" / "distilled" / "result.json")["epochs_done"] == 1


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--name", "../up"], "must be letters"),
        (["--set", "momentun=0.5"], "Did you mean 'momentum'"),
        (["--epochs", "0"], "epochs is 0"),
        (["--device", "tpu"], "tpu"),
        (["--weights", "missing.safetensors"], "missing.safetensors"),
    ],
)
def test_what_cannot_be_done_is_said(
    tuned: Path, options: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["finetune", str(tuned), *options]) == 2
    assert said in capsys.readouterr().err


def test_fine_tunings_that_are_not_there(tuned: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["eval", str(tuned), "--finetuned", "distiled"]) == 2
    assert "Did you mean 'distilled'" in capsys.readouterr().err
    assert main(["finetune", str(tmp_path)]) == 2
    assert "no run in" in capsys.readouterr().err
    assert main(["search", "--budget", "0.5", "--no-distill", "--out", str(tmp_path / "new")]) == 2
    assert "--finetune" in capsys.readouterr().err


def test_the_dense_network_must_be_that_of_the_run(
    tuned: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = copied(tuned, tmp_path / "run")
    config = read_json(run / "config.json")
    write_json_atomic(run / "config.json", {**config, "model_fingerprint": "0" * 64})
    assert main(["finetune", str(run), "--name", "new"]) == 2
    assert "are not those of the run" in capsys.readouterr().err


def test_features_of_the_dense_network_at_the_kept_channels_are_the_small_ones() -> None:
    """Where only channels that are zero were removed, both networks compute the same at every boundary."""
    dense = load_model("digits")
    graph = build_graph(dense.model, dense.example_input())
    group = next(group for group in graph.groups if group.reason is None and group.kind == "inner")
    kept = {group.name: torch.arange(1, group.size).numpy()}
    small = prune_model(dense.model, graph, kept)
    where = boundaries(graph, kept)
    assert where
    all_layers = {layer.norm or layer.name for layer in graph.layers}
    assert {boundary.module for boundary in where} < all_layers
    mine, theirs = Recorder(small, where, select=False), Recorder(dense.model, where, select=True)
    images = dense.example_input()
    small.eval()(images)
    dense.model(images)
    assert [a.shape for a in mine.take()] == [b.shape for b in theirs.take()]
    mine.close()
    small(images)
    with pytest.raises(KeyError):
        mine.take()


def test_tensorboard_has_the_numbers(tuned: Path, tmp_path: Path) -> None:
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    run = copied(tuned, tmp_path / "run")
    assert main(["finetune", str(run), "--name", "logged", "--tensorboard", *TUNE]) == 0
    events = accumulator.EventAccumulator(str(run / "tensorboard" / "finetune-logged"))
    events.Reload()
    line = read_jsonl(run / "finetune" / "logged" / "history.jsonl")[0]
    scalar = events.Scalars("finetune/search_accuracy")[0]
    assert (scalar.step, scalar.value) == (1, pytest.approx(line["search_accuracy"]))
    out = [
        "search",
        "--budget",
        "0.4",
        "--agent",
        "uniform",
        "--out",
        str(tmp_path / "new"),
        "--tensorboard",
        "--quiet",
    ]
    assert main(out) == 0
    events = accumulator.EventAccumulator(str(tmp_path / "new" / "tensorboard" / "search-uniform"))
    events.Reload()
    first = next(e for e in read_jsonl(tmp_path / "new" / "episodes.jsonl") if e["agent"] == "uniform")
    assert events.Scalars("search/accuracy")[0].value == pytest.approx(first["accuracy"])


def test_tensorboard_must_be_installed(
    tuned: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(
        "autoprune.support.packages.find_spec", lambda name: None if name == "tensorboard" else find_spec(name)
    )
    assert main(["finetune", str(tuned), "--tensorboard"]) == 2
    assert "autoprune[tensorboard]" in capsys.readouterr().err
