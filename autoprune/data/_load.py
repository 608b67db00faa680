"""``load_data``: from what the user wrote to three disjoint, checked parts."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset, TensorDataset

from autoprune.data import _folder, cluttered_digits, digits
from autoprune.data._adapt import as_dataset
from autoprune.data._arrays import Arrays
from autoprune.data._check import Expected
from autoprune.data._cifar10 import read_cifar10
from autoprune.data._factory import EMBEDDED, KINDS, call_data_factory, data_sources, raw_parts
from autoprune.data._fashion_mnist import read_fashion_mnist
from autoprune.data._preparation import Preparation
from autoprune.data._types import CALIBRATION, Data, ImageArrays, draw
from autoprune.errors import UsageError
from autoprune.registry import is_factory, nearest
from autoprune.support.fingerprint import fingerprint

_READERS: Mapping[str, Callable[..., Arrays]] = {"cifar10": read_cifar10, "fashion-mnist": read_fashion_mnist}
_SAMPLE = 64  # images of each part that go into the fingerprint
_SMALL = 64 << 20  # bytes up to which the search part goes in whole


def load_data(
    spec: str,
    *,
    mean: Sequence[float] = (),
    std: Sequence[float] = (),
    input_size: int | Sequence[int] | None = None,
    input_shape: Sequence[int] = (),
    num_classes: int | None = None,
    transform: Callable[[Any], Tensor] | None = None,
    download: bool = False,
    preparation: Preparation | None = None,
    labels: bool | None = True,
) -> Data:
    """Load images and cut them in three disjoint parts: calibration (from the training images), search and report.

    Args:
        spec: ``cluttered-digits``, ``digits``, ``cifar10:ROOT``, ``fashion-mnist:ROOT``, ``imagefolder:ROOT``, a name in
            `data_sources` (``NAME`` or ``NAME:ROOT``), ``package.module:factory`` or ``path/to/file.py:factory``. A factory gets
            those of ``mean``, ``std``, ``input_size`` and ``download`` (a named one also of ``root``) that it has parameters
            for, and normalises its images itself.
        mean: Subtracted per channel from images in [0, 1]; empty for the data set's own.
        std: Divided by per channel; empty for the data set's own.
        input_size: Size of the network's input: its side, (H, W) or (C, H, W). Pictures in folders are resized to it unless they
            have it (see ``preparation``), Fashion-MNIST is padded to 32x32 with a network that takes that (and repeated to three
            channels); other images must have it.
        input_shape: Instead of ``input_size`` all of the shape of one input, (C, L) and (C, D, H, W) among them.
        num_classes: Outputs of the network, to check the data against.
        transform: The weights' own preprocessing, instead of the above, for image folders and CIFAR-10.
        download: Whether CIFAR-10 and Fashion-MNIST may be downloaded.
        preparation: What is done to the pictures of an image folder, where it is not the usual or the weights' own.
        labels: Whether there must be labels; False reads none, None those that there are.

    Raises:
        UsageError: for unknown, missing, damaged or empty data, or images of a size that the network does not take.
        AutopruneError: if a download or a factory fails.
    """
    kind, _, root = spec.partition(":")
    input_size = input_size if not input_shape else tuple(input_shape)
    size = () if input_size is None else (input_size, input_size) if isinstance(input_size, int) else tuple(input_size)
    given = (tuple(float(value) for value in mean), tuple(float(value) for value in std))
    preparation = preparation or Preparation()
    if preparation.asked and kind != "imagefolder":
        raise UsageError(
            f"--resize, --crop and --transform are about image folders, but the data are '{spec}'; leave them out."
        )
    if kind in KINDS and spec not in EMBEDDED and not root:
        raise UsageError(f"The data '{spec}' lacks its folder; write {kind}:FOLDER.")
    if spec == "digits":
        data = _load_digits(spec, *given)
    elif spec == "cluttered-digits":
        data = _load_cluttered_digits(spec, *given)
    elif kind in _READERS:
        arrays = _READERS[kind](Path(root).expanduser(), download=download)
        data = _from_arrays(spec, _fit(arrays, size), *given, transform if kind == "cifar10" else None)
    elif kind == "imagefolder":
        data = _load_folder(spec, Path(root).expanduser(), size, *given, transform, preparation)
    elif (own := kind in data_sources.names()) or is_factory(spec):
        options: dict[str, Any] = {"mean": given[0], "std": given[1], "input_size": input_size, "download": download}
        shape = size if input_shape or len(size) > 2 else None
        factory = data_sources.get(kind) if own else None
        if own:  # behind the colon of a factory is its name
            options["root"] = root
        data = _load_factory(spec, options, Expected(shape, torch.float32, num_classes), factory, labels)
    else:
        named = [*KINDS, *data_sources.names()]
        known = ", ".join((*EMBEDDED, *(f"{name}:ROOT" for name in KINDS[len(EMBEDDED) :]), *named[len(KINDS) :]))
        raise UsageError(
            f"Unknown data '{spec}'.{nearest(kind, named)} Known: {known}, package.module:factory, path/to/file.py:factory."
        )
    data = _check(data, size, num_classes) if labels is not False else _unlabelled(data, size)
    return replace(data, fingerprint=_fingerprint(data))


def is_own(spec: str) -> bool:
    """Return whether data come from a function of the user's, or of a plug-in, which may yield items of any kind."""
    kind = spec.partition(":")[0]
    return kind in data_sources.names() or (kind not in KINDS and is_factory(spec))


