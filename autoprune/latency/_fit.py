"""What segments of one key take, as a function of their channels: a non-negative regression, with staircases.

    seconds = a + b in + c out + d in out + e after        a .. e >= 0, channels rounded up to multiples of a block

Kernels work on blocks of channels, so that 17 may take as long as 24: the block is the one that predicts best.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from autoprune.support.packages import lazy

optimize = lazy("scipy.optimize", "A budget of latency needs")

FloatArray = npt.NDArray[np.float64]
BLOCKS = (1, 4, 8, 16)
TERMS = 5


@dataclass(frozen=True, eq=False)
class Observed:
    """A measured network, as the regression sees it: sums of segments, and what they took.

    Attributes:
        channels: What describes the network's segments, shape (segments, FEATURES).
        keys: The key of each.
        spans: Number of the first segment of each sum.
        seconds: What each sum took, shape (len(spans),).
    """

    channels: FloatArray
    keys: tuple[str, ...]
    spans: tuple[int, ...]
    seconds: FloatArray


def terms(channels: FloatArray, block: int) -> FloatArray:
    """Return the terms of the regression, shape (..., TERMS).

    Args:
        channels: What describes segments, shape (..., FEATURES).
        block: Channels are rounded up to multiples of it.
    """
    up = np.ceil(channels / block) * block if block > 1 else channels
    inputs, outputs, mixed, after = up[..., 0], up[..., 1], channels[..., 2], up[..., 3]
    return np.stack([np.ones_like(inputs), inputs, outputs, mixed * inputs * outputs, after], axis=-1)


class Rows:
    """Measured networks as normal equations, from which any of them can be left out.

    Keys that occur in one sum are fitted together; all others by themselves.

    Args:
        observed: The measured networks.
        block: Channels are rounded up to multiples of it.
    """

    def __init__(self, observed: Sequence[Observed], block: int) -> None:
        self.block = block
        clusters = _clusters(observed)
        self.members = {name: sorted({k for k, c in clusters.items() if c == name}) for name in set(clusters.values())}
        self._grams: dict[str, FloatArray] = {}
        for name, keys in self.members.items():
            self._grams[name] = np.zeros((len(observed), TERMS * len(keys) + 1, TERMS * len(keys) + 1))
        for number, network in enumerate(observed):
            self._add(number, network, clusters)

    def _add(self, number: int, network: Observed, clusters: Mapping[str, str]) -> None:
        values = terms(network.channels, self.block)
        ends = (*network.spans[1:], len(network.keys))
        for first, end, seconds in zip(network.spans, ends, network.seconds, strict=True):
            name = clusters[network.keys[first]]
            keys = self.members[name]
            row = np.zeros(TERMS * len(keys) + 1)
            for place in range(first, end):
                start = TERMS * keys.index(network.keys[place])
                row[start : start + TERMS] += values[place]
            row[-1] = seconds
            self._grams[name][number] += np.outer(row, row)

    def fit(self, without: int | None = None) -> dict[str, FloatArray]:
        """Return the coefficients of every key, shape (TERMS,).

        Args:
            without: Number of a network that is left out.
        """
        found: dict[str, FloatArray] = {}
        for name, keys in self.members.items():
            gram = self._grams[name].sum(axis=0)
            if without is not None:
                gram = gram - self._grams[name][without]
            found |= dict(zip(keys, _solve(gram).reshape(len(keys), TERMS), strict=True))
        return found


def _solve(gram: FloatArray) -> FloatArray:
    """Return the non-negative x least in |A x - b|, given (A b)'(A b)."""
    scale = np.sqrt(np.diag(gram)[:-1])
    scale[scale == 0] = 1.0
    inner = gram[:-1, :-1] / np.outer(scale, scale)
    inner += 1e-9 * np.eye(len(inner))
    factor = np.linalg.cholesky(inner)  # inner = factor factor'
    target = np.linalg.solve(factor, gram[:-1, -1] / scale)
    x: FloatArray = optimize.nnls(factor.T, target)[0]
    return x / scale


def _clusters(observed: Sequence[Observed]) -> dict[str, str]:
    """Return for each key the name of its cluster: keys that occur in one sum are in one."""
    parent: dict[str, str] = {}

    def root(key: str) -> str:
        parent.setdefault(key, key)
        while parent[key] != key:
            key = parent[key]
        return key

    for network in observed:
        for first, end in zip(network.spans, (*network.spans[1:], len(network.keys)), strict=True):
            for key in network.keys[first:end]:
                parent[root(key)] = root(network.keys[first])
    return {key: root(key) for key in list(parent)}


def predicted(coefficients: Mapping[str, FloatArray], network: Observed, block: int) -> float:
    """Return the seconds of a network."""
    weights = np.stack([coefficients[key] for key in network.keys])
    return float((terms(network.channels, block) * weights).sum())
