"""Disjoint sets over integer labels, with unions and look-ups of whole arrays at a time."""

from __future__ import annotations

import numpy as np

from autoprune.groups import IntArray


class UnionFind:
    """Disjoint sets of the labels 0, 1, 2, ...; the smallest label of a set is its root."""

    def __init__(self) -> None:
        self._parent: IntArray = np.zeros(0, dtype=np.int64)
        self._size = 0

    def __len__(self) -> int:
        return self._size

    def add(self, count: int) -> int:
        """Add ``count`` new singletons and return the first one's label."""
        first, self._size = self._size, self._size + count
        if self._size > self._parent.size:
            grown = np.arange(max(2 * self._parent.size, self._size, 1024), dtype=np.int64)
            grown[:first] = self._parent[:first]
            self._parent = grown
        return first

    def find(self, labels: IntArray) -> IntArray:
        """Return the root of every label, in the labels' shape."""
        root = self._parent[labels]
        while True:
            above = self._parent[root]
            if np.array_equal(above, root):
                return root
            root = above

    def union(self, left: IntArray, right: IntArray) -> None:
        """Unite the sets of ``left[i]`` and ``right[i]`` for every i (arrays of one shape)."""
        a, b = self.find(left.ravel()), self.find(right.ravel())
        while True:
            differ = a != b
            if not differ.any():
                return
            a, b = a[differ], b[differ]
            # Every root is hooked under the smallest root it meets; the chains that this makes are followed in the next turn.
            np.minimum.at(self._parent, np.maximum(a, b), np.minimum(a, b))
            a, b = self.find(a), self.find(b)

    def roots(self) -> IntArray:
        """Return the root of every label, shape (len(self),)."""
        return self.find(np.arange(self._size, dtype=np.int64))
