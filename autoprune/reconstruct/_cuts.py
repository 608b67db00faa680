"""Where a program may be cut into blocks that are trained one after the other."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence

from torch import Tensor
from torch.fx import Node

from autoprune.graph import concrete, last_uses
from autoprune.groups import ValueChannels
from autoprune.reconstruct._steps import Affine, Block, Step, made, used

REACH = 6
"""Layers that a block may have where it could be shorter, so that fewer values are needed behind it."""


def cut(
    steps: Sequence[Step],
    sources: Sequence[Node],
    outputs: Sequence[Node],
    moving: Collection[Node],
    channels: Mapping[str, ValueChannels],
) -> tuple[Block, ...]:
    """Return a program as blocks, each with a layer that may be refitted; none if it cannot be cut so.

    For class scores, shape (N, classes), a block is as short as can be between places where one value, which a layer reads, is
    all that the rest needs. Anything else (a feature pyramid, a network with skip connections) is cut where as few values as
    can be had within `REACH` layers are, all of them with known channels.

    Args:
        steps: The program.
        sources: Nodes of its inputs.
        outputs: Nodes of its outputs.
        moving: Nodes whose values depend on the inputs.
        channels: For nodes by name the channels of their values.

    Returns:
        Blocks up to the outputs, or to where the last layer is that may be refitted.
    """
    places = _Places(steps, sources, outputs, moving)
    one = len(sources) == len(outputs) == 1 and outputs[0].meta["val"].dim() == 2
    found = _single(places, channels) if one else _several(places, channels)
    end = found[-1].steps[1] if found else 0
    return () if any(place >= end for place in places.refitted) else tuple(found)


class _Places:
    """The values that are needed behind each step of a program.

    Args:
        steps, sources, outputs, moving: As for `cut`.

    Attributes:
        live: For each step the nodes whose values are needed behind it, inputs' and outputs' among them, in their order.
        layers: The places of layers, and those.
        refitted: The places of layers that may be refitted.
    """

    def __init__(
        self, steps: Sequence[Step], sources: Sequence[Node], outputs: Sequence[Node], moving: Collection[Node]
    ) -> None:
        self.sources, self.outputs = tuple(sources), frozenset(outputs)
        self.layers = [(place, step) for place, step in enumerate(steps) if isinstance(step, Affine)]
        self.refitted = [place for place, step in self.layers if step.refit]
        last = last_uses(steps, used)
        live = list(sources)
        self.live: list[tuple[Node, ...]] = []
        for place, step in enumerate(steps):
            live += [node for node in [made(step)] if node in moving and node not in live]
            live = [node for node in live if last.get(node, -1) > place or node in self.outputs]
            self.live.append(tuple(live))
        self._batch = {size for node in sources if (size := _first_size(node)) is not None}

    def items(self, node: Node) -> bool:
        """Return whether a node's value is a tensor whose first dimension is the batch, or an input."""
        return node in self.sources or _first_size(node) in self._batch

    def block(self, start: int, place: int, sources: tuple[Node, ...]) -> Block:
        """Return the steps from ``start`` on up to and with ``place`` as a block."""
        results = self.live[place]
        new = tuple(number for number, node in enumerate(results) if node not in sources)
        return Block((start, place + 1), sources, results, new)


def _single(places: _Places, channels: Mapping[str, ValueChannels]) -> list[Block]:
    """Return blocks between single values, each as short as can be, and before what makes a value smaller (a pooling)."""
    sources, start, found = places.sources, 0, list[Block]()
    for place, live in enumerate(places.live):
        if len(live) != 1 or not any(start <= at <= place for at in places.refitted):
            continue
        consumer = next((layer.layer for at, layer in places.layers if at > place and layer.source is live[0]), None)
        if not places.items(live[0]) or (
            live[0] not in places.outputs and (consumer is None or not consumer.reads_channels)
        ):
            continue
        end = place if live[0] in places.outputs else _largest(places, channels, place)
        found.append(places.block(start, end, sources))
        sources, start = places.live[end], end + 1
    return found


def _largest(places: _Places, channels: Mapping[str, ValueChannels], place: int) -> int:
    """Return where, from the last layer up to a place, the single value that is needed has the most elements."""
    first = max(at for at, _ in places.layers if at <= place)
    able = [at for at in range(first, place) if len(places.live[at]) == 1]
    able = [at for at in able if places.items(node := places.live[at][0]) and node.name in channels]
    return max([*able, place], key=lambda at: (_elements(places.live[at][0]), at))


def _several(places: _Places, channels: Mapping[str, ValueChannels]) -> list[Block]:
    """Return blocks between several values, as few as there are within reach."""

    def known(node: Node) -> bool:
        return places.items(node) and (node in places.outputs or node in places.sources or node.name in channels)

    end = len(places.live) - 1
    sources, start, found = places.sources, 0, list[Block]()
    while ahead := [at for at in places.refitted if at >= start]:
        reach = ahead[REACH] if len(ahead) > REACH else end + 1
        able = [place for place in range(ahead[0], end + 1) if place == end or all(map(known, places.live[place]))]
        able = [place for place in able if set(places.live[place]) - set(sources)]
        if not able:
            return []
        near = [place for place in able if place < reach] or able[:1]
        best = min(near, key=lambda place: (len(places.live[place]), -place))
        found.append(places.block(start, best, sources))
        sources, start = places.live[best], best + 1
    return found


def _first_size(node: Node) -> str | None:
    """Return the first size of a node's value, an expression; None where it is no tensor or has no dimensions."""
    value = node.meta.get("val")
    return str(value.shape[0]) if isinstance(value, Tensor) and value.dim() else None


def _elements(node: Node) -> int:
    """Return how many elements the traced value of a node has."""
    return math.prod(concrete(node.meta["val"].shape))
