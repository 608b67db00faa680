"""Answers by image as text: they come back, and damage is refused."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from autoprune.errors import UsageError
from autoprune.support.answers import pack, unpack


@given(st.lists(st.booleans(), min_size=1, max_size=70))
def test_answers_come_back(bits: list[bool]) -> None:
    right = np.array(bits)
    text = pack(right)
    assert unpack(text).tolist() == bits
    assert len(text) < 12 + len(bits) / 4.5


@pytest.mark.parametrize(
    "text", ["", "8", "8:", "9:gA==", "-8:gA==", "0:", "8:g", "8:gA==x", "7:/w==", "9e9:gA==", 3, None]
)
def test_damaged_answers_are_refused(text: str) -> None:
    with pytest.raises(UsageError, match="damaged"):
        unpack(text)
