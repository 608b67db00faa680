"""Random numbers of the user's own code, made a function of a seed, and everybody's generators left as they were."""

from __future__ import annotations

import random
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

import numpy as np
import torch

T = TypeVar("T")


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Seed torch (CPU), ``random`` and NumPy's global generator inside, and put all three back afterwards.

    Args:
        seed: Any whole number.
    """
    before = _states()
    torch.default_generator.manual_seed(seed)
    random.seed(seed)
    np.random.seed(seed % 2**32)  # noqa: NPY002 (the generator that the user's own code draws from)
    try:
        yield
    finally:
        _restore(before)


def steadily(source: Iterable[T], seed: int) -> Iterator[T]:
    """Iterate as if all three generators had been seeded at the start; what runs between the items does not see that.

    Args:
        source: What is iterated, from ``iter(source)`` on.
        seed: Any whole number.

    Yields:
        The items of ``source``.
    """
    with seeded(seed):
        iterator, states = iter(source), _states()
    while True:
        before = _states()
        _restore(states)
        try:
            item = next(iterator)
        except StopIteration:
            return
        finally:
            states = _states()
            _restore(before)
        yield item


def _states() -> tuple[Any, ...]:
    return torch.default_generator.get_state(), random.getstate(), np.random.get_state()  # noqa: NPY002


def _restore(states: tuple[Any, ...]) -> None:
    torch.default_generator.set_state(states[0])
    random.setstate(states[1])
    np.random.set_state(states[2])  # noqa: NPY002
