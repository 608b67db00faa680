import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits

from autoprune.data import cluttered_digits, load_data
from autoprune.data.cluttered_digits import compose
from autoprune.data.digits import read_digits
from autoprune.errors import UsageError


def test_parts_are_composed_of_disjoint_digits(monkeypatch: pytest.MonkeyPatch) -> None:
    given: list[list[tuple[int, ...]]] = []

    def watched(pictures, labels, count, rng):  # type: ignore[no-untyped-def]
        given.append([(*picture.ravel().tolist(), int(label)) for picture, label in zip(pictures, labels, strict=True)])
        return compose(pictures, labels, 20, rng)

    monkeypatch.setattr(cluttered_digits, "compose", watched)
    for part in cluttered_digits.SCENES:
        cluttered_digits.read_scenes(part)
    x, y = load_digits(return_X_y=True)
    every = sorted((*row, label) for row, label in zip(x.astype(int).tolist(), y.tolist(), strict=True))
    assert sorted(digit for part in given for digit in part) == every


def test_without_noise_the_digit_of_the_label_is_whole_in_the_middle(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cluttered_digits, "_NOISE", 1)
    images, labels = read_digits()
    pictures = np.rint(images[:10, 0] * 16).astype(np.uint16)
    scenes, found = compose(pictures, labels[:10], 40, np.random.default_rng(3))
    assert scenes.shape == (40, 1, 32, 32)
    for scene, label in zip(scenes[:, 0], found, strict=True):
        large = [
            np.kron(picture, np.ones((2, 2))) * 12
            for picture, own in zip(pictures, labels, strict=False)
            if own == label
        ]
        windows = [scene[top : top + 16, left : left + 16] for top in range(5, 12) for left in range(5, 12)]
        assert any(
            (window >= picture).all() and (window[picture > 144] == picture[picture > 144]).all()
            for window in windows
            for picture in large
        )


def test_loaded_it_has_three_parts_and_is_the_same_each_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("autoprune.data.cluttered_digits.SCENES", {"train": 300, "search": 100, "report": 200})
    monkeypatch.setattr("autoprune.data.cluttered_digits.CALIBRATION", 50)
    data = load_data("cluttered-digits", input_size=(1, 32, 32), num_classes=10)
    assert [len(part) for part in (data.calibration, data.search, data.report, data.train)] == [50, 100, 200, 300]  # type: ignore[arg-type]
    images = data.train.tensors[0]  # type: ignore[union-attr]
    assert abs(images.mean()) < 0.02
    assert abs(images.std() - 1) < 0.02
    assert torch.equal(data.calibration.tensors[0], images[:50])  # type: ignore[attr-defined]
    assert load_data("cluttered-digits").fingerprint == data.fingerprint
    with pytest.raises(UsageError, match="the network takes 8x8"):
        load_data("cluttered-digits", input_size=(8, 8))
