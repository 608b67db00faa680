import gzip
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from sklearn.datasets import load_digits
from torch.utils.data import DataLoader, TensorDataset
from torchvision.datasets import FashionMNIST

from autoprune.data import Preparation, load_data
from autoprune.errors import AutopruneError, UsageError


def test_digits_parts_are_disjoint_and_together_all_digits() -> None:
    data = load_data("digits", mean=(0.5,), std=(2.0,), input_size=(8, 8))
    parts = (data.calibration, data.search, data.report)
    assert [len(part) for part in parts] == [1000, 400, 397]  # type: ignore[arg-type]
    images = torch.cat([part.tensors[0] for part in parts])  # type: ignore[attr-defined]
    labels = torch.cat([part.tensors[1] for part in parts])  # type: ignore[attr-defined]
    raw = np.round((images.numpy() * 2 + 0.5) * 16).reshape(-1, 64).astype(int)
    found = sorted((*row, label) for row, label in zip(raw.tolist(), labels.tolist(), strict=True))
    x, y = load_digits(return_X_y=True)
    assert found == sorted((*row, label) for row, label in zip(x.astype(int).tolist(), y.tolist(), strict=True))
    assert load_data("digits").fingerprint == load_data("digits").fingerprint != data.fingerprint


def _write_idx(path: Path, array: np.ndarray[Any, Any], *, zipped: bool) -> None:
    raw = bytes((0, 0, 8, array.ndim)) + b"".join(n.to_bytes(4, "big") for n in array.shape) + array.tobytes()
    if zipped:
        path.with_name(path.name + ".gz").write_bytes(gzip.compress(raw))
    else:
        path.write_bytes(raw)


@pytest.fixture(params=["FashionMNIST/raw", "."])
def fashion(tmp_path: Path, request: pytest.FixtureRequest) -> Path:
    rng = np.random.default_rng(0)
    folder = tmp_path / request.param
    folder.mkdir(parents=True, exist_ok=True)
    for name, count in (("train", 12), ("t10k", 7)):
        images = rng.integers(0, 256, (count, 28, 28), dtype=np.uint8)
        labels = rng.integers(0, 10, count).astype(np.uint8)
        _write_idx(folder / f"{name}-images-idx3-ubyte", images, zipped=request.param == ".")
        _write_idx(folder / f"{name}-labels-idx1-ubyte", labels, zipped=request.param == ".")
    return tmp_path


def test_fashion_mnist_equals_what_torchvision_reads(fashion: Path) -> None:
    data = load_data(f"fashion-mnist:{fashion}", mean=(0.0,), std=(1.0,))
    held = torch.cat([part.tensors[0] for part in (data.search, data.report)])  # type: ignore[attr-defined]
    assert (len(data.search), len(data.report), len(data.calibration)) == (3, 4, 12)  # type: ignore[arg-type]
    assert data.input_shape == (1, 28, 28)
    if (fashion / "FashionMNIST").exists():
        test = FashionMNIST(str(fashion), train=False)
        assert torch.equal((held[:, 0] * 255).round().byte(), test.data)
        assert [data.search[n][1] for n in range(3)] == test.targets[:3].tolist()


def test_fashion_mnist_is_padded_for_networks_of_colour_images(fashion: Path) -> None:
    small = load_data(f"fashion-mnist:{fashion}", mean=(0.0,), std=(1.0,)).search[0][0]
    image = load_data(f"fashion-mnist:{fashion}", mean=(0,) * 3, std=(1,) * 3, input_size=(3, 32, 32)).search[0][0]
    assert image.shape == (3, 32, 32)
    assert torch.equal(image, torch.nn.functional.pad(small, (2, 2, 2, 2)).expand(3, 32, 32))


