"""CIFAR-10: npz files, or the folder ``cifar-10-batches-py`` that torchvision downloads, read without unpickling."""

from __future__ import annotations

import math
import pickletools
import zipfile
from pathlib import Path

import numpy as np
import numpy.typing as npt

from autoprune.data._arrays import Arrays
from autoprune.errors import AutopruneError, UsageError
from autoprune.support.packages import lazy
from autoprune.support.reading import reading

datasets = lazy("torchvision.datasets", "CIFAR-10 as torchvision downloads it needs")

MEAN, STD = (0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616)
_NPZ_SEARCH = 2000
_PIXELS = 3 * 32 * 32
_MOST_BYTES = 1 << 32


def read_cifar10(root: Path, *, download: bool) -> Arrays:
    """Read CIFAR-10 from a folder.

    ``train.npz`` and ``val.npz`` hold ``x`` (N, 32, 32, 3) uint8 and ``y`` (N,); the search part is ``val.npz[:2000]``, the
    report part the rest. Else ``cifar-10-batches-py`` is read; the search part is the first half of the test batch in its
    own (random) order, the report part the second.

    Raises:
        UsageError: if neither is there, or if a file is damaged.
        AutopruneError: if the download fails.
    """
    if (root / "val.npz").is_file() or (root / "train.npz").is_file():
        train, val = _read_npz(root / "train.npz"), _read_npz(root / "val.npz")
        return Arrays(*train, *val, _NPZ_SEARCH, 10, MEAN, STD, source=f"CIFAR-10 (npz) in '{root}'")
    known = datasets.CIFAR10
    folder = root if root.name == known.base_folder else root / known.base_folder
    if not folder.is_dir() and download:
        try:
            datasets.utils.download_and_extract_archive(
                known.url, str(root), filename=known.filename, md5=known.tgz_md5
            )
        except (OSError, RuntimeError) as error:
            raise AutopruneError(f"CIFAR-10 cannot be downloaded to '{root}' ({error}); check the network.") from error
    if not folder.is_dir():
        raise UsageError(
            f"There is no CIFAR-10 in '{root}' (neither train.npz and val.npz nor {known.base_folder}); "
            "give the right folder, or --download."
        )
    batches = [_read_batch(folder / name) for name, _ in known.train_list]
    train_images, train_labels = (np.concatenate(parts) for parts in zip(*batches, strict=True))
    test_images, test_labels = _read_batch(folder / known.test_list[0][0])
    return Arrays(
        train_images,
        train_labels,
        test_images,
        test_labels,
        len(test_labels) // 2,
        10,
        MEAN,
        STD,
        source=f"CIFAR-10 ({known.base_folder}) in '{root}'",
    )


def _read_npz(path: Path) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.int64]]:
    """Return images (N, 3, 32, 32) and labels (N,)."""
    if not path.is_file():
        raise UsageError(f"The CIFAR-10 file '{path}' is not there; both train.npz and val.npz are needed.")
    with reading(f"The CIFAR-10 file '{path}'", "get it anew", fault="is damaged or lacks arrays x and y"):
        _check_sizes(path)
        with path.open("rb") as stream, np.load(stream, allow_pickle=False) as file:
            images, labels = file["x"], file["y"]
    if images.dtype != np.uint8 or images.shape[1:] != (32, 32, 3) or labels.ndim != 1:
        raise UsageError(
            f"The CIFAR-10 file '{path}' has x {images.dtype} {images.shape} and y {labels.shape}; "
            "needed are x uint8 (N, 32, 32, 3) and y (N,)."
        )
    return np.ascontiguousarray(images.transpose(0, 3, 1, 2)), labels.astype(np.int64)


def _check_sizes(path: Path) -> None:
    """See that the arrays are as large as they say, before memory is asked for (ValueError if they are not)."""
    with zipfile.ZipFile(path) as archive:
        for name in ("x", "y"):
            entry = archive.getinfo(f"{name}.npy")
            with archive.open(entry) as stream:
                version = np.lib.format.read_magic(stream)
                read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
                shape, _, dtype = read(stream)
                stored = entry.file_size - stream.tell()
            if math.prod(shape) * dtype.itemsize != stored or stored > _MOST_BYTES:
                raise ValueError(f"its {name} says {dtype} {str(shape)[:60]}, but has {stored:,} bytes")


def _read_batch(path: Path) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.int64]]:
    """Return images (N, 3, 32, 32) and labels (N,) of one of the published batch files.

    The files are pickles. They are only split into opcodes here, which runs nothing: the pixels are the one long string,
    the labels the numbers that follow the string "labels" up to the next string.
    """
    if not path.is_file():
        raise UsageError(f"The CIFAR-10 file '{path}' is not there; get the folder anew, or --download into a new one.")
    pixels = b""
    labels: list[int] = []
    in_labels = False
    with reading(f"The CIFAR-10 file '{path}'", "get it anew"):
        with path.open("rb") as file:
            for opcode, argument, _ in pickletools.genops(file):
                if isinstance(argument, str | bytes):
                    raw = argument.encode("latin-1") if isinstance(argument, str) else argument
                    in_labels = raw == b"labels"
                    pixels = raw if len(raw) > len(pixels) else pixels
                elif in_labels and isinstance(argument, int) and opcode.name.startswith("BININT"):
                    labels.append(argument)
        values = np.array(labels, dtype=np.int64)
    if not labels or len(pixels) != len(labels) * _PIXELS:
        raise UsageError(
            f"The CIFAR-10 file '{path}' has {len(pixels)} bytes of pixels for {len(labels)} labels, "
            f"but must have {_PIXELS} for each; get it anew."
        )
    images = np.frombuffer(pixels, dtype=np.uint8).reshape(-1, 3, 32, 32)
    return images.copy(), values
