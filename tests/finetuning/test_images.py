from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import Subset, TensorDataset

from autoprune.data import ImageArrays, load_data
from autoprune.errors import UsageError
from autoprune.finetuning._augment import crop, draw, margin, pad
from autoprune.finetuning._images import TrainingImages, augmentation


def arrays(count: int = 50) -> ImageArrays:
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (count, 3, 16, 16), dtype=np.uint8)
    return ImageArrays(images, np.arange(count), mean=(0.5, 0.4, 0.3), std=(0.2, 0.3, 0.4))


def batches(images: TrainingImages, epoch: int) -> tuple[torch.Tensor, torch.Tensor]:
    xs, ys = zip(*images.epoch(epoch), strict=True)
    return torch.cat(xs), torch.cat(ys)


def test_crops_are_slices_of_the_padded_image() -> None:
    images = torch.randn(6, 2, 16, 24)
    draws = draw(6, (16, 24), kind="crop-flip", seed=3, epoch=1)
    padded = pad(images, value=9.0)
    assert padded.shape == (6, 2, 20, 30)
    found = crop(padded, (16, 24), draws.offset, draws.flip)
    for n in range(6):
        row, column = draws.offset[n].tolist()
        expected = padded[n, :, row : row + 16, column : column + 24]
        assert torch.equal(found[n], expected.flip(-1) if draws.flip[n] else expected)


def test_draws_cover_every_offset_and_are_those_of_the_epoch() -> None:
    draws = draw(5000, (32, 32), kind="crop-flip", seed=0, epoch=1)
    assert draws.offset.unique().tolist() == list(range(9))
    assert 0.4 < float(draws.flip.float().mean()) < 0.6
    assert sorted(draws.order.tolist()) == list(range(5000))
    again, other = (draw(5000, (32, 32), kind="crop-flip", seed=0, epoch=e) for e in (1, 2))
    assert torch.equal(draws.order, again.order)
    assert not torch.equal(draws.order, other.order)
    shifted = draw(5000, (32, 32), kind="shift", seed=0, epoch=1)
    assert not shifted.flip.any()


@pytest.mark.parametrize(("side", "expected"), [(32, 4), (8, 1), (28, 3), (4, 1)])
def test_margin(side: int, expected: int) -> None:
    assert margin(side) == expected


def test_without_augmentation_the_images_are_the_data_sets() -> None:
    data = arrays()
    images = TrainingImages(data, kind="none", batch_size=8, seed=0)
    x, y = batches(images, 1)
    assert len(x) == images.steps * 8 == 48
    assert len(set(y.tolist())) == 48
    assert all(torch.allclose(x[n], data[int(y[n])][0]) for n in range(48))


def test_images_decoded_one_by_one_are_augmented_like_those_in_memory() -> None:
    data = arrays()
    whole = TensorDataset(torch.stack([data[n][0] for n in range(50)]), torch.arange(50))
    memory = TrainingImages(whole, kind="crop-flip", batch_size=50, seed=5)
    one_by_one = TrainingImages(Subset(whole, range(50)), kind="crop-flip", batch_size=50, seed=5)
    for mine, theirs in zip(batches(memory, 2), batches(one_by_one, 2), strict=True):
        assert torch.equal(mine, theirs)


def test_parts_of_a_batch_make_the_batch() -> None:
    images = TrainingImages(arrays(), kind="crop-flip", batch_size=10, seed=0)
    _, labels = batches(images, 1)
    parts = [torch.cat([y for _, y in images.epoch(1, rank=rank, world=2)]) for rank in (0, 1)]
    assert sorted(torch.cat(parts).tolist()) == sorted(labels.tolist())
    assert not set(parts[0].tolist()) & set(parts[1].tolist())


def test_an_image_folder_gets_random_crops_that_follow_from_the_seed(tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    for part in ("train", "val"):
        for name in ("a", "b"):
            (tmp_path / part / name).mkdir(parents=True)
            for n in range(3):
                pixels = rng.integers(0, 256, (40, 50, 3), dtype=np.uint8)
                Image.fromarray(pixels).save(tmp_path / part / name / f"{n}.png")
    data = load_data(f"imagefolder:{tmp_path}", input_size=32)
    assert data.train is not None
    settings = {"kind": "crop-flip", "batch_size": 6, "mean": data.mean, "std": data.std}
    made = [TrainingImages(data.train, seed=s, workers=0, **settings) for s in (0, 0, 1)]
    (x, y), (same, _), (other, _) = (batches(images, 1) for images in made)
    assert x.shape == (6, 3, 32, 32)
    assert torch.equal(x, same)
    assert not torch.equal(x, other)
    plain = torch.stack([data.train[n][0] for n in range(6)])
    assert sorted(y.tolist()) == [0, 0, 0, 1, 1, 1]
    assert not torch.equal(x.sort(0).values, plain.sort(0).values)
    assert float((x.mean() - plain.mean()).abs()) < 0.1  # the same normalisation


def test_augmentation_by_data_set() -> None:
    kinds = [augmentation(name, "auto") for name in ("cifar10:x", "digits", "imagefolder:x", "my.py:data")]
    assert kinds == ["crop-flip", "shift", "crop-flip", "none"]
    assert augmentation("digits", "none") == "none"


def test_one_image_is_too_few() -> None:
    with pytest.raises(UsageError, match="at least 2"):
        TrainingImages(arrays(1), kind="none", batch_size=8, seed=0)