def load_raw(
    spec: str, *, input_shape: Sequence[int] = (), download: bool = False, **statistics: Any
) -> dict[str, Any]:
    """Return the parts of data as they are, for a function of the user's that runs batches of them.

    Args:
        spec: As for `load_data`.
        input_shape: Shape of one input.
        download: Whether the data may be downloaded.
        **statistics: ``mean`` and ``std``, as for `load_data`.

    Returns:
        Parts named calibration, search and, where there are any, report and train.

    Raises:
        UsageError: likewise.
        AutopruneError: likewise.
    """
    kind, _, root = spec.partition(":")
    own = kind in data_sources.names()
    if not is_own(spec):
        data = load_data(spec, input_shape=input_shape, download=download, **statistics)
        parts = {"calibration": data.calibration, "search": data.search, "report": data.report}
        return parts if data.train is None else {**parts, "train": data.train}
    options: dict[str, Any] = {**statistics, "input_size": tuple(input_shape) or None, "download": download}
    factory = data_sources.get(kind) if own else None
    return raw_parts(spec, options | ({"root": root} if own else {}), factory=factory)


def _load_digits(spec: str, mean: tuple[float, ...], std: tuple[float, ...]) -> Data:
    images, labels = digits.read_digits()
    mean, std = _statistics(mean, std, digits.MEAN, digits.STD, channels=1)
    x, y = torch.from_numpy((images - mean[0]) / std[0]).float(), torch.from_numpy(labels)
    first, second = digits.TRAIN, digits.TRAIN + digits.SEARCH
    train, search, report = (
        TensorDataset(x[part], y[part]) for part in (slice(0, first), slice(first, second), slice(second, None))
    )
    text = f"scikit-learn's digits: calibration {len(train)}, search {len(search)}, report {len(report)} images"
    return Data(spec, train, search, report, train, 10, (1, 8, 8), mean, std, "", text)


def _load_cluttered_digits(spec: str, mean: tuple[float, ...], std: tuple[float, ...]) -> Data:
    mean, std = _statistics(mean, std, cluttered_digits.MEAN, cluttered_digits.STD, channels=1)
    arrays = [ImageArrays(*cluttered_digits.read_scenes(part), mean=mean, std=std) for part in cluttered_digits.SCENES]
    train, search, report = (images.take(slice(None)) for images in arrays)
    calibration = arrays[0].take(slice(0, cluttered_digits.CALIBRATION))
    text = (
        f"scenes of scikit-learn's digits: calibration {_count(calibration)} of {_count(train)} training scenes, "
        f"search {_count(search)}, report {_count(report)}"
    )
    return Data(spec, calibration, search, report, train, 10, cluttered_digits.SHAPE, mean, std, "", text)


