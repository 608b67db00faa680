"""Files given as networks are refused by what they are, and nothing in them is read; networks of timm."""

from __future__ import annotations

import importlib.util
import pickle
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from autoprune.cli import main
from autoprune.errors import UsageError
from autoprune.models import load_model, untrained
from autoprune.support import packages

needs_timm = pytest.mark.skipif(importlib.util.find_spec("timm") is None, reason="timm is not installed")


class Bomb:
    """Says so if it is unpickled."""

    def __reduce__(self) -> tuple[object, ...]:
        return (pytest.fail, ("it was unpickled",))


def net() -> nn.Module:
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(4 * 36, 2)).eval()


def write(kind: str, folder: Path) -> Path:
    path = folder / f"{kind}.pt"
    if kind == "exported":
        path = folder / "exported.pt2"
        torch.export.save(torch.export.export(net(), (torch.randn(2, 3, 8, 8),)), path)
    elif kind == "scripted":
        torch.jit.save(torch.jit.trace(net(), torch.randn(2, 3, 8, 8)), path)
    elif kind == "pickled":
        torch.save({"model": Bomb()}, path)
    elif kind == "old":
        path.write_bytes(pickle.dumps(Bomb()))
    elif kind == "weights":
        path = folder / "weights.safetensors"
        save_file(net().state_dict(), path)
    else:
        path = folder / f"file.{kind}"
        path.write_bytes(b"")
    return path


@pytest.mark.filterwarnings("ignore:`torch.jit:FutureWarning", "ignore:`torch.jit:DeprecationWarning")
@pytest.mark.parametrize(
    ("kind", "words"),
    [
        ("exported", "a saved ExportedProgram, a program without the network's modules; give the code that makes it"),
        ("scripted", "a scripted or traced network"),
        ("pickled", "networks are not unpickled; .* and this file as --weights if it holds a state dict"),
        ("old", "networks are not unpickled"),
        ("weights", "a file of weights; .* and this file as --weights"),
        ("onnx", "an ONNX graph"),
        ("py", r"name what makes the network in it, --model .*file\.py:factory"),
    ],
)
def test_a_file_is_refused_by_what_it_is(kind: str, words: str, tmp_path: Path) -> None:
    path = write(kind, tmp_path)
    with pytest.raises(UsageError, match=words):
        load_model(str(path))


def test_the_command_line_says_it_too(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["inspect", "--model", str(write("exported", tmp_path))]) == 2
    assert "is a saved ExportedProgram" in capsys.readouterr().err


@needs_timm
@pytest.mark.parametrize("name", ["resnet10t", "resnet18.a1_in1k"])
def test_a_network_of_timm_comes_with_its_input(name: str, tmp_path: Path) -> None:
    import timm

    loaded = load_model(f"timm:{name}", num_classes=7, input_size=64)
    cfg = timm.get_pretrained_cfg(name)
    assert (loaded.mean, loaded.std) == (cfg.mean, cfg.std)
    assert loaded.input_shape == (3, 64, 64)
    assert load_model(f"timm:{name}").input_shape == tuple(cfg.input_size)
    assert loaded.model(loaded.example_input()).shape == (2, 7)
    assert untrained(f"timm:{name}", None)
    assert load_model(f"timm:{name}", num_classes=7).fingerprint == loaded.fingerprint  # the same every time
    save_file({key: value + 1 for key, value in loaded.model.state_dict().items()}, tmp_path / "w.safetensors")
    again = load_model(f"timm:{name}", num_classes=7, weights=str(tmp_path / "w.safetensors"))
    key = "fc.weight"
    assert torch.equal(again.model.state_dict()[key], loaded.model.state_dict()[key] + 1)


@needs_timm
def test_what_timm_does_not_have_is_said() -> None:
    with pytest.raises(UsageError, match=r"timm has no model 'resnet19'\. Did you mean 'resnet1"):
        load_model("timm:resnet19")
    with pytest.raises(UsageError, match=r"timm has no model 'resnet18\.none_in1k'\. Did you mean 'resnet"):
        load_model("timm:resnet18.none_in1k")
    with pytest.raises(UsageError, match="timm has no model 'hf-hub:someone/something'"):
        load_model("timm:hf-hub:someone/something")


def test_without_timm_a_sentence_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    from autoprune.models import _timm

    monkeypatch.setattr(_timm, "timm", packages.lazy("timm", "A network of timm's needs"))
    monkeypatch.setattr(packages, "find_spec", lambda name: None)
    with pytest.raises(
        UsageError, match=r"network of timm's needs the package 'timm', .* pip install 'autoprune\[timm\]'"
    ):
        load_model("timm:resnet18")
