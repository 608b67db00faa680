"""Loaders that are gone through again and again: the same batches every time, and generators left as they were."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch.utils.data import DataLoader


class Rewound:
    """A loader that gives the same batches every time, whatever its own generators, which are left as they were."""

    def __init__(self, loader: DataLoader[Any]) -> None:
        self._loader = loader
        self._start = [generator.get_state() for generator in _generators(loader)]

    def __iter__(self) -> Iterator[Any]:
        with rewinding(self._loader):
            for generator, state in zip(_generators(self._loader), self._start, strict=True):
                generator.set_state(state)
            yield from self._loader


@contextmanager
def rewinding(loader: DataLoader[Any]) -> Iterator[None]:
    """Put a loader's own generators back afterwards."""
    before = [(generator, generator.get_state()) for generator in _generators(loader)]
    try:
        yield
    finally:
        for generator, state in before:
            generator.set_state(state)


def _generators(loader: DataLoader[Any]) -> list[torch.Generator]:
    sampler = loader.batch_sampler
    owners = (loader, loader.sampler, sampler, getattr(sampler, "sampler", None))
    found = [getattr(owner, "generator", None) for owner in owners]
    unique = {id(generator): generator for generator in found if isinstance(generator, torch.Generator)}
    return list(unique.values())
