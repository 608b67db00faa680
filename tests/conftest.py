"""What holds for every test."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from ._backward import watched


@pytest.fixture(autouse=True, scope="session")
def safe_backward_passes() -> Iterator[None]:
    with watched():
        yield
