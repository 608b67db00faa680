"""ONNX files of pruned networks, cut out of the dense one's: exporting takes seconds, cutting does not.

Pruning changes no operator, only lengths: of weights, and numbers of channels in shapes and attributes. Which of the
network's channels each such number counts is found by comparing the dense file with that of one pruned network, and a second
one has to come out as it is exported. Weights are the first channels' of the dense network; they do not matter for the time.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from autoprune.latency._segments import Segments

Place = tuple[int, int]
"""A number of channels of the network: segment, and which of its descriptions."""
Name = tuple[str, ...]
"""Where a number is in the file: kind ("length", "value", "attribute"), name, and place in it."""


class OnnxFamily:
    """Makes ONNX files of pruned networks.

    Args:
        export: Writes the file of the network that keeps so many channels and returns its path.
        segments: The network's segments.
        seed: Of the network that has to come out right.
    """

    def __init__(self, export: Callable[[Sequence[int]], Path], segments: Segments, *, seed: int = 0) -> None:
        self._export, self._segments = export, segments
        self._dense = _read(export(segments.sizes))
        self._places = self._find(telling(segments.sizes))
        check = [max(1, int(size * share)) for size, share in zip(segments.sizes, _shares(segments, seed), strict=True)]
        if self._places is not None and _numbers(self._cut(check)) != _numbers(_read(export(check))):
            self._places = None

    @property
    def cuts(self) -> bool:
        """Whether files are cut out of the dense one's; if not, each is exported."""
        return self._places is not None

    def write(self, counts: Sequence[int], path: Path) -> Path:
        """Write the file of a policy's network and return where it is."""
        if self._places is None:
            return self._export(counts)
        path.write_bytes(self._cut(counts).SerializeToString())
        return path

    def _channels(self, counts: Sequence[int]) -> npt.NDArray[np.float64]:
        found: npt.NDArray[np.float64] = self._segments.channels(np.array([counts], dtype=np.int64))[0]
        return found

    def _find(self, probes: Sequence[Sequence[int]]) -> dict[Name, Place] | None:
        """Return what each number that differs counts; None if that is not to be found."""
        networks = [_numbers(self._dense), *(_numbers(_read(self._export(probe))) for probe in probes)]
        if any(numbers.keys() != networks[0].keys() for numbers in networks):
            return None
        channels = np.stack([self._channels(counts) for counts in (self._segments.sizes, *probes)])
        found: dict[Name, Place] = {}
        for name in networks[0]:
            values = np.array([numbers[name] for numbers in networks])
            if (values == values[0]).all():
                continue
            fitting = np.argwhere((channels == values[:, None, None]).all(axis=0))
            if not len(fitting):
                return None
            found[name] = (int(fitting[0][0]), int(fitting[0][1]))
        return found

    def _cut(self, counts: Sequence[int]) -> Any:
        """Return the dense file's content with the numbers of a policy."""
        from onnx import ModelProto, numpy_helper

        assert self._places is not None
        channels = self._channels(counts)
        model = ModelProto()
        model.CopyFrom(self._dense)
        for tensor in model.graph.initializer:
            lengths = [
                int(channels[self._places[key]])
                if (key := ("length", tensor.name, str(dim))) in self._places
                else length
                for dim, length in enumerate(tensor.dims)
            ]
            values = {
                place: int(channels[self._places[key]])
                for place in range(_listed(tensor))
                if (key := ("value", tensor.name, str(place))) in self._places
            }
            if lengths != list(tensor.dims) or values:
                array = numpy_helper.to_array(tensor)[tuple(slice(length) for length in lengths)].copy()
                for place, value in values.items():
                    array.reshape(-1)[place] = value
                tensor.CopyFrom(numpy_helper.from_array(array, tensor.name))
        for number, node in enumerate(model.graph.node):
            for attribute in node.attribute:
                key = ("attribute", str(number), attribute.name)
                if key in self._places:
                    attribute.i = int(channels[self._places[key]])
        del model.graph.value_info[:]
        return model


def telling(sizes: tuple[int, ...]) -> list[tuple[int, ...]]:
    """Return counts of one or two networks by which groups of equal size can be told apart."""
    ranks = [sizes[:number].count(size) for number, size in enumerate(sizes)]
    most = {size: max(2, size) - 1 for size in sizes}
    first = tuple(size - 1 - rank % most[size] if size > 1 else 1 for size, rank in zip(sizes, ranks, strict=True))
    second = tuple(max(1, size - 1 - rank // most[size]) for size, rank in zip(sizes, ranks, strict=True))
    return [first] if all(rank < most[size] for size, rank in zip(sizes, ranks, strict=True)) else [first, second]


def _shares(segments: Segments, seed: int) -> list[float]:
    return [float(share) for share in np.random.default_rng(seed).uniform(0.3, 0.95, len(segments.sizes))]


def _read(path: Path) -> Any:
    import onnx

    return onnx.load(path)


def _listed(tensor: Any) -> int:
    """Return how many whole numbers a tensor lists; 0 for weights."""
    from onnx import TensorProto

    return int(np.prod(tensor.dims)) if tensor.data_type == TensorProto.INT64 and np.prod(tensor.dims) <= 16 else 0


def _numbers(model: Any) -> dict[Name, int]:
    """Return every number in a file that channels can be counted by, and what the file does, by name (which counts 0)."""
    from onnx import numpy_helper

    found: dict[Name, int] = {}
    for tensor in model.graph.initializer:
        found |= {("length", tensor.name, str(dim)): int(length) for dim, length in enumerate(tensor.dims)}
        if number := _listed(tensor):
            values = numpy_helper.to_array(tensor).reshape(-1)
            found |= {("value", tensor.name, str(place)): int(values[place]) for place in range(number)}
    for number, node in enumerate(model.graph.node):
        found["node", str(number), node.op_type, *node.input, *node.output] = 0
        found |= {("attribute", str(number), entry.name): int(entry.i) for entry in node.attribute if entry.type == 2}
    return found
