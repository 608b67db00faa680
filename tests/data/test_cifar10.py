import io
import pickle
import tarfile
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from torchvision.datasets import CIFAR10

from autoprune.data import ImageArrays, load_data
from autoprune.errors import AutopruneError, UsageError

Images = npt.NDArray[np.uint8]


def _images(count: int, seed: int) -> tuple[Images, npt.NDArray[np.int64]]:
    rng = np.random.default_rng(seed)
    return rng.integers(0, 256, (count, 32, 32, 3), dtype=np.uint8), rng.integers(0, 10, count)


@pytest.fixture
def npz(tmp_path: Path) -> Path:
    for name, count, seed in (("train", 40, 0), ("val", 2010, 1)):
        x, y = _images(count, seed)
        np.savez(tmp_path / f"{name}.npz", x=x, y=y)
    return tmp_path


def _python2_batch(pixels: Images, labels: list[int]) -> bytes:
    """Pickle a batch as CIFAR-10's authors did: protocol 2 from Python 2, so that text and bytes are BINSTRINGs."""

    def text(raw: bytes) -> bytes:
        return b"U" + bytes([len(raw)]) + raw if len(raw) < 256 else b"T" + len(raw).to_bytes(4, "little") + raw

    def number(value: int) -> bytes:
        return b"K" + bytes([value]) if value < 256 else b"J" + value.to_bytes(4, "little")

    raw = pixels.tobytes()
    array = b"cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\n" + number(0) + b"\x85" + text(b"b") + b"\x87R"
    dtype = b"cnumpy\ndtype\n" + text(b"u1") + number(0) + number(1) + b"\x87R"
    dtype += b"(" + number(3) + text(b"|") + b"NNN" + b"J\xff\xff\xff\xff" * 2 + number(0) + b"tb"
    shape = number(pixels.shape[0]) + number(pixels.shape[1]) + b"\x86"
    array += b"(" + number(1) + shape + dtype + b"\x89" + text(raw) + b"tb"
    listed = b"](" + b"".join(number(label) for label in labels) + b"e"
    entries = text(b"data") + array + text(b"labels") + listed + text(b"batch_label") + text(b"batch 1 of 5")
    entries += text(b"filenames") + b"](" + b"".join(text(b"cat_%d.png" % n) for n in range(len(labels))) + b"e"
    return b"\x80\x02}(" + entries + b"u."


@pytest.fixture
def batches(tmp_path: Path) -> Path:
    folder = tmp_path / "cifar-10-batches-py"
    folder.mkdir()
    for seed, (name, _) in enumerate([*CIFAR10.train_list, *CIFAR10.test_list]):
        x, y = _images(6, seed)
        (folder / name).write_bytes(_python2_batch(x.transpose(0, 3, 1, 2).reshape(6, -1), y.tolist()))
    (folder / "batches.meta").write_bytes(pickle.dumps({"label_names": list("abcdefghij")}, protocol=2))
    return tmp_path


def test_npz_parts(npz: Path) -> None:
    data = load_data(f"cifar10:{npz}", mean=(0.1, 0.2, 0.3), std=(0.5, 0.25, 0.2), input_size=(3, 32, 32))
    x, y = _images(2010, 1)
    images, labels = data.search.tensors  # type: ignore[attr-defined]
    expected = (x / 255 - np.array([0.1, 0.2, 0.3])) / np.array([0.5, 0.25, 0.2])
    np.testing.assert_allclose(images.numpy(), expected[:2000].transpose(0, 3, 1, 2), atol=1e-5)
    assert labels.tolist() == y[:2000].tolist()
    images, labels = data.report.tensors  # type: ignore[attr-defined]
    np.testing.assert_allclose(images.numpy(), expected[2000:].transpose(0, 3, 1, 2), atol=1e-5)
    assert labels.tolist() == y[2000:].tolist()
    assert (data.num_classes, data.input_shape, data.mean) == (10, (3, 32, 32), (0.1, 0.2, 0.3))


