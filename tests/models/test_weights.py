from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from autoprune.errors import UsageError
from autoprune.models import load_into, read_weights, state_fingerprint


def _net() -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2))


@pytest.mark.parametrize(
    "wrap", [dict, lambda s: {"state_dict": s, "epoch": 3}, lambda s: {"model": {"state_dict": s}}]
)
@pytest.mark.parametrize("prefix", ["", "module.", "model.", "_orig_mod.", "model._orig_mod.module.", "student."])
def test_pth_wrapped_and_prefixed(tmp_path: Path, wrap: Any, prefix: str) -> None:
    state, model, said = _drawn(1), _net(), list[str]()
    torch.save(wrap({prefix + name: value for name, value in state.items()}), tmp_path / "w.pth")
    load_into(model, read_weights(tmp_path / "w.pth", say=said.append), weights="w", say=said.append)
    assert state_fingerprint(model.state_dict()) == state_fingerprint(state)
    assert said == []


def _drawn(seed: int) -> dict[str, Tensor]:
    torch.manual_seed(seed)
    return _net().state_dict()


class _Named(nn.Module):
    """A network whose own names begin with what wrappers put before them."""

    def __init__(self) -> None:
        super().__init__()
        self.module = nn.Conv2d(1, 2, 3)


@pytest.mark.parametrize("prefix", ["", "module.", "model."])
def test_a_prefix_of_the_networks_own_stays(tmp_path: Path, prefix: str) -> None:
    torch.manual_seed(1)
    state, model = _Named().state_dict(), _Named()
    torch.save({prefix + name: value for name, value in state.items()}, tmp_path / "w.pth")
    load_into(model, read_weights(tmp_path / "w.pth"), weights="w")
    assert state_fingerprint(model.state_dict()) == state_fingerprint(state)


@pytest.mark.parametrize("averaged", ["state_dict_ema", "model_ema", "ema", "ema_model"])
@pytest.mark.parametrize("plain", ["state_dict", "model"])
def test_averaged_weights_are_named_and_taken_where_asked_for(tmp_path: Path, averaged: str, plain: str) -> None:
    path, said = tmp_path / "w.pth", list[str]()
    mean = {f"module.{name}": value for name, value in _drawn(2).items()}
    torch.save({averaged: mean, plain: _drawn(1), "epoch": 3}, path)

    def loaded(name: str) -> str:
        model = _net()
        load_into(model, read_weights(name, say=said.append), weights=name, say=said.append)
        return state_fingerprint(model.state_dict())

    assert loaded(str(path)) == state_fingerprint(_drawn(1))
    assert [f"'{plain}' is taken" in text and f"{path}#{averaged}" in text for text in said] == [True]
    assert loaded(f"{path}#{averaged}") == state_fingerprint(_drawn(2))
    assert loaded(f"{path}#{plain}") == state_fingerprint(_drawn(1))
    with pytest.raises(UsageError, match=f"no entry 'best'. There are: {plain}, {averaged}"):
        loaded(f"{path}#best")
    torch.save({averaged: _drawn(2)}, path)
    assert loaded(str(path)) == state_fingerprint(_drawn(2))
    assert f"the averaged weights '{averaged}' are taken" in said[-1]


def test_lightning_checkpoints_hold_more_than_the_network(tmp_path: Path) -> None:
    model, said = _net(), list[str]()
    state = {f"model.{name}": value for name, value in _drawn(1).items()}
    state |= {f"ema_model.module.{name}": value for name, value in _drawn(2).items()}
    state["criterion.weight"] = torch.zeros(3)
    load_into(model, state, weights="w.ckpt", say=said.append)
    assert state_fingerprint(model.state_dict()) == state_fingerprint(_drawn(1))
    assert said == [
        "Of 'w.ckpt' the weights under 'model' are taken; left out is what is under 'criterion', 'ema_model'"
    ]
    twice = state | {f"teacher.{name}": value for name, value in _drawn(2).items()}
    with pytest.raises(UsageError, match=r"hold several networks that fit, under 'model\.' and 'teacher\.'"):
        load_into(model, twice, weights="w.ckpt")


def test_what_profilers_and_averages_add_is_left_out() -> None:
    model, said = _net(), list[str]()
    state = {f"module.{name}": value for name, value in _drawn(1).items()}
    extra = {"total_ops": torch.zeros(1), "module.0.total_params": torch.zeros(1), "n_averaged": torch.tensor(5)}
    load_into(model, state | extra, weights="w", say=said.append)
    assert state_fingerprint(model.state_dict()) == state_fingerprint(_drawn(1))
    assert said == ["Of 'w' 3 entries are left out that are no weights (n_averaged, total_ops, total_params)"]


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
