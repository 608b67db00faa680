from pathlib import Path

import pytest
import torch

from autoprune.data import load_data
from autoprune.models import load_model


def test_trained_on_first_use_then_cached_and_as_good_as_it_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One epoch instead of four, on fewer scenes."""
    monkeypatch.setenv("AUTOPRUNE_CACHE", str(tmp_path))
    monkeypatch.setattr("autoprune.models._cluttered_digits._EPOCHS", 1)
    monkeypatch.setattr("autoprune.data.cluttered_digits.SCENES", {"train": 1000, "search": 200, "report": 200})
    told: list[str] = []
    first = load_model("cluttered-digits", say=told.append)
    assert "trained now" in told[0]
    again = load_model("cluttered-digits", say=told.append)
    assert "trained earlier" in told[-1]
    assert first.fingerprint == again.fingerprint
    data = load_data("cluttered-digits", mean=first.mean, std=first.std, input_size=first.input_shape)
    images, labels = data.search.tensors  # type: ignore[attr-defined]
    with torch.no_grad():
        right = (first.model(images).argmax(1) == labels).double().mean()
    assert f"network: {right:.1%} of unseen images right" in told[1]
