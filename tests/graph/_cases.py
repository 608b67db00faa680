"""The table of small networks, and what they are made of."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class Net(nn.Module):
    """Modules, plain parameters and buffers, and a forward that uses them."""

    def __init__(self, forward: Callable[..., Any], **members: Any) -> None:
        super().__init__()
        self.function = forward
        for name, member in members.items():
            if isinstance(member, Tensor) and not isinstance(member, nn.Parameter):
                self.register_buffer(name, member)
            else:
                setattr(self, name, member)

    def forward(self, x: Tensor) -> Any:
        return self.function(self, x)


def conv(i: int, o: int, k: int = 3, **options: Any) -> nn.Conv2d:
    return nn.Conv2d(i, o, k, padding=k // 2, **options)


def par(*shape: int) -> nn.Parameter:
    return nn.Parameter(torch.rand(shape, generator=torch.Generator().manual_seed(sum(shape))) + 0.5)


def buf(*shape: int) -> Tensor:
    return par(*shape).detach()


def sandwich(middle: Callable[..., Any], width: int = 8, out: int | None = None, **members: Any) -> Net:
    """Return conv -> ``middle(m, x)`` -> conv; ``middle`` gives ``out`` channels."""
    return Net(
        lambda m, x: m.last(middle(m, F.relu(m.first(x)))), first=conv(3, width), last=conv(out or width, 4), **members
    )


Case = tuple[Callable[[], nn.Module], str]
CASES: dict[str, Case] = {}


def case(name: str, expected: str, make: Callable[[], nn.Module]) -> None:
    assert name not in CASES
    CASES[name] = (make, expected)


def one(
    name: str, expected: str, middle: Callable[..., Any], width: int = 8, out: int | None = None, **make: Any
) -> None:
    """Add a sandwich; members are given as functions, so that every network gets its own."""
    case(
        name,
        expected,
        lambda: sandwich(middle, width, out, **{key: build() for key, build in make.items()}),
    )
