from pathlib import Path

import pytest
import torch

from autoprune.data import load_data
from autoprune.models import load_model, state_fingerprint
from autoprune.models._digits import train_digits
from autoprune.models._trained import cache_folder


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


def test_trained_on_first_use_then_cached_and_good(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AUTOPRUNE_CACHE", str(cache))
    told: list[str] = []
    loaded = load_model("digits", say=told.append)
    assert "trained now" in told[0]
    again = load_model("digits", say=told.append)
    assert "trained earlier" in told[-1]
    assert loaded.fingerprint == again.fingerprint
    assert [path.suffix for path in cache.iterdir()] == [".safetensors"]

    data = load_data("digits", mean=loaded.mean, std=loaded.std, input_size=loaded.input_shape)
    for part in (data.search, data.report):
        images, labels = part.tensors  # type: ignore[attr-defined]
        with torch.no_grad():
            assert (loaded.model(images).argmax(1) == labels).double().mean() >= 0.97


def test_training_is_deterministic(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AUTOPRUNE_CACHE", str(cache))
    torch.manual_seed(11)
    threads = torch.get_num_threads()
    state, accuracy = train_digits()
    assert state_fingerprint(state) == load_model("digits").fingerprint
    assert accuracy >= 0.97
    assert torch.get_num_threads() == threads
    drawn = torch.rand(1)
    torch.manual_seed(11)
    assert torch.equal(drawn, torch.rand(1))


@pytest.mark.parametrize("damage", ["torn", "recipe"])
def test_damaged_cache_is_made_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, damage: str) -> None:
    monkeypatch.setenv("AUTOPRUNE_CACHE", str(tmp_path))
    monkeypatch.setattr("autoprune.models._digits._EPOCHS", 1)
    first = load_model("digits").fingerprint
    path = next(tmp_path.iterdir())
    whole = path.read_bytes()
    path.write_bytes(whole[:-100] if damage == "torn" else whole.replace(b'"recipe":"1"', b'"recipe":"0"'))
    told: list[str] = []
    assert load_model("digits", say=told.append).fingerprint == first
    assert "trained now" in told[0]
    assert load_model("digits", say=told.append).fingerprint == first
    assert "trained earlier" in told[-1]


def test_a_cache_that_cannot_be_written_does_not_stop_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("AUTOPRUNE_CACHE", str(tmp_path / "file" / "below"))
    monkeypatch.setattr("autoprune.models._digits._EPOCHS", 1)
    told: list[str] = []
    load_model("digits", say=told.append)
    assert "not kept" in told[-1]


def test_cache_folder_follows_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", "/somewhere")
    monkeypatch.delenv("AUTOPRUNE_CACHE", raising=False)
    assert cache_folder() == Path("/somewhere/autoprune")
    monkeypatch.setenv("AUTOPRUNE_CACHE", "/mine")
    assert cache_folder() == Path("/mine")