def test_npz_training_images_stay_bytes_and_calibration_is_a_fixed_subset(
    npz: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("autoprune.data._load.CALIBRATION", 10)
    first, second = load_data(f"cifar10:{npz}"), load_data(f"cifar10:{npz}")
    train = first.train
    assert isinstance(train, ImageArrays)
    assert train.images.dtype == np.uint8
    images, labels = first.calibration.tensors  # type: ignore[attr-defined]
    assert len(images) == 10
    assert torch.equal(images, second.calibration.tensors[0])  # type: ignore[attr-defined]
    rows = [next(n for n in range(40) if torch.equal(train[n][0], image)) for image in images]
    assert len(set(rows)) == 10
    assert [train[n][1] for n in rows] == labels.tolist()
    assert first.fingerprint == second.fingerprint


def test_python_batches_equal_what_torchvision_reads(batches: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = load_data(f"cifar10:{batches}", mean=(0, 0, 0), std=(1, 1, 1))
    monkeypatch.setattr(CIFAR10, "_check_integrity", lambda self: True)
    monkeypatch.setattr("torchvision.datasets.cifar.check_integrity", lambda *_: True)
    train, test = (CIFAR10(str(batches), train=part) for part in (True, False))
    assert isinstance(data.train, ImageArrays)
    assert np.array_equal(data.train.images, train.data.transpose(0, 3, 1, 2))
    assert data.train.labels.tolist() == train.targets
    held = torch.cat([part.tensors[0] for part in (data.search, data.report)])  # type: ignore[attr-defined]
    assert np.array_equal((held * 255).round().byte().numpy(), test.data.transpose(0, 3, 1, 2))
    assert (len(data.search), len(data.report)) == (3, 3)  # type: ignore[arg-type]


def test_python_batches_run_nothing(batches: Path) -> None:
    """A batch file that would create a file when unpickled is read, or refused, without doing so."""

    class Touch:
        def __reduce__(self) -> tuple[Any, ...]:
            return (Path.touch, (batches / "ran",))

    path = batches / "cifar-10-batches-py" / "data_batch_1"
    path.write_bytes(pickle.dumps({"data": Touch(), "labels": [1, 2]}, protocol=2))
    with pytest.raises(UsageError, match="bytes of pixels for 2 labels"):
        load_data(f"cifar10:{batches}")
    assert not (batches / "ran").exists()


@pytest.mark.parametrize("content", [b"", b"\x80\x02}(", b"hello world", b"\x80\x02T\xff\xff\xff\x7fabc"])
def test_damaged_batches(batches: Path, content: bytes) -> None:
    (batches / "cifar-10-batches-py" / "test_batch").write_bytes(content)
    with pytest.raises(UsageError, match="test_batch"):
        load_data(f"cifar10:{batches}")


def test_download_fetches_torchvisions_archive(batches: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: dict[str, Any] = {}

    def fetch(url: str, root: str, *, filename: str, md5: str) -> None:
        asked.update(url=url, filename=filename, md5=md5)
        packed = io.BytesIO()
        with tarfile.open(fileobj=packed, mode="w:gz") as archive:
            archive.add(batches / "cifar-10-batches-py", "cifar-10-batches-py")
        packed.seek(0)
        with tarfile.open(fileobj=packed) as archive:
            for member in archive.getmembers():
                if (file := archive.extractfile(member)) is not None:
                    target = Path(root) / member.name
                    target.parent.mkdir(parents=True, exist_ok=True)
                    target.write_bytes(file.read())

    monkeypatch.setattr("torchvision.datasets.utils.download_and_extract_archive", fetch)
    data = load_data(f"cifar10:{tmp_path / 'new'}", download=True)
    assert len(data.search) == 3  # type: ignore[arg-type]
    assert asked == {"url": CIFAR10.url, "filename": CIFAR10.filename, "md5": CIFAR10.tgz_md5}


def test_download_that_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> None:
        raise OSError("no route")

    monkeypatch.setattr("torchvision.datasets.utils.download_and_extract_archive", fail)
    with pytest.raises(AutopruneError, match=r"cannot be downloaded .*no route"):
        load_data(f"cifar10:{tmp_path / 'new'}", download=True)


def _replace(root: Path, name: str, **arrays: Any) -> None:
    np.savez(root / name, **arrays)


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"x": np.zeros((3, 28, 28, 3), np.uint8), "y": np.zeros(3, int)}, "needed are x uint8"),
        ({"x": np.zeros((3, 32, 32, 3)), "y": np.zeros(3, int)}, "needed are x uint8"),
        ({"x": np.zeros((3, 32, 32, 3), np.uint8)}, "lacks arrays x and y"),
        ({"x": np.zeros((3, 32, 32, 3), np.uint8), "y": np.zeros(2, int)}, "3 images but 2 labels"),
        ({"x": np.zeros((3, 32, 32, 3), np.uint8), "y": np.array([0, 1, 10])}, "labels from 0 to 10"),
        ({"x": np.zeros((0, 32, 32, 3), np.uint8), "y": np.zeros(0, int)}, "has 0 training"),
        ({"x": np.array([{}], dtype=object), "y": np.zeros(1, int)}, "damaged"),
    ],
)
def test_npz_that_is_wrong(npz: Path, arrays: dict[str, Any], message: str) -> None:
    _replace(npz, "train.npz", **arrays)
    with pytest.raises(UsageError, match=message):
        load_data(f"cifar10:{npz}")


