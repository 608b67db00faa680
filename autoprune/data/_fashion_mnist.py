"""Fashion-MNIST (Xiao et al. 2017): the four idx files, plain or gzipped, where torchvision or a distribution puts them."""

from __future__ import annotations

import gzip
import math
from pathlib import Path
from typing import IO, cast

import numpy as np
import numpy.typing as npt

from autoprune.data._arrays import Arrays
from autoprune.errors import AutopruneError, UsageError
from autoprune.support.packages import lazy
from autoprune.support.reading import reading

datasets = lazy("torchvision.datasets", "The download of Fashion-MNIST needs")

MEAN, STD = (0.2860,), (0.3530,)
_MOST_BYTES = 1 << 28
_FILES = ("train-images-idx3-ubyte", "train-labels-idx1-ubyte", "t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte")


def read_fashion_mnist(root: Path, *, download: bool) -> Arrays:
    """Read Fashion-MNIST from ``root``, ``root/raw`` or ``root/FashionMNIST/raw``; images have shape (1, 28, 28).

    The search part is the first half of the test images, the report part the second.

    Raises:
        UsageError: if a file is missing or damaged.
        AutopruneError: if the download fails.
    """
    folders = (root, root / "raw", root / "FashionMNIST" / "raw")
    folder = next((folder for folder in folders if _find(folder, _FILES[0]) is not None), None)
    if folder is None and download:
        try:
            datasets.FashionMNIST(str(root), download=True)
        except (OSError, RuntimeError) as error:
            raise AutopruneError(
                f"Fashion-MNIST cannot be downloaded to '{root}' ({error}); check the network."
            ) from error
        folder = folders[-1]
    if folder is None:
        raise UsageError(f"There is no Fashion-MNIST in '{root}' ({_FILES[0]}); give the right folder, or --download.")
    train_images, train_labels, test_images, test_labels = (_read(folder, name) for name in _FILES)
    return Arrays(
        train_images[:, None],
        train_labels.astype(np.int64),
        test_images[:, None],
        test_labels.astype(np.int64),
        len(test_labels) // 2,
        10,
        MEAN,
        STD,
        source=f"Fashion-MNIST in '{root}'",
    )


def _find(folder: Path, name: str) -> Path | None:
    return next((path for path in (folder / name, folder / f"{name}.gz") if path.is_file()), None)


def _opened(path: Path) -> IO[bytes]:
    return cast(IO[bytes], gzip.open(path, "rb")) if path.suffix == ".gz" else path.open("rb")


def _read(folder: Path, name: str) -> npt.NDArray[np.uint8]:
    """Read one idx file: two zero bytes, type 8 (uint8), number of dimensions, big-endian sizes, values."""
    path = _find(folder, name)
    if path is None:
        raise UsageError(f"The Fashion-MNIST file '{folder / name}' (or .gz) is not there; all four are needed.")
    with reading(f"The Fashion-MNIST file '{path}'", "get it anew"), _opened(path) as stream:
        raw = stream.read(_MOST_BYTES)
    dimensions = 3 if "idx3" in name else 1
    header = 4 + 4 * dimensions
    shape = tuple(np.frombuffer(raw[4:header], dtype=">u4").tolist()) if len(raw) >= header else ()
    if (
        raw[:4] != bytes((0, 0, 8, dimensions))
        or len(raw) - header != math.prod(shape)
        or shape[1:] not in ((28, 28), ())
    ):
        raise UsageError(f"The Fashion-MNIST file '{path}' is damaged (header and size disagree); get it anew.")
    return np.frombuffer(raw, dtype=np.uint8, offset=header).reshape(shape).copy()