def _from_arrays(
    spec: str,
    arrays: Arrays,
    mean: tuple[float, ...],
    std: tuple[float, ...],
    transform: Callable[[Any], Tensor] | None,
) -> Data:
    shape = arrays.held_images.shape[1:]
    mean, std = _statistics(mean, std, arrays.mean, arrays.std, channels=shape[0])
    train = ImageArrays(arrays.train_images, arrays.train_labels, mean=mean, std=std, transform=transform)
    held = ImageArrays(arrays.held_images, arrays.held_labels, mean=mean, std=std, transform=transform)
    chosen = draw(CALIBRATION, len(train))
    search, rest = held.take(slice(0, arrays.search)), len(held) - arrays.search
    if transform is not None:
        shape = tuple(held[0][0].shape)
    text = (
        f"{arrays.source}: calibration {len(chosen)} of {len(train)} training images, "
        f"search the first {arrays.search} held-out images, report the other {rest}"
    )
    report = held.take(slice(arrays.search, None))
    return Data(
        spec,
        train.take(chosen),
        search,
        report,
        train,
        arrays.num_classes,
        (shape[0], shape[1], shape[2]),
        mean,
        std,
        "",
        text,
    )


def _fit(arrays: Arrays, size: tuple[int, ...]) -> Arrays:
    """Pad 1x28x28 to 32x32 and repeat the channel where the network takes that, as is usual for Fashion-MNIST."""
    if arrays.held_images.shape[1:] != (1, 28, 28) or size[-2:] != (32, 32):
        return arrays
    channels = size[0] if len(size) == 3 else 1
    border = ((0, 0), (0, 0), (2, 2), (2, 2))
    train, held = (
        np.pad(images, border).repeat(channels, axis=1) for images in (arrays.train_images, arrays.held_images)
    )
    note = f"{arrays.source}, padded to {channels}x32x32"
    return replace(
        arrays,
        train_images=train,
        held_images=held,
        mean=arrays.mean * channels,
        std=arrays.std * channels,
        source=note,
    )


def _load_folder(
    spec: str,
    root: Path,
    size: tuple[int, ...],
    mean: tuple[float, ...],
    std: tuple[float, ...],
    transform: Callable[[Any], Tensor] | None,
    preparation: Preparation,
) -> Data:
    if not size:
        raise UsageError(
            f"The images of '{spec}' have to be resized, but the input size is unknown; give it (--input-size 224)."
        )
    shape = (size[0] if len(size) == 3 else len(mean) or 3, size[-2], size[-1])
    mean, std = _statistics(mean, std, _folder.MEAN[: shape[0]], _folder.STD[: shape[0]], channels=shape[0])
    if transform is None or preparation.asked:
        done, words = preparation.steps(shape, mean, std)
    else:
        done, words = transform, f"what the weights' own preprocessing makes of a picture: {_line(transform)}"
    calibration, search, report, train, classes = _folder.read_folder(root, done)
    text = (
        f"images in '{root}': calibration {_count(calibration)} of {_count(train)} in train, "
        f"search {_count(search)} and report {_count(report)} of val"
    )
    if preparation.transform is not None:  # the user's code: what it gives is checked
        mean, std = (), ()
        taken = Expected(shape, torch.float32, classes)
        calibration, search, report = (
            as_dataset(part, name, taken)
            for name, part in (("calibration", calibration), ("search", search), ("report", report))
        )
    return Data(spec, calibration, search, report, train, classes, _shape(search), mean, std, "", text, words)


def _line(transform: object) -> str:
    """Return how a transform describes itself, in one line."""
    return " ".join(str(transform).split())


def _load_factory(
    spec: str,
    options: Mapping[str, Any],
    expected: Expected,
    factory: Callable[..., Any] | None,
    labels: bool | None,
) -> Data:
    parts, how, labelled = call_data_factory(spec, options, expected, factory=factory, labels=labels)
    classes = 1 + max(_largest_label(part) for part in (parts["search"], parts["report"])) if labelled else 0
    counts = ", ".join(f"{name} {_count(parts[name])}" for name in ("calibration", "search", "report"))
    return Data(
        spec,
        parts["calibration"],
        parts["search"],
        parts["report"],
        parts.get("train"),
        classes,
        _shape(parts["search"]),
        (),
        (),
        "",
        f"{spec}: {counts} images ({how})",
        labelled=labelled,
    )


