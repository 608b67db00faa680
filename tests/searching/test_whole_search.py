"""A whole search, finishing included, over every small network that the tests know: pruned, or refused in a sentence."""

from __future__ import annotations

import importlib.util
import zlib
from collections.abc import Callable
from typing import Any

import pytest
from torch import nn

from .._benchmarks import benchmark
from .._sample import FULL, pick
from .._whole import SETTINGS, whole_search
from .._whole_networks import SMALL
from ..graph import _nets_products
from ..graph._nets import CASES
from ..reconstruct import _networks as reconstructed
from ..surgery import _networks as operated

assert _nets_products  # it adds to the cases

Shaped = tuple[Callable[[], nn.Module], tuple[int, ...]]


def networks() -> dict[str, Shaped]:
    """Return all by their names."""
    found: dict[str, Shaped] = {f"strangers: {name}": (entry.make, entry.shape) for name, entry in SMALL.items()}
    found |= {f"graph: {name}": (make, (3, 6, 6)) for name, (make, _) in CASES.items()}
    for name in ("Residual", "Plain", "Grouped"):
        found[f"reconstruct: {name}"] = (getattr(reconstructed, name), (3, 8, 8))
    for make in (operated.mixed, operated.chain):
        found[f"surgery: {make.__name__}"] = (lambda make=make: make()[0], tuple(make()[2].shape[1:]))
    return found


def zoo() -> list[Any]:
    """Return the networks of torchvision and, where it is installed, timm that the table of coverage has."""
    module = benchmark("_zoo")
    has_timm = importlib.util.find_spec("timm") is not None
    return [pytest.param(module, entry, id=entry.key) for entry in module.zoo() if entry.source != "timm" or has_timm]


ALL = networks()


@pytest.mark.parametrize("name", pick(list(ALL)[: len(SMALL)], 2) + pick(list(ALL)[len(SMALL) :], 3))
def test_a_search_ends_with_a_network_or_a_sentence(name: str) -> None:
    settings = SETTINGS[zlib.crc32(name.encode()) % len(SETTINGS)]
    whole_search(*ALL[name], settings, tune=name.startswith("strangers"))


@pytest.mark.parametrize(("module", "entry"), zoo() if FULL else [])
def test_a_search_over_a_published_network_ends_so_too(module: Any, entry: Any) -> None:
    whole_search(lambda: module.build(entry), (3, entry.side, entry.side), SETTINGS[0], tune=False)
