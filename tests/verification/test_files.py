from __future__ import annotations

import hashlib
import json
import re
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from autoprune.cli import main
from autoprune.errors import AutopruneError, UsageError
from autoprune.support.strict_json import read_json, write_json_atomic
from autoprune.support.tensors import load_safetensors, save_safetensors_atomic
from autoprune.surgery import Policy
from autoprune.verification import _export, export_run, record_path, verify_file

FORMATS = ("onnx", "pt2", "safetensors")


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished search by a simple rule."""
    folder = tmp_path_factory.mktemp("runs") / "run"
    assert main(["search", "--budget", "0.5", "--agent", "uniform", "--out", str(folder), "--quiet"]) == 0
    return folder


@pytest.fixture(scope="module")
def exports(run: Path) -> dict[str, dict[str, Any]]:
    """The run's network in all formats, as `export_run` tells of it."""
    out = run.parent / "exports"
    return {f: export_run(run, format=f, out=out / f"net.{f}", time=False) for f in FORMATS}


@pytest.fixture
def copy(exports: dict[str, dict[str, Any]], run: Path, tmp_path: Path) -> Path:
    """A copy of run and exports, to be damaged."""
    shutil.copytree(run.parent / "exports", tmp_path / "exports")
    shutil.copytree(run, tmp_path / "run")
    return tmp_path / "exports"


def fails(capsys: pytest.CaptureFixture[str], file: Path, *more: str) -> str:
    """Verify a file on the command line, which must fail with one sentence, and return it."""
    capsys.readouterr()
    assert main(["verify", str(file), "--images", "100", "--no-time", *more]) == 1
    out, err = capsys.readouterr()
    assert out == ""
    assert "Traceback" not in err
    return err


def replaced(run: Path, state: dict[str, torch.Tensor]) -> None:
    """Give a run other weights, and its report their digest."""
    weights, report = run / "model.safetensors", read_json(run / "report.json")
    save_safetensors_atomic(weights, state)
    report["digests"]["model.safetensors"] = hashlib.sha256(weights.read_bytes()).hexdigest()
    write_json_atomic(run / "report.json", report)


def damage(file: Path, weights: Path) -> None:
    """Turn the sign of every number of a weight that the file holds as it is."""
    content = file.read_bytes()
    for tensor in load_safetensors(weights).values():
        found = content.find(tensor.numpy().tobytes())
        if tensor.numel() > 100 and found >= 0:
            file.write_bytes(content.replace(tensor.numpy().tobytes(), (-tensor).numpy().tobytes()))
            return
    raise AssertionError("no weight was found in the file")


@pytest.mark.parametrize("format", FORMATS)
def test_an_export_is_verified_and_recorded(exports: dict[str, dict[str, Any]], run: Path, format: str) -> None:
    told = exports[format]
    found = told["verification"]
    assert (found["images"], found["top1_different"], found["ties"]) == (256, 0, 0)
    assert found["on"] == "256 of 397 report images of digits"
    assert found["max_difference"] < 1e-4
    assert found["size_bytes"] == Path(told["path"]).stat().st_size
    assert 0 < found["size_ratio"] < 1
    record = read_json(record_path(Path(told["path"])))
    assert record["verification"] == found
    assert record["sha256"] == told["sha256"]
    again = verify_file(Path(told["path"]), time=False)
    assert again["images"] == 397
    assert again["max_difference"] < 1e-4


def test_safetensors_and_policy_make_the_network_anew(
    exports: dict[str, dict[str, Any]], run: Path, tmp_path: Path
) -> None:
    file = Path(exports["safetensors"]["path"])
    policy = file.with_suffix(".json")
    assert Policy.load(policy) == Policy.load(run / "policy.json")
    assert main(["prune", "--policy", str(policy), "--out", str(tmp_path / "small")]) == 0
    saved, anew = load_safetensors(file), load_safetensors(tmp_path / "small" / "model.safetensors")
    assert all(torch.equal(saved[name], tensor) for name, tensor in anew.items())


@pytest.mark.parametrize("format", FORMATS)
def test_weights_damaged_later_are_caught(
    copy: Path, run: Path, capsys: pytest.CaptureFixture[str], format: str
) -> None:
    file = copy / f"net.{format}"
    damage(file, run / "model.safetensors")
    told = fails(capsys, file)
    assert re.search("its SHA-256 is [0-9a-f]{12}… where [0-9a-f]{12}… was exported", told)
    record_path(file).unlink()
    told = fails(capsys, file, "--run", str(run))  # by what it computes
    assert "of 100 images" in told or "CRC" in told or "do not match its checksum" in told