def test_fashion_mnist_damaged_or_missing(fashion: Path) -> None:
    path = next(fashion.rglob("t10k-images*"))
    path.write_bytes(path.read_bytes()[:-9])
    with pytest.raises(UsageError, match="damaged"):
        load_data(f"fashion-mnist:{fashion}")
    path.unlink()
    with pytest.raises(UsageError, match="all four are needed"):
        load_data(f"fashion-mnist:{fashion}")
    with pytest.raises(UsageError, match="There is no Fashion-MNIST"):
        load_data(f"fashion-mnist:{fashion / 'elsewhere'}")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    rng = np.random.default_rng(0)
    for part, count in (("train", 4), ("val", 5)):
        for name in ("cat", "dog"):
            (tmp_path / part / name).mkdir(parents=True)
            for n in range(count):
                pixels = rng.integers(0, 256, (20, 30, 3), dtype=np.uint8)
                Image.fromarray(pixels).save(tmp_path / part / name / f"{n}.png")
    return tmp_path


def test_image_folder(folder: Path) -> None:
    data = load_data(f"imagefolder:{folder}", input_size=16, mean=(0, 0, 0), std=(1, 1, 1))
    assert [len(p) for p in (data.calibration, data.search, data.report)] == [8, 5, 5]  # type: ignore[arg-type]
    assert (data.input_shape, data.num_classes) == ((3, 16, 16), 2)
    chosen = [set(part.indices) for part in (data.search, data.report)]  # type: ignore[attr-defined]
    assert chosen[0] | chosen[1] == set(range(10))
    image, _ = data.search[0]
    assert image.shape == (3, 16, 16)
    assert 0 <= image.min() < image.max() <= 1
    assert load_data(f"imagefolder:{folder}", input_size=(1, 16, 16)).input_shape == (1, 16, 16)


def _pixels(part: Any) -> list[bytes]:
    return [(part[n][0] * 255).round().byte().numpy().tobytes() for n in range(len(part))]


def test_pictures_of_the_size_wanted_are_not_touched(folder: Path) -> None:
    """Colour or grey: what a network sees are the files' own pixels."""
    files = [np.array(Image.open(path)) for path in sorted((folder / "val").rglob("*.png"))]
    data = load_data(f"imagefolder:{folder}", input_size=(3, 20, 30), mean=(0,) * 3, std=(1,) * 3)
    assert sorted(_pixels(data.search) + _pixels(data.report)) == sorted(f.transpose(2, 0, 1).tobytes() for f in files)
    assert data.prepared.startswith("pictures of 20x30 as they are, others resized so that the shorter side is 34")
    grey = load_data(f"imagefolder:{folder}", input_size=(1, 20, 30), mean=(0,), std=(1,))
    as_grey = [np.array(Image.fromarray(file).convert("L")).tobytes() for file in files]
    assert sorted(_pixels(grey.search) + _pixels(grey.report)) == sorted(as_grey)


@pytest.mark.parametrize(
    ("preparation", "shape", "words"),
    [
        (
            Preparation(resize=(10,), crop=(8, 12)),
            (8, 12),
            "resized so that the shorter side is 10 and cropped to 8x12",
        ),
        (Preparation(resize=(8, 12), crop=()), (8, 12), "resized to 8x12;"),
        (Preparation(resize=()), (8, 12), "pictures cropped to 8x12 at the centre"),
        (Preparation(transform="own_pictures:ones"), (8, 12), "what 'own_pictures:ones' makes of a picture"),
    ],
)
def test_what_is_done_to_pictures_can_be_said(
    folder: Path, preparation: Preparation, shape: tuple[int, int], words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    module = ModuleType("own_pictures")
    module.ones = lambda picture: torch.ones(3, picture.height - 12, picture.width - 18)  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "own_pictures", module)
    options: dict[str, Any] = {"input_size": (3, *shape), "mean": (0,) * 3, "std": (1,) * 3}
    data = load_data(f"imagefolder:{folder}", preparation=preparation, **options)
    assert words in data.prepared
    if preparation.transform:
        assert torch.equal(data.search[0][0], torch.ones(3, *shape))
        return
    first = Image.open(folder / "val" / "cat" / f"{data.search.indices[0]}.png")  # type: ignore[attr-defined]
    if preparation.resize:
        sides = preparation.resize if len(preparation.resize) == 2 else (10, 15)
        first = first.resize((sides[1], sides[0]), Image.Resampling.BILINEAR)
    top, left = round((first.height - shape[0]) / 2), round((first.width - shape[1]) / 2)
    own = np.array(first)[top : top + shape[0], left : left + shape[1]].transpose(2, 0, 1)
    np.testing.assert_allclose(data.search[0][0].numpy(), own / 255, atol=1e-6)