def _statistics(
    mean: tuple[float, ...],
    std: tuple[float, ...],
    own_mean: tuple[float, ...],
    own_std: tuple[float, ...],
    *,
    channels: int,
) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Return mean and standard deviation, one of each per channel: those given, else the data set's own."""
    result = []
    for name, values, own in (("mean", mean, own_mean), ("std", std, own_std)):
        values = values or own
        if len(values) == 1:
            values *= channels
        if len(values) != channels:
            raise UsageError(
                f"The {name} has {len(values)} values, but the images have {channels} channels; give one for each."
            )
        result.append(values)
    if not all(0 < value < float("inf") for value in result[1]):
        raise UsageError(f"The standard deviation is {result[1]}, but each value must be finite and above 0.")
    return result[0], result[1]


def _unlabelled(data: Data, size: tuple[int, ...]) -> Data:
    """Return the same images without their labels, which nobody reads."""
    data = _check(data, size, None)
    expected = Expected(data.input_shape, torch.float32)

    def alone(part: Dataset[Any], name: str) -> Dataset[Any]:
        return as_dataset(part, name, expected, labelled=None)

    return replace(
        data,
        calibration=alone(data.calibration, "calibration"),
        search=alone(data.search, "search"),
        report=alone(data.report, "report"),
        train=None if data.train is None else alone(data.train, "train"),
        num_classes=0,
        labelled=False,
    )


def _check(data: Data, size: tuple[int, ...], num_classes: int | None) -> Data:
    """Refuse empty parts, images that the network does not take, and more classes than it has outputs."""
    for name, part in (("calibration", data.calibration), ("search", data.search), ("report", data.report)):
        if not _count(part):
            raise UsageError(f"The {name} part of '{data.name}' is empty; at least one image is needed.")
    if size and data.input_shape[-len(size) :] != size:
        has, takes = ("x".join(map(str, shape)) for shape in (data.input_shape[-len(size) :], size))
        raise UsageError(
            f"The images of '{data.name}' are {has}, but the network takes {takes}; give data of that size."
        )
    if num_classes is not None and data.num_classes > num_classes:
        raise UsageError(
            f"The data '{data.name}' have {data.num_classes} classes, but the network has {num_classes} outputs; "
            "give a network for these classes."
        )
    return data


def _count(part: Dataset[Any]) -> int:
    return len(part)  # type: ignore[arg-type]


def _shape(part: Dataset[Any]) -> tuple[int, ...]:
    shape = tuple(part[0][0].shape)
    if len(shape) < 2:
        raise UsageError(
            f"An image of the data has shape {shape}; it must have channels and one more dimension at least, like (C, H, W)."
        )
    return shape


def _largest_label(part: Dataset[Any]) -> int:
    """Return the largest label: of all in memory, else of those that the fingerprint looks at."""
    if isinstance(part, TensorDataset):
        return int(part.tensors[1].max())
    return max(int(part[int(index)][1]) for index in _sampled(_count(part)))


def _sampled(size: int) -> list[int]:
    return [int(index) for index in np.linspace(0, size - 1, min(size, _SAMPLE))]


def _fingerprint(data: Data) -> str:
    """Return the SHA-256 (hex) of the parts: their sizes and evenly spaced images with labels; small tensors whole."""
    digest = hashlib.sha256(f"{data.num_classes} {data.input_shape}".encode())
    for part in (data.calibration, data.search, data.report):
        size = _count(part)
        if isinstance(part, TensorDataset):
            small = part.tensors[0].numel() * part.tensors[0].element_size() <= _SMALL
            rows = slice(None) if small else _sampled(size)
            images, labels = part.tensors[0][rows], part.tensors[-1][rows]  # the images again where there are no labels
        else:
            items = [part[index] for index in _sampled(size)]
            images = torch.stack([image for image, _ in items])
            labels = torch.tensor([label for _, label in items])
        digest.update(f"{size} {fingerprint((('images', images), ('labels', labels)))}".encode())
    return digest.hexdigest()
