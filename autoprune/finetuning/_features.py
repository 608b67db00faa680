"""What two networks compute at the boundaries of the coupling groups, for feature matching."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from autoprune.graph import IntArray, PruningGraph


@dataclass(frozen=True)
class Boundary:
    """A module whose output channels are compared.

    Attributes:
        module: Its path in both networks: a convolution, or the BatchNorm after it.
        channels: Which of the dense network's output channels the small one still has.
    """

    module: str
    channels: tuple[int, ...]


def boundaries(graph: PruningGraph, kept: Mapping[str, IntArray]) -> tuple[Boundary, ...]:
    """Return where the two networks are compared: the convolutions that make residual groups; without such, all.

    Args:
        graph: The dense network's coupling graph.
        kept: Channels that stay, by group name; groups left out are whole.
    """
    stays = {group.index: np.asarray(kept[group.name]) for group in graph.groups if group.name in kept}
    residual = {group.index for group in graph.groups if group.kind == "residual"}
    found: list[tuple[Boundary, bool]] = []
    for layer in graph.layers:
        if layer.op != "conv" or "#" in layer.name:
            continue
        left = [
            channel
            for channel, (group, unit) in enumerate(zip(layer.out_group.tolist(), layer.out_unit.tolist(), strict=True))
            if group not in stays or unit in stays[group]
        ]
        crosses = bool(residual.intersection(layer.out_group.tolist()))
        found.append((Boundary(layer.norm or layer.name, tuple(left)), crosses))
    chosen = [boundary for boundary, crosses in found if crosses] or [boundary for boundary, _ in found]
    return tuple(chosen)


class Recorder:
    """Keeps the outputs of some modules of the latest forward pass.

    Args:
        network: The network.
        where: Its boundaries.
        select: Whether only the channels of each boundary are kept (in the dense network).
    """

    def __init__(self, network: nn.Module, where: tuple[Boundary, ...], *, select: bool) -> None:
        self._seen: dict[str, Tensor] = {}
        self._order = [boundary.module for boundary in where]
        self._handles: list[RemovableHandle] = []
        modules = dict(network.named_modules())
        for boundary in where:
            channels = torch.tensor(boundary.channels) if select else None
            hook = self._hook(boundary.module, channels)
            self._handles.append(modules[boundary.module].register_forward_hook(hook))

    def take(self) -> list[Tensor]:
        """Return the outputs in order and forget them."""
        found = [self._seen[name] for name in self._order]
        self._seen = {}
        return found

    def close(self) -> None:
        """Leave the network as it was."""
        for handle in self._handles:
            handle.remove()

    def _hook(self, name: str, channels: Tensor | None) -> Any:
        def keep(module: nn.Module, inputs: Any, output: Tensor) -> None:
            whole = channels is None or len(channels) == output.shape[1]
            self._seen[name] = output if whole or channels is None else output[:, channels.to(output.device)]

        return keep