def test_what_cannot_be_done_to_pictures(folder: Path) -> None:
    with pytest.raises(UsageError, match="A picture of 20x30 cannot be cropped to 24x24; give a larger --resize"):
        load_data(f"imagefolder:{folder}", input_size=24, preparation=Preparation(resize=()))
    with pytest.raises(UsageError, match="are 3x20x30, but the network takes 3x24x24"):
        load_data(f"imagefolder:{folder}", input_size=(3, 24, 24), preparation=Preparation(resize=(), crop=()))
    with pytest.raises(UsageError, match="about image folders, but the data are 'digits'"):
        load_data("digits", preparation=Preparation(resize=(8,)))
    with pytest.raises(UsageError, match="'a:b' does all that is done to an image"):
        Preparation(resize=(8,), transform="a:b")


def test_image_folder_with_the_preprocessing_of_the_weights(folder: Path) -> None:
    data = load_data(f"imagefolder:{folder}", input_size=(3, 4, 4), transform=lambda image: torch.ones(3, 4, 4))
    assert torch.equal(data.report[0][0], torch.ones(3, 4, 4))
    with pytest.raises(UsageError, match=r"are 3x5x5, but the network takes 3x4x4"):
        load_data(f"imagefolder:{folder}", input_size=(3, 4, 4), transform=lambda image: torch.ones(3, 5, 5))


def test_image_folder_that_is_wrong(folder: Path) -> None:
    with pytest.raises(UsageError, match="input size is unknown"):
        load_data(f"imagefolder:{folder}")
    (folder / "val" / "dog").rename(folder / "val" / "wolf")
    with pytest.raises(UsageError, match="other classes in train than in val"):
        load_data(f"imagefolder:{folder}", input_size=16)
    with pytest.raises(UsageError, match="There is no folder"):
        load_data(f"imagefolder:{folder / 'train'}", input_size=16)
    for path in (folder / "train" / "cat").iterdir():
        path.unlink()
    with pytest.raises(UsageError, match="lacks images"):
        load_data(f"imagefolder:{folder}", input_size=16)


def test_image_that_cannot_be_decoded(folder: Path) -> None:
    (folder / "val" / "cat" / "0.png").write_bytes(b"no image")
    with pytest.raises(AutopruneError, match=r"0\.png' cannot be decoded"):
        load_data(f"imagefolder:{folder}", input_size=16)


_PARTS = """
import torch
from torch.utils.data import DataLoader, TensorDataset

def part(n, start=0):
    return TensorDataset(torch.arange(start, start + n).float().view(-1, 1, 1, 1).expand(n, 1, 4, 4), torch.arange(n) % 3)

def two():
    return part(6), part(9)

def four():
    return {"calibration": part(6), "validation": part(4), "test": part(5, 100), "train": part(7)}

def loaders(input_size, mean=(9.0,)):
    assert input_size == 4 and mean == ()
    return {"calibration": DataLoader(part(6), batch_size=4), "validation": DataLoader(part(9), batch_size=2)}

def empty():
    return {"calibration": part(6), "validation": part(0), "test": part(4)}

def three():
    return part(6), part(4), part(5)

def twice():
    return {"calibration": part(6), "search": part(4), "val": part(5)}

def trained():
    return {"train": part(7), "val": part(4), "test": part(5, 100)}

def flat():
    return part(6), TensorDataset(torch.zeros(4, 16), torch.zeros(4))

def unlabelled():
    return part(6), [torch.zeros(1, 4, 4)] * 4

def wrong():
    return {"calibration": part(6)}

def fails():
    raise OSError("disk gone")
"""


