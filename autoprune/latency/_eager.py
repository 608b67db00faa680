"""Segments of a network that runs in PyTorch, stamped by hooks at the start of each layer."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

FloatArray = npt.NDArray[np.float64]


def hooked_layers(network: nn.Module, images: Tensor, layers: Sequence[str]) -> tuple[int, ...] | None:
    """Return which layers' starts hooks can see, by their number; the first must be among them.

    Args:
        network: The network.
        images: One batch.
        layers: The names of the layers in execution order, calls after a module's first with "#2".

    Returns:
        None if the modules are not called in the order of the layers (or the first layer is none): there are no segments then.
    """
    called: list[str] = []
    modules = {name: module for name, module in network.named_modules() if name in {_path(layer) for layer in layers}}
    handles = [
        module.register_forward_pre_hook(lambda module, inputs, name=name: called.append(name))
        for name, module in modules.items()
    ]
    try:
        with torch.inference_mode():
            network(images)
    finally:
        for handle in handles:
            handle.remove()
    seen: list[int] = []
    place = 0
    for name in called:
        while place < len(layers) and _path(layers[place]) != name:
            place += 1
        if place == len(layers):
            return None
        seen.append(place)
        place += 1
    return tuple(seen) if seen and seen[0] == 0 else None


def _path(layer: str) -> str:
    return re.sub(r"#\d+$", "", layer)


class EagerSegments:
    """Runs a network with a stamp at the start of each layer.

    Args:
        network: The network, on the device of the images.
        images: One batch.
        layers: Names of the layers to be stamped, in execution order (see `hooked_layers`).
        clock: Tells seconds, on the CPU.
    """

    def __init__(
        self,
        network: nn.Module,
        images: Tensor,
        layers: Sequence[str],
        *,
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        self._network, self._images, self._clock = network, images, clock
        modules = dict(network.named_modules())
        self._modules = [modules[name] for name in dict.fromkeys(_path(layer) for layer in layers)]
        self._number = len(layers)
        self._rows: list[list[float]] = []

    def __call__(self) -> None:
        """Run once; the hooks are there only while it runs."""
        stamps: list[Any] = []
        stamp = self._event if self._images.is_cuda else self._clock

        def hook(module: nn.Module, inputs: object) -> None:
            stamps.append(stamp())

        handles = [module.register_forward_pre_hook(hook) for module in self._modules]
        try:
            with torch.inference_mode():
                begin = stamp()
                self._network(self._images)
                end = stamp()
        finally:
            for handle in handles:
                handle.remove()
        if len(stamps) != self._number:
            return  # the network took another way this time
        marks = [begin, *stamps[1:], end]
        if self._images.is_cuda:
            torch.cuda.synchronize(self._images.device)
            self._rows.append([a.elapsed_time(b) / 1e3 for a, b in pairwise(marks)])
        else:
            self._rows.append([b - a for a, b in pairwise(marks)])

    def _event(self) -> torch.cuda.Event:
        event: torch.cuda.Event = torch.cuda.Event(enable_timing=True)  # type: ignore[no-untyped-call]
        event.record(torch.cuda.current_stream(self._images.device))
        return event

    def seconds(self) -> FloatArray:
        """Return the median seconds of each segment over the quicker half of the calls, shape (layers,); none without calls."""
        rows = np.array(sorted(self._rows, key=sum)[: -(-len(self._rows) // 2)])
        return np.median(rows, axis=0) if len(rows) else np.zeros(0)
