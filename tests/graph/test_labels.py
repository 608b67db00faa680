from __future__ import annotations

import math

import torch
from hypothesis import given
from hypothesis import strategies as st

from autoprune.graph._labels import along, column, compress, constant, core, reshape_blocks, varying


def test_compress_finds_the_dimensions_that_do_not_change() -> None:
    labels = along(5, (2, 3, 4, 4), 1).contiguous()
    assert varying(labels) == [0, 1, 2, 3]
    small = compress(labels)
    assert varying(small) == [1]
    assert torch.equal(small, labels)
    assert core(small).flatten().tolist() == [5, 6, 7]


def test_constant_labels_hold_one_number() -> None:
    labels = constant(7, (2, 3, 8, 8))
    assert varying(labels) == []
    assert labels.untyped_storage().nbytes() == 8
    assert bool((labels == 7).all())


def test_column_gathers_all_labels_of_an_index() -> None:
    labels = torch.tensor([[1, 2], [3, 4], [5, 6]]).view(1, 3, 2, 1).expand(2, 3, 2, 5)
    assert column(labels, 1).tolist() == [[1, 2], [3, 4], [5, 6]]


@given(st.lists(st.integers(1, 6), min_size=1, max_size=5), st.randoms(use_true_random=False))
def test_blocks_cover_both_shapes_in_order_with_equal_sizes(before: list[int], random: object) -> None:
    total = math.prod(before)
    after: list[int] = []
    while total > 1:
        divisor = random.choice([d for d in range(2, total + 1) if total % d == 0])
        after.append(divisor)
        total //= divisor
    blocks = reshape_blocks(before, after)
    assert blocks is not None
    assert [d for left, _ in blocks for d in left] == list(range(len(before)))
    assert [d for _, right in blocks for d in right] == list(range(len(after)))
    for left, right in blocks:
        assert math.prod(before[d] for d in left) == math.prod(after[d] for d in right)


def test_blocks_are_the_smallest() -> None:
    assert reshape_blocks((2, 8, 6, 6), (2, 2, 4, 36)) == [([0], [0]), ([1], [1, 2]), ([2, 3], [3])]