@pytest.fixture
def source(tmp_path: Path) -> str:
    (tmp_path / "parts.py").write_text(_PARTS)
    return str(tmp_path / "parts.py")


def _first_pixels(part: Any) -> list[float]:
    return [float(part[n][0][0, 0, 0]) for n in range(len(part))]


@pytest.mark.parametrize("name", ["two", "loaders"])
def test_factory_without_test_images_halves_validation(source: str, name: str) -> None:
    data = load_data(f"{source}:{name}", input_size=4)
    search, report = _first_pixels(data.search), _first_pixels(data.report)
    assert sorted(search + report) == list(range(9))
    assert (len(search), len(report)) == (4, 5)
    assert _first_pixels(data.calibration) == list(range(6))
    assert (data.train, data.num_classes, data.input_shape) == (None, 3, (1, 4, 4))
    assert data.fingerprint == load_data(f"{source}:{name}", input_size=4).fingerprint


def test_factory_that_names_its_parts_as_torchvision_does(source: str) -> None:
    data = load_data(f"{source}:trained")
    assert [len(p) for p in (data.calibration, data.search, data.report, data.train)] == [7, 4, 5, 7]  # type: ignore[arg-type]
    assert _first_pixels(data.calibration) == list(range(7))
    assert _first_pixels(data.search) == [0, 1, 2, 3]
    assert _first_pixels(data.report) == [100, 101, 102, 103, 104]
    assert "calibration: train; search: val; report: test" in data.description


def test_factory_with_all_parts(source: str) -> None:
    data = load_data(f"{source}:four")
    assert _first_pixels(data.search) == [0, 1, 2, 3]
    assert _first_pixels(data.report) == [100, 101, 102, 103, 104]
    assert len(data.train) == 7  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("name", "error", "message"),
    [
        ("empty", UsageError, "search part of the data holds no images"),
        ("three", UsageError, r'returned a tuple of 3, .*return \{"calibration": ..., "search": ..., "report": ...\}'),
        ("twice", UsageError, "returned both 'search' and 'val'"),
        ("flat", UsageError, r"has shape \(16,\)"),
        (
            "unlabelled",
            UsageError,
            r"Item 0 of the search part is a tensor of float32 without a label; it must be a pair",
        ),
        ("wrong", UsageError, "a mapping with the keys calibration, but must return"),
        ("fails", AutopruneError, "failed: OSError: disk gone"),
    ],
)
def test_factories_that_do_not_work(source: str, name: str, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        load_data(f"{source}:{name}")


def test_factory_of_another_size(source: str) -> None:
    with pytest.raises(UsageError, match="are 4x4, but the network takes 8x8"):
        load_data(f"{source}:two", input_size=8)


def test_unknown_data() -> None:
    with pytest.raises(UsageError, match=r"Unknown data 'digit'\. Did you mean 'digits'\?"):
        load_data("digit")
    with pytest.raises(UsageError, match="lacks its folder; write cifar10:FOLDER"):
        load_data("cifar10")


@pytest.mark.parametrize(
    ("mean", "std", "message"),
    [((0.1, 0.2), (), "mean has 2 values, but the images have 1 channels"), ((), (0.0,), "must be finite and above 0")],
)
def test_statistics_that_do_not_fit(mean: tuple[float, ...], std: tuple[float, ...], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        load_data("digits", mean=mean, std=std)


def test_items_of_tensor_parts_are_images_with_labels() -> None:
    data = load_data("digits")
    assert isinstance(data.search, TensorDataset)
    images, labels = next(iter(DataLoader(data.search, batch_size=8)))
    assert (images.shape, images.dtype, labels.dtype) == ((8, 1, 8, 8), torch.float32, torch.int64)
