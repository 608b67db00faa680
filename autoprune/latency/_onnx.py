"""Segments of a network that runs in onnxruntime, from its own profile of the kernels after fusion."""

from __future__ import annotations

import tempfile
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from torch import Tensor

from autoprune.exporting import onnx_session
from autoprune.graph import Layer
from autoprune.support.strict_json import read_json

FloatArray = npt.NDArray[np.float64]
_LAYERS = {
    "Conv": "conv",
    "FusedConv": "conv",
    "ConvTranspose": "conv_transpose",
    "Gemm": "linear",
    "FusedGemm": "linear",
    "MatMul": "linear",
    "FusedMatMul": "linear",
}


class OnnxSegments:
    """Runs an ONNX file with onnxruntime's profiling, which adds up the time of each kernel.

    Args:
        path: The file.
        threads: Threads that compute.
        images: One batch, on the CPU.
        layers: The network's layers in execution order.
    """

    def __init__(self, path: Path, threads: int, images: Tensor, layers: Sequence[Layer]) -> None:
        self._folder = tempfile.TemporaryDirectory()
        self._session = onnx_session(path, threads=threads, profile=Path(self._folder.name) / "profile")
        self._batch = {self._session.get_inputs()[0].name: images.numpy()}
        self._layers = tuple(layers)

    def __call__(self) -> None:
        """Run once."""
        self._session.run(None, self._batch)

    def seconds(self) -> FloatArray | None:
        """End the profile and return the median seconds of each segment, shape (layers,).

        Returns:
            None if the kernels cannot be told apart by layer.
        """
        try:
            events = read_json(self._session.end_profiling(), "profile of onnxruntime")
        finally:
            self._folder.cleanup()
        return attributed(events, self._layers)


def attributed(events: Sequence[Mapping[str, Any]], layers: Sequence[Layer]) -> FloatArray | None:
    """Return the mean seconds of each layer's kernel and of those that follow it, shape (layers,).

    Args:
        events: What onnxruntime writes when it profiles: of each kernel of each run its name, duration in µs and shapes.
        layers: The network's layers in execution order.

    Returns:
        None if not every layer has its kernel.
    """
    nodes = [event for event in events if event.get("cat") == "Node" and str(event["name"]).endswith("_kernel_time")]
    order: dict[str, Mapping[str, Any]] = {}
    times: dict[str, list[float]] = defaultdict(list)
    for event in nodes:
        order.setdefault(event["name"], event)
        times[event["name"]].append(1e-6 * float(event["dur"]))
    found = np.zeros(len(layers))
    free = list(range(len(layers)))
    current: int | None = None
    before = 0.0
    for name, event in order.items():
        number = next((n for n in free if _is(event, layers[n])), None)
        if number is not None:
            free.remove(number)
            current = number
        samples = np.array(times[name][len(times[name]) // 10 :])
        seconds = float(samples.clip(max=3 * np.median(samples) + 1e-6).mean())  # the clock of a kernel ticks in µs
        if current is None:
            before += seconds
        else:
            found[current] += seconds
    if free:
        return None
    found[0] += before
    return found


def _is(event: Mapping[str, Any], layer: Layer) -> bool:
    """Whether a kernel may be that of a layer: its operator, kernel size and where it is in the image."""
    arguments = event["args"]
    if _LAYERS.get(arguments.get("op_name", "")) != layer.op:
        return False
    shapes = [next(iter(entry.values())) for entry in arguments.get("input_type_shape", [])]
    if not shapes or len(shapes[0]) != len(layer.in_shape):
        return False
    weight = shapes[1] if len(shapes) > 1 and len(shapes[1]) > 1 else None  # packed ones are not said
    if layer.op == "linear":
        return weight is None or len(weight) == 2
    return tuple(shapes[0][2:]) == layer.in_shape[2:] and (weight is None or tuple(weight[2:]) == layer.kernel)
