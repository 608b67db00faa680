from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from autoprune.graph._unionfind import UnionFind


@given(
    st.integers(1, 40).flatmap(
        lambda n: st.tuples(
            st.just(n),
            st.lists(st.lists(st.tuples(st.integers(0, n - 1), st.integers(0, n - 1)), max_size=30), max_size=4),
        )
    )
)
def test_equals_merging_sets_one_pair_at_a_time(case: tuple[int, list[list[tuple[int, int]]]]) -> None:
    count, batches = case
    ours = UnionFind()
    assert ours.add(count) == 0
    sets = [{label} for label in range(count)]
    for batch in batches:
        pairs = np.array(batch, dtype=np.int64).reshape(-1, 2)
        ours.union(pairs[:, 0], pairs[:, 1])
        for a, b in batch:
            merged = sets[a] | sets[b]
            for label in merged:
                sets[label] = merged
    assert ours.roots().tolist() == [min(found) for found in sets]


def test_labels_keep_their_sets_when_more_are_added() -> None:
    ours = UnionFind()
    ours.add(3)
    ours.union(np.array([0]), np.array([2]))
    first = ours.add(5000)
    assert first == 3
    assert len(ours) == 5003
    assert ours.find(np.array([0, 1, 2, 5002])).tolist() == [0, 1, 0, 5002]
