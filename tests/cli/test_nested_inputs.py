"""Networks of two inputs and of one dict on the command line, by a function that runs batches and without: every verb."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from textwrap import dedent
from typing import Any

import numpy as np
import pytest
import torch

from autoprune.cli import main
from autoprune.models import load_model
from autoprune.support.tensors import load_safetensors

from .._sample import FULL

NETS = """
    import torch
    from torch import Tensor, nn


    class Two(nn.Module):
        def __init__(self):
            super().__init__()
            self.first = nn.Sequential(nn.Conv2d(1, 12, 3, padding=1), nn.BatchNorm2d(12), nn.ReLU())
            self.second = nn.Sequential(nn.Conv2d(12, 16, 3, stride=2, padding=1), nn.ReLU())
            self.beside = nn.Sequential(nn.Linear(1, 16), nn.ReLU(), nn.Linear(16, 8), nn.ReLU())
            self.joined = nn.Sequential(nn.Linear(16 * 9 + 8, 20), nn.ReLU(), nn.Linear(20, 1))

        def forward(self, picture, number):
            return self.joined(torch.cat([self.second(self.first(picture)).flatten(1), self.beside(number)], dim=1))


    class OfDict(Two):
        def forward(self, batch):
            return super().forward(batch["picture"], batch["number"])


    class Loose(OfDict):
        def forward(self, batch):
            return {"sum": super().forward(batch), "even": batch["number"] > 0}


    def two():
        torch.manual_seed(0)
        return Two()


    def of_dict():
        torch.manual_seed(0)
        return OfDict()


    def loose():
        torch.manual_seed(0)
        return Loose()


    class Items(torch.utils.data.Dataset):
        def __init__(self, seed, form):
            generator = torch.Generator().manual_seed(seed)
            self.pictures, self.numbers = torch.randn(40, 1, 6, 6, generator=generator), torch.randn(40, 1, generator=generator)
            self.form = form

        def __len__(self):
            return 40

        def __getitem__(self, index):
            picture, number = self.pictures[index], self.numbers[index]
            return self.form(picture, number)


    def parts(form):
        return {name: Items(seed, form) for seed, name in enumerate(("calibration", "search", "report"))}


    def tuples():
        return parts(lambda picture, number: (picture, number))


    def pairs():
        return parts(lambda picture, number: ((picture, number), picture.mean() + number))


    def dicts():
        return parts(lambda picture, number: {"picture": picture, "number": number, "y": picture.mean() + number})


    def odd():
        return parts(lambda picture, number: {"left": picture, "right": number, "name": "x"})


    def run(model, batch):
        return model(batch["left"], batch["right"])


    def run_dict(model, batch):
        return model({"picture": batch["left"], "number": batch["right"]})
