from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from autoprune.errors import AutopruneError, UsageError
from autoprune.exporting import ONNX_MODULES, export_model, load_exported, onnx_session
from autoprune.support import packages


def small_net() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 5, 3, stride=2),
        nn.BatchNorm2d(5),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(5, 4),
    )


@pytest.mark.parametrize("format", ["onnx", "pt2"])
def test_exported_file_computes_the_same_for_any_batch_size(tmp_path: Path, format: str) -> None:
    model = small_net().train()
    path = tmp_path / f"net.{format}"
    assert export_model(model, torch.randn(2, 3, 9, 9), path, format=format)
    assert model.training
    assert [entry.name for entry in tmp_path.iterdir()] == [path.name]
    loaded = load_exported(path)
    model.eval()
    for batch in (1, 2, 7):
        images = torch.randn(batch, 3, 9, 9)
        with torch.no_grad():
            torch.testing.assert_close(loaded(images), model(images), atol=1e-5, rtol=1e-4)


def test_safetensors_holds_the_state_dict(tmp_path: Path) -> None:
    model = small_net()
    export_model(model, torch.randn(2, 3, 9, 9), tmp_path / "net.safetensors", format="safetensors")
    state = load_file(tmp_path / "net.safetensors")
    assert state.keys() == model.state_dict().keys()
    assert all(torch.equal(state[name], value) for name, value in model.state_dict().items())


class _FixedBatch(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x.reshape(2, -1).sum(1, keepdim=True)


def test_a_network_with_a_fixed_batch_is_exported_as_such(tmp_path: Path) -> None:
    assert not export_model(_FixedBatch(), torch.randn(2, 3, 4, 4), tmp_path / "net.pt2", format="pt2")


class _Branching(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x if x.sum() > 0 else -x


def test_a_network_torch_cannot_export_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(AutopruneError, match="torch cannot export the network: ") as caught:
        export_model(_Branching(), torch.randn(2, 3, 4, 4), tmp_path / "net.pt2", format="pt2")
    assert "\n" not in str(caught.value)
    assert not list(tmp_path.iterdir())


def test_unknown_format_names_the_nearest(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="Did you mean 'onnx'"):
        export_model(small_net(), torch.randn(2, 3, 9, 9), tmp_path / "net", format="onxx")


def test_missing_extra_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(packages, "find_spec", lambda name: None if name == "onnxscript" else find_spec(name))
    with pytest.raises(UsageError, match=r"'onnxscript', which is not installed: pip install 'autoprune\[onnx\]'"):
        export_model(small_net(), torch.randn(2, 3, 9, 9), tmp_path / "net.onnx", format="onnx")


@pytest.mark.parametrize(
    ("name", "message"), [("a.onnx", "does not exist"), ("a.pt2", "does not exist"), ("a.txt", "neither")]
)
def test_loading_what_is_not_there(tmp_path: Path, name: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        load_exported(tmp_path / name)


@pytest.mark.parametrize("name", ["a.onnx", "a.pt2"])
def test_loading_damaged_files(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(b"not a model")
    with pytest.raises(UsageError, match="is not an"):
        load_exported(tmp_path / name)


class Conditioned(nn.Module):
    """Images and a whole number for each, by name, into two answers."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.table = nn.Conv2d(3, 5, 3), nn.Embedding(4, 5)

    def forward(self, *, image: Tensor, label: Tensor) -> dict[str, Tensor]:
        maps = torch.relu(self.conv(image) + self.table(label)[:, :, None, None])
        return {"maps": maps, "mean": maps.mean((2, 3))}


def test_a_network_of_several_inputs_is_exported_with_one_for_each_tensor(tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = Conditioned().eval()
    example = {"image": torch.randn(2, 3, 8, 8), "label": torch.tensor([1, 3])}
    others = {"image": torch.randn(5, 3, 8, 8), "label": torch.tensor([0, 1, 2, 3, 3])}
    with torch.no_grad():
        expected = list(model(**others).values())
    assert export_model(model, example, tmp_path / "net.pt2", format="pt2")
    found = torch.export.load(tmp_path / "net.pt2").module()(**others)
    torch.testing.assert_close(list(found.values()), expected)
    if not all(find_spec(name) for name in ONNX_MODULES):
        pytest.skip("what ONNX needs is not installed")
    assert export_model(model, example, tmp_path / "net.onnx", format="onnx")
    session = onnx_session(tmp_path / "net.onnx")
    names = [entry.name for entry in session.get_inputs()]
    assert names == ["image", "label"]
    outputs = session.run(None, {name: others[name].numpy() for name in names})
    torch.testing.assert_close([torch.from_numpy(one) for one in outputs], expected, atol=1e-5, rtol=1e-4)