def test_npz_damaged_missing_or_short(npz: Path) -> None:
    (npz / "train.npz").write_bytes(b"PK\x03\x04 not a zip")
    with pytest.raises(UsageError, match="damaged"):
        load_data(f"cifar10:{npz}")
    with (npz / "train.npz").open("wb") as file:
        np.save(file, np.zeros(3))
    with pytest.raises(UsageError, match="damaged"):
        load_data(f"cifar10:{npz}")
    (npz / "train.npz").unlink()
    with pytest.raises(UsageError, match=r"both train.npz and val.npz are needed"):
        load_data(f"cifar10:{npz}")
    x, y = _images(2000, 0)
    _replace(npz, "train.npz", x=x[:5], y=y[:5])
    _replace(npz, "val.npz", x=x, y=y)
    with pytest.raises(UsageError, match="2000 held-out images; needed are at least 1 and 2001"):
        load_data(f"cifar10:{npz}")


def test_wrong_size_names_both(npz: Path) -> None:
    with pytest.raises(UsageError, match=r"are 3x32x32, but the network takes 3x224x224"):
        load_data(f"cifar10:{npz}", input_size=(3, 224, 224))
    with pytest.raises(UsageError, match=r"are 32x32, but the network takes 28x28"):
        load_data(f"cifar10:{npz}", input_size=28)
    with pytest.raises(UsageError, match="10 classes, but the network has 5 outputs"):
        load_data(f"cifar10:{npz}", num_classes=5)


def test_preprocessing_of_the_weights_makes_images_lazily(npz: Path) -> None:
    def enlarge(image: torch.Tensor) -> torch.Tensor:
        return image.float().repeat_interleave(2, 1).repeat_interleave(2, 2)

    data = load_data(f"cifar10:{npz}", transform=enlarge, input_size=(3, 64, 64))
    x, y = _images(2010, 1)
    image, label = data.report[3]
    assert data.input_shape == (3, 64, 64)
    assert label == y[2003]
    assert np.array_equal(image[:, ::2, ::2].numpy(), x[2003].transpose(2, 0, 1))


def test_nothing_there(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"There is no CIFAR-10 in .*--download"):
        load_data(f"cifar10:{tmp_path}")
