"""The eleven features that describe a decision to an agent.

He et al., AMC (ECCV 2018), equation 1: (t, n, c, h, w, stride, k, FLOPs[t], reduced, rest, a[t-1]), each scaled to
[0, 1]. There a decision is one layer; here it is a coupling group, which may touch several layers:

- ``t``: the decision's place in the order, 0 for the first and 1 for the last.
- ``n``: the group's number of channels.
- ``c``, ``h``, ``w``: input channels, height and width of what goes into its producers, the maximum of several.
- ``stride``, ``k``: the maximum over all layers it touches, producers and consumers; 1 for a linear layer.
- ``FLOPs[t]``: MACs of all layers it touches, summed, each layer once, on the dense network.
- ``reduced``: MACs saved by the decisions taken so far, everything after them whole.
- ``rest``: dense MACs of the layers that only later decisions touch.
- ``a[t-1]``: the keep ratio applied by the decision before, 1 for the first.

The first seven are divided by their maximum over the decisions, the MACs by the dense network's total.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from autoprune.decisions import Decision
from autoprune.envs._protocol import ProblemLike
from autoprune.graph import Layer

FEATURES = ("t", "n", "c", "h", "w", "stride", "k", "flops", "reduced", "rest", "previous")

FloatArray = npt.NDArray[np.float32]


class Features:
    """The features of every step of one problem's game.

    Args:
        problem: The problem; its graph is read once.
    """

    def __init__(self, problem: ProblemLike) -> None:
        self._cost = problem.cost
        self._sizes = [group.size for group in problem.decisions]
        self._static = _static(problem.decisions, problem.graph.layers, problem.cost.dense_macs)  # (T, 9)

    def observe(self, prefix: Sequence[int]) -> FloatArray:
        """Return the features of the decision that comes after ``prefix``.

        Args:
            prefix: Counts kept by the decisions taken so far. With all of them taken, the features are those of the
                last decision with ``reduced`` and ``previous`` brought up to date: what is seen when the game is over.

        Returns:
            Features in [0, 1], shape (11,), in the order of `FEATURES`.
        """
        taken = len(prefix)
        *before, rest = self._static[min(taken, len(self._sizes) - 1)]
        dense = max(self._cost.dense_macs, 1)
        reduced = 1.0 - self._cost.macs([*prefix, *self._sizes[taken:]]) / dense
        previous = prefix[-1] / self._sizes[taken - 1] if taken else 1.0
        return np.clip(np.array([*before, reduced, rest, previous], dtype=np.float32), 0.0, 1.0)


def _static(decisions: Sequence[Decision], layers: Sequence[Layer], dense_macs: int) -> npt.NDArray[np.float64]:
    """Return what does not change during a game: t, n, c, h, w, stride, k, flops and rest, shape (T, 9)."""
    by_name = {layer.name: layer for layer in layers}
    names = [dict.fromkeys((*group.producers, *group.consumers)) for group in decisions]
    touched = [[by_name[name] for name in some if name in by_name] for some in names]
    rows = []
    seen: set[str] = set()
    for index, group in enumerate(decisions):
        producers = [by_name[name] for name in group.producers if name in by_name]
        around = touched[index]
        seen.update(layer.name for layer in around)
        later = {layer.name: layer.macs for some in touched[index + 1 :] for layer in some if layer.name not in seen}
        heights, widths = zip(*(_input_size(layer) for layer in producers), strict=True) if producers else ((1,), (1,))
        rows.append(
            [
                float(index),
                float(group.size),
                float(max((layer.in_channels for layer in producers), default=1)),
                float(max(heights)),
                float(max(widths)),
                float(max((max(layer.stride, default=1) for layer in around), default=1)),
                float(max((max(layer.kernel, default=1) for layer in around), default=1)),
                float(sum(layer.macs for layer in around)),
                float(sum(later.values())),
            ]
        )
    table = np.array(rows, dtype=np.float64).reshape(len(decisions), 9)
    scale = table.max(axis=0, initial=0.0)
    scale[7:] = dense_macs
    scaled: npt.NDArray[np.float64] = table / np.where(scale > 0, scale, 1.0)
    return scaled


def _input_size(layer: Layer) -> tuple[int, int]:
    """Return height and width of a layer's input, 1 for dimensions it does not have (linear, Conv1d)."""
    if layer.op == "linear":
        return 1, 1
    spatial = layer.in_shape[2:]
    return (spatial[-2] if len(spatial) > 1 else 1), (spatial[-1] if spatial else 1)