@pytest.mark.parametrize("format", FORMATS)
def test_one_flipped_bit_is_caught_by_the_checksum(copy: Path, capsys: pytest.CaptureFixture[str], format: str) -> None:
    file = copy / f"net.{format}"
    content = bytearray(file.read_bytes())
    content[len(content) // 3] ^= 1
    file.write_bytes(bytes(content))
    assert "its SHA-256 is" in fails(capsys, file)


@pytest.mark.parametrize("format", FORMATS)
def test_truncated_files_are_caught(copy: Path, run: Path, capsys: pytest.CaptureFixture[str], format: str) -> None:
    file = copy / f"net.{format}"
    file.write_bytes(file.read_bytes()[:-1000])
    record_path(file).unlink()
    told = fails(capsys, file, "--run", str(run))
    assert "cannot be read back" in told or "is not a valid ONNX model" in told


@pytest.mark.parametrize("format", FORMATS)
def test_another_models_weights_are_caught(copy: Path, capsys: pytest.CaptureFixture[str], format: str) -> None:
    other = copy.parent / "run"
    state = load_safetensors(other / "model.safetensors")
    state = {name: t.flip(0) if name == "linear.weight" else t for name, t in state.items()}
    replaced(other, state)
    file = copy.parent / "other" / f"net.{format}"
    export_run(other, format=format, out=file, verify=False)
    told = fails(capsys, copy / f"net.{format}", "--run", str(other))
    assert f"the network in '{other}' is no longer the one that was exported" in told
    assert "the top-1 class differs on " in told
    shutil.copyfile(file, copy / f"net.{format}")
    told = fails(capsys, copy / f"net.{format}")
    assert "its SHA-256 is" in told


@pytest.mark.parametrize("format", FORMATS)
def test_an_export_that_goes_wrong_leaves_nothing_and_spares_what_was_there(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], format: str
) -> None:
    def wrong(model: torch.nn.Module, example: torch.Tensor, path: Path, *, format: str) -> bool:
        with torch.no_grad():
            model.get_submodule("linear").bias[3] += 5.0
            written = genuine(model, example, path, format=format)
            model.get_submodule("linear").bias[3] -= 5.0
        return bool(written)

    genuine = _export.export_model
    monkeypatch.setattr(_export, "export_model", wrong)
    file = tmp_path / f"net.{format}"
    file.write_bytes(b"an earlier one")
    command = ["export", str(run), "--format", format, "--out", str(file), "--no-time"]
    assert main(command) == 1
    told = capsys.readouterr().err
    assert "logits differ by up to 5 where" in told
    assert "of 256 images" in told
    assert "nothing was written (--no-verify writes it all the same)" in told
    assert list(tmp_path.iterdir()) == [file]
    assert file.read_bytes() == b"an earlier one"
    if format == "safetensors":
        assert main([*command, "--no-verify"]) == 0
        assert file.stat().st_size > 1000


def test_without_data_random_images_are_used_and_said(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    made = tmp_path / "net.py"
    made.write_text("from autoprune.models import load_model\n\ndef make():\n    net = load_model('digits').model\n"
                    "    net.input_shape = (1, 8, 8)\n    return net\n")  # fmt: skip
    policy = Policy.load(run / "policy.json")
    replace(policy, model={**policy.model, "name": f"{made}:make"}).save(tmp_path / "small" / "policy.json")
    shutil.copyfile(run / "model.safetensors", tmp_path / "small" / "model.safetensors")
    command = ["export", str(tmp_path / "small"), "--format", "pt2", "--no-time", "--json"]
    assert main(command) == 2
    assert f"--allow {made}:make" in capsys.readouterr().err
    allow = ["--allow", f"{made}:make"]
    command += allow
    assert main(command) == 0
    out, err = capsys.readouterr()
    assert json.loads(out)["verification"]["images"] == 64
    assert "Verifying on 64 random images: the images are not known by name (--data)" in err
    assert main([*command, "--data", "digits", "--verify"]) == 0
    out, _ = capsys.readouterr()
    assert json.loads(out)["verification"]["images"] == 397
    assert main(["verify", str(tmp_path / "small" / "model.pt2"), "--data", "nowhere:x", "--no-time", *allow]) == 2
    assert "say with --data where the images are" in capsys.readouterr().err


def test_the_runs_own_weights_are_not_overwritten(run: Path, copy: Path) -> None:
    own = copy.parent / "run"
    before = (own / "model.safetensors").stat()
    export_run(own, format="safetensors", time=False)
    assert (own / "model.safetensors").stat().st_mtime_ns == before.st_mtime_ns
    assert not (own / "model.json").exists()
    state = load_safetensors(own / "model.safetensors")
    save_safetensors_atomic(own / "model.safetensors", {name: 1.5 * tensor for name, tensor in state.items()})
    with pytest.raises(UsageError, match="is not the one that the run's report names"):
        verify_file(own / "model.safetensors", time=False)
    replaced(own, {name: 1.5 * tensor for name, tensor in state.items()})
    with pytest.raises(AutopruneError, match=r"SHA-256 .* no longer the one that was exported"):
        verify_file(own / "model.safetensors", time=False)


def test_another_runs_policy_is_never_overwritten(run: Path, copy: Path, capsys: pytest.CaptureFixture[str]) -> None:
    other = copy.parent / "run"
    replace(Policy.load(other / "policy.json"), seed=7).save(other / "policy.json")
    out = ["--out", str(other / "model.safetensors")]
    assert main(["export", str(run), "--format", "safetensors", "--no-verify", *out]) == 2
    assert "in the way of the policy" in capsys.readouterr().err
    assert Policy.load(other / "policy.json").seed == 7


def test_what_cannot_be_verified_is_said(tmp_path: Path, copy: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["verify", str(tmp_path / "no.onnx")]) == 2
    (tmp_path / "a.bin").write_bytes(b"x")
    assert main(["verify", str(tmp_path / "a.bin")]) == 2
    shutil.copyfile(copy / "net.pt2", tmp_path / "alone.pt2")
    assert main(["verify", str(tmp_path / "alone.pt2")]) == 2
    assert main(["verify", str(copy / "net.pt2"), "--images", "0"]) == 2
    record_path(copy / "net.pt2").write_text('{"version": 1}', encoding="utf-8")
    assert main(["verify", str(copy / "net.pt2")]) == 2
    told = capsys.readouterr().err
    for part in (
        "does not exist",
        "must end in .onnx, .pt2, .safetensors",
        "give it with --run",
        "images is 0",
        "is damaged",
    ):
        assert part in told
