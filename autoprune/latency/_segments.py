"""Segments: a network as a row of layers, each with what follows it until the next one begins.

The time of a network is the sum of its segments' times, whatever the additions, norms and activations between its layers
are. What a segment takes depends on what it is (its key) and on how many channels go in and come out.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from torch import Tensor
from torch.fx import Node

from autoprune.graph import Group, IntArray, Layer, PruningGraph

FEATURES = 4
"""Numbers that describe a segment: channels in, channels out, whether their product counts, channels after a joining."""


@dataclass(frozen=True)
class Segment:
    """A layer and what follows it.

    Attributes:
        layer: The layer's name.
        key: What it is, channel counts aside: segments of one key take the same time for the same counts.
    """

    layer: str
    key: str


class Segments:
    """The segments of a network as functions of how many channels each decided group keeps.

    Args:
        graph: The coupling graph.
        decisions: The groups that a policy decides, in order; all other groups stay whole.

    Attributes:
        items: The segments in execution order.
        sizes: Channels of each decision, the counts of the dense network.
        network: A fingerprint of the dense network's shapes: equal for networks that take the same time.
    """

    def __init__(self, graph: PruningGraph, decisions: Sequence[Group]) -> None:
        following = _following(graph)
        self.sizes: tuple[int, ...] = tuple(group.size for group in decisions)
        self.items = tuple(
            Segment(layer.name, _key(layer, after)) for layer, after in zip(graph.layers, following, strict=True)
        )
        place = {group.index: number for number, group in enumerate(decisions)}
        sizes = {group.index: group.size for group in graph.groups}
        nexts = (*graph.layers[1:], None)
        forms = [
            _forms(layer, later if "cat" in after else None, place, sizes)
            for layer, later, after in zip(graph.layers, nexts, following, strict=True)
        ]
        self._slopes: npt.NDArray[np.float64] = np.array([form[0] for form in forms]).reshape(-1, 3, len(self.sizes))
        self._offsets: npt.NDArray[np.float64] = np.array([form[1] for form in forms]).reshape(-1, 3)
        self._mixed: npt.NDArray[np.float64] = np.array([form[2] for form in forms])
        dense = self.channels(np.array([self.sizes], dtype=np.int64))[0]
        text = "\n".join(f"{item.key} {row.astype(int).tolist()}" for item, row in zip(self.items, dense, strict=True))
        self.network = hashlib.sha256(text.encode()).hexdigest()[:16]

    @property
    def keys(self) -> tuple[str, ...]:
        """The keys of the segments."""
        return tuple(item.key for item in self.items)

    def channels(self, counts: IntArray) -> npt.NDArray[np.float64]:
        """Return what describes the segments of policies.

        Args:
            counts: Kept channels, shape (N, decisions).

        Returns:
            Shape (N, segments, FEATURES).
        """
        rows, segments = len(counts), len(self.items)
        k = np.asarray(counts, dtype=np.float64)
        found = (k @ self._slopes.reshape(segments * 3, -1).T).reshape(rows, segments, 3) + self._offsets
        mixed = np.broadcast_to(self._mixed[None, :, None], (rows, segments, 1))
        return np.concatenate([found[..., :2], mixed, found[..., 2:]], axis=2)


def _forms(
    layer: Layer, later: Layer | None, place: dict[int, int], sizes: dict[int, int]
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64], float]:
    """Return slopes (3, decisions) and offsets (3,) of the channels in, out and after, and whether in x out counts."""
    slopes = np.zeros((3, len(place)))
    offsets = np.zeros(3)
    for row, groups in enumerate(
        (layer.in_group, layer.out_group, later.in_group if later is not None else np.empty(0))
    ):
        for index, count in zip(*np.unique(groups, return_counts=True), strict=True):
            number = place.get(int(index))
            if number is None:
                offsets[row] += count
            else:
                slopes[row, number] += count / sizes[int(index)]
    return slopes, offsets, float(layer.reads_channels)


def _key(layer: Layer, following: str) -> str:
    """Return what a layer is, with everything that does not change when channels go."""
    if layer.groups == 1:
        kind = ""
    elif layer.balanced:
        kind = f" balanced {layer.groups}"
    else:
        kind = f" grouped {layer.in_channels // layer.groups}>{layer.out_channels // layer.groups}"
    text = f"{layer.op}{kind}"
    if layer.kernel:
        text += f" k{_by(layer.kernel)} s{_by(layer.stride)}"
        text += f" d{_by(layer.dilation)}" if set(layer.dilation) != {1} else ""
    text += f" {_by(layer.in_shape[2:] if layer.kernel else layer.in_shape[1:-1])}{' bias' if layer.bias else ''}"
    return f"{text} > {following}".rstrip(" >")


def _following(graph: PruningGraph) -> tuple[str, ...]:
    """Return for each layer what is computed after it and before the next one, as names with spatial sizes."""
    starts = {layer.node: number for number, layer in enumerate(graph.layers)}
    found: list[list[str]] = [[] for _ in graph.layers]
    current = -1
    for node in graph.program.graph.nodes:
        if node.op != "call_function":
            continue
        if node.name in starts:
            current = starts[node.name]
        elif current >= 0 and (said := _said(node)):
            found[current].append(said)
    return tuple(" ".join(names) for names in found)


_FREE = ("getitem", "sym_size", "_assert", "detach", "alias", "dropout", "eq", "ge", "le", "_guard")


def _said(node: Node) -> str:
    """Return the name of an operator and the spatial size of what it gives; empty for what costs nothing."""
    name = str(getattr(node.target, "__name__", node.target)).split(".")[0].rstrip("_")
    if name.startswith(_FREE):
        return ""
    value = node.meta.get("val")
    shape = value.shape[2:] if isinstance(value, Tensor) else ()
    return name + (f"@{_by(tuple(str(size) for size in shape))}" if len(shape) else "")


def _by(sizes: Sequence[object]) -> str:
    return "x".join(str(size) for size in sizes)
