from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from autoprune.errors import UsageError
from autoprune.models import load_into, read_weights, state_fingerprint


def _net() -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2))


@pytest.mark.parametrize(
    "wrap", [dict, lambda s: {"state_dict": s, "epoch": 3}, lambda s: {"model": {"state_dict": s}}]
)
@pytest.mark.parametrize("prefix", ["", "module."])
def test_pth_wrapped_and_prefixed(tmp_path: Path, wrap: Any, prefix: str) -> None:
    state = _net().state_dict()
    torch.save(wrap({prefix + name: value for name, value in state.items()}), tmp_path / "w.pth")
    found = read_weights(tmp_path / "w.pth")
    assert list(found) == list(state)
    assert all(torch.equal(found[name], state[name]) for name in state)


def test_safetensors(tmp_path: Path) -> None:
    state = _net().state_dict()
    save_file(state, tmp_path / "w.safetensors")
    assert state_fingerprint(read_weights(tmp_path / "w.safetensors")) == state_fingerprint(state)


class _Ran:
    """Would create a file if it were unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return (Path.touch, (self.path,))


def test_pickled_objects_are_refused_and_not_run(tmp_path: Path) -> None:
    torch.save({"state_dict": _net().state_dict(), "extra": _Ran(tmp_path / "ran")}, tmp_path / "w.pth")
    with pytest.raises(UsageError, match="hold more than tensors"):
        read_weights(tmp_path / "w.pth")
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("name", ["w.pth", "w.safetensors"])
@pytest.mark.parametrize("content", [b"", b"not weights", b"PK\x03\x04 broken zip"])
def test_damaged_files_are_one_sentence(tmp_path: Path, name: str, content: bytes) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(UsageError, match=name) as caught:
        read_weights(tmp_path / name)
    assert "\n" not in str(caught.value)


def test_missing_file() -> None:
    with pytest.raises(UsageError, match=r"'nowhere.pth' are not there"):
        read_weights("nowhere.pth")


@pytest.mark.parametrize("content", [{}, [1, 2], {"a": 1.0}, torch.zeros(2)])
def test_what_is_no_state_dict(tmp_path: Path, content: object) -> None:
    torch.save(content, tmp_path / "w.pth")
    with pytest.raises(UsageError, match="no state dict"):
        read_weights(tmp_path / "w.pth")


def test_misfits_are_named_and_nothing_is_copied() -> None:
    model = _net()
    before = state_fingerprint(model.state_dict())
    state = {name: value + 1 for name, value in model.state_dict().items()}
    del state["0.bias"]
    state["0.weight"] = torch.zeros(3, 1, 3, 3)
    state["head.weight"] = torch.zeros(1)
    with pytest.raises(UsageError) as caught:
        load_into(model, state, weights="my.pth")
    message = str(caught.value)
    assert "'my.pth'" in message
    assert "missing: 0.bias" in message
    assert "not in the model: head.weight" in message
    assert "0.weight is 3x1x3x3, not 2x1x3x3" in message
    assert state_fingerprint(model.state_dict()) == before


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_values_that_are_not_finite_name_their_tensor(value: float) -> None:
    model = _net()
    state = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    state["1.running_var"][1] = value
    with pytest.raises(UsageError, match=r"'w' hold NaN or infinite values in '1\.running_var'"):
        load_into(model, state, weights="w")


def test_batch_counters_and_tied_names_may_be_missing() -> None:
    model = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2), nn.BatchNorm1d(2))
    model[1].weight = model[0].weight
    state = {name: value.clone() for name, value in model.state_dict().items()}
    del state["1.weight"], state["2.num_batches_tracked"]
    state["0.weight"] = torch.full((2, 2), 5.0)
    load_into(model, state, weights="w")
    assert torch.equal(model[1].weight, torch.full((2, 2), 5.0))


def test_fingerprint_sees_values_types_shapes_and_names_but_not_order() -> None:
    state = {"a": torch.arange(4.0), "b": torch.tensor(3)}
    same = {"b": torch.tensor(3), "a": torch.arange(4.0)}
    others = [
        {"a": torch.arange(4.0) + 1e-6, "b": torch.tensor(3)},
        {"a": torch.arange(4.0).double(), "b": torch.tensor(3)},
        {"a": torch.arange(4.0).view(2, 2), "b": torch.tensor(3)},
        {"c": torch.arange(4.0), "b": torch.tensor(3)},
    ]
    assert state_fingerprint(state) == state_fingerprint(same)
    assert len({state_fingerprint(other) for other in [state, *others]}) == 5
    assert state_fingerprint({"a": torch.arange(4.0).view(2, 2).t()}) == state_fingerprint(
        {"a": torch.tensor([[0.0, 2.0], [1.0, 3.0]])}
    )
