"""What statistics and refits compute, in multiply-adds, and what they may hold in memory: closed forms of the graph."""

from __future__ import annotations

import math
import os
from collections.abc import Iterable, Sequence

from autoprune.errors import UsageError
from autoprune.groups import PruningGraph
from autoprune.reconstruct._statistics import MAX_WIDTH, Statistics, block_count

MAX_ACTIVATION_BYTES = 2**31
MAX_TARGET_BYTES = 2**30


def statistics_macs(collected: Iterable[Statistics]) -> float:
    """Return the multiply-adds of statistics: images through the dense network, and the second moments there are."""
    total = 0.0
    for statistics in collected:
        total += len(statistics.images) * sum(layer.macs for layer in statistics.plan.graph.layers)
        for name, moments in statistics.moments.items():
            rows = len(statistics.rows[name].index[0])
            total += rows * sum(len(columns) ** 2 for columns in moments.columns)
    return total


def refit_macs(statistics: Statistics, widths: Sequence[int], *, relu_iterations: int, forward: bool = True) -> float:
    """Return the multiply-adds of a refit: its images through the network, and the least squares.

    Args:
        statistics: What the refit is on.
        widths: Input channels that stay of every layer of the graph, of one convolution group.
        relu_iterations: How often it solves for outputs that a rectifier cuts off.
        forward: Whether images run through the network (a sequential refit), or the moments are there already (a cached one).
    """
    total, input_pruned = 0.0, False
    for layer, width in zip(statistics.plan.graph.layers, widths, strict=True):
        dense_width = layer.in_channels // layer.groups
        if forward:
            total += len(statistics.images) * layer.macs * width / dense_width
        input_pruned = input_pruned or width < dense_width
        if layer.name not in statistics.rows or not (input_pruned if forward else width < dense_width):
            continue
        columns, outputs = width * math.prod(layer.kernel), layer.out_channels // layer.groups
        rows = len(statistics.rows[layer.name].index[0]) if forward else 0
        again = relu_iterations if statistics.steps[layer.name].saturation is not None else 0
        products = rows * (columns + (1 + 2 * again) * outputs) + columns * (columns / 3 + (1 + again) * outputs)
        total += layer.groups * columns * products
    return total


def affordable_rows(graph: PruningGraph, images: int) -> int:
    """Return how many sampled rows a layer's moments may take for a quarter of a dense pass over ``images`` images.

    XᵀX of d inputs costs d² a row. Between 2000 (fewer fit badly) and 8000 (more rank no better) whatever the network.
    """
    widths = [layer.in_channels // layer.groups * math.prod(layer.kernel) for layer in graph.layers]
    macs = sum(layer.macs for layer in graph.layers)
    return int(min(8000, max(2000, macs * images / 4 / max(1, sum(width * width for width in widths)))))


def refit_rows(graph: PruningGraph, images: int, *, relu_iterations: int) -> int:
    """Return how many sampled rows a layer's refit may take for two dense passes over ``images`` images.

    Between 2000 and 20 an image: on 40 ResNet-20 ends no better.
    """
    each = 0.0  # multiply-adds of a row in all layers
    for layer in graph.layers:
        width, outputs = layer.in_channels // layer.groups * math.prod(layer.kernel), layer.out_channels // layer.groups
        each += layer.groups * width * (width + (1 + 2 * relu_iterations) * outputs)
    macs = sum(layer.macs for layer in graph.layers)
    return int(min(20 * images, max(2000, 2 * macs * images / max(1.0, each))))


def rows_that_fit(graph: PruningGraph, rows: int) -> int:
    """Return how many of ``rows`` sampled positions a layer's dense outputs may be kept at."""
    return min(rows, MAX_TARGET_BYTES // (4 * sum(layer.out_channels for layer in graph.layers)))


def images_that_fit(graph: PruningGraph) -> int:
    """Return how many images a pass may hold at once: three of the largest layer's inputs and outputs in 2 GiB."""
    largest = max((math.prod(layer.in_shape[1:]) + math.prod(layer.out_shape[1:]) for layer in graph.layers), default=1)
    return max(16, MAX_ACTIVATION_BYTES // (3 * 4 * largest))


def check_memory(graph: PruningGraph) -> None:
    """Refuse layers whose statistics do not fit into half of this machine's memory.

    The second moments of d inputs, their inverse and the factor of both take about 28 d² bytes while channels are chosen.

    Raises:
        UsageError: if they do not; names the layer, how much it takes and what to do.
    """
    try:
        there = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, OSError, ValueError):  # not a POSIX system
        return
    for layer in graph.layers:
        width = layer.in_channels // layer.groups * math.prod(layer.kernel)
        blocks = 1 if width <= MAX_WIDTH else block_count(layer)
        needed = 28 * math.ceil(width / blocks) ** 2
        if needed > there / 2:
            raise UsageError(
                f"The layer '{layer.name}' has {width:,} inputs, whose second moments take {needed / 1e9:.1f} GB to choose "
                f"channels by, more than half of this machine's {there / 1e9:.1f} GB; run on a machine with more memory."
            )