"""
QUICK = ["--budget", "0.5", "--agent", "uniform", "--finish-steps", "2", "--baselines", "", "--quiet"]
CASES = {
    "two by run": ("two", "odd", "run"),
    "dict by run": ("loose", "odd", "run_dict"),
    "two of tuples": ("two", "tuples", None),
    "two of dicts": ("two", "dicts", None),
    "dict of dicts": ("of_dict", "dicts", None),
    "two of pairs": ("two", "pairs", None),
}
METRICS = {"two of pairs": ["--minimize-metric", "mae"]}
"""What is measured; nothing but the divergence elsewhere."""


class Case:
    """A finished search, and what a command line must name of it again."""

    def __init__(self, folder: Path, name: str) -> None:
        model, data, run = CASES[name]
        self.file, self.folder = folder / "nets.py", folder / "run"
        self.file.write_text(dedent(NETS))
        self.model, self.data = f"{self.file}:{model}", f"{self.file}:{data}"
        self.run = [] if run is None else ["--run", f"{self.file}:{run}"]
        self.function = [] if run is None else ["--run-function", f"{self.file}:{run}"]
        self.trusted = ["--allow", self.model, "--allow", self.data]
        asked = ["--model", self.model, "--data", self.data, *self.run, *QUICK, *METRICS.get(name, ["--no-labels"])]
        assert main(["search", *asked, "--out", str(self.folder)]) == 0
        self.report = json.loads((self.folder / "report.json").read_text())


@pytest.fixture(scope="module", params=CASES if FULL else list(CASES)[:2])
def case(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Case:
    return Case(tmp_path_factory.mktemp("nested"), request.param)


@pytest.fixture
def told(capsys: pytest.CaptureFixture[str]) -> Callable[..., Any]:
    """Return what a command prints as JSON."""

    def run(*command: str) -> Any:
        capsys.readouterr()
        assert main([*command, "--json"]) == 0, capsys.readouterr().err
        return json.loads(capsys.readouterr().out)

    return run


def inputs(seed: int = 9) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(5, 1, 6, 6, generator=generator), torch.randn(5, 1, generator=generator)


def test_eval_measures_what_the_search_reported(case: Case, told: Callable[..., Any]) -> None:
    found = told("eval", str(case.folder), *case.trusted, *case.run)
    assert found["accuracy"] == pytest.approx(case.report["final"]["accuracy"], rel=1e-6)
    assert found["images"] == 40


def test_prune_refits_on_data_again(case: Case, told: Callable[..., Any], tmp_path: Path) -> None:
    (tmp_path / "policy.json").write_bytes((case.folder / "policy.json").read_bytes())
    out = tmp_path / "small"
    command = ["prune", "--policy", str(tmp_path / "policy.json"), "--out", str(out), "--allow", case.model]
    found = told(*command, "--data", case.data, *case.run)
    assert found["macs"] == case.report["final"]["macs"]
    saved, anew = (load_safetensors(folder / "model.safetensors") for folder in (case.folder, out))
    assert {name: tensor.shape for name, tensor in anew.items()} == {name: t.shape for name, t in saved.items()}


def test_export_and_verify(case: Case, told: Callable[..., Any], tmp_path: Path) -> None:
    if not FULL and ":two" in case.model:
        pytest.skip("exports take seconds")
    file = tmp_path / "net.onnx"
    command = ["export", str(case.folder), "--format", "onnx", "--to", str(file), "--no-time", *case.trusted]
    found = told(*command, *case.run)["verification"]
    assert (found["images"], found["on"]) == (40, f"40 report inputs of {case.data.partition(':')[0]}")
    assert found["max_difference"] < 1e-5 < found["largest_logit"]
    assert (
        told("verify", str(file), "--no-time", *case.trusted, *case.function, "--run", str(case.folder))["images"] == 40
    )

    import onnxruntime

    session = onnxruntime.InferenceSession(str(file), providers=["CPUExecutionProvider"])
    given = [tensor.numpy() for tensor in inputs()]
    names = [each.name for each in session.get_inputs()]
    assert len(names) == 2
    output = session.run(None, dict(zip(names, given, strict=True)))[0]
    small = load_model(case.model).model
    state = load_safetensors(case.folder / "model.safetensors")
    rebuilt = told("prune", "--policy", str(case.folder / "policy.json"), "--out", str(tmp_path / "x"), *case.trusted)
    assert rebuilt["macs"] == case.report["final"]["macs"]
    for name, tensor in state.items():  # the same network made by hand: the dense one's modules with smaller tensors
        *path, leaf = name.split(".")
        module = small.get_submodule(".".join(path))
        module._parameters[leaf] = torch.nn.Parameter(tensor) if leaf in module._parameters else None
        if leaf in module._buffers:
            del module._parameters[leaf]
            module._buffers[leaf] = tensor
    picture, number = inputs()
    with torch.no_grad():
        expected = small(picture, number) if ":two" in case.model else small({"picture": picture, "number": number})
        expected = expected["sum"] if isinstance(expected, dict) else expected
    np.testing.assert_allclose(output, expected.numpy(), atol=1e-5)


def test_finetune_learns_the_dense_networks_outputs(case: Case, told: Callable[..., Any]) -> None:
    quick = ["--epochs", "2", "--precision", "fp32", "--batch-size", "16"]
    tuned = told("finetune", str(case.folder), *quick, *case.trusted, *case.run)
    assert tuned["metric"] == case.report["metric"]
    assert tuned["macs"] == case.report["final"]["macs"]
    found = told("eval", str(case.folder), *case.trusted, *case.run, "--finetuned", "distilled")
    assert found["accuracy"] == pytest.approx(tuned["accuracy"], rel=1e-5)


def test_profile_says_what_to_do(case: Case, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert main(["profile", "--model", case.model, "--out", str(tmp_path / "p.jsonl"), *case.run]) == 2
    said = capsys.readouterr().err
    assert "budget of macs" in said
    assert said.count("\n") == 1
    assert not (tmp_path / "p.jsonl").exists()


def test_a_run_folder_names_no_code(case: Case, capsys: pytest.CaptureFixture[str]) -> None:
    if case.run:
        assert main(["eval", str(case.folder), *case.trusted]) == 2
        assert f"--allow {case.run[1]}" in capsys.readouterr().err
        assert main(["eval", str(case.folder), *case.trusted, "--allow", case.run[1]]) == 0
        assert main(["verify", str(case.file), "--run", case.run[1]]) == 2
        assert f"--run-function {case.run[1]}" in capsys.readouterr().err
