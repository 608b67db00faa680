"""Networks whose code says how many channels there are, in every way that a forward can: each must lose channels all the same."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ._cases import Net, conv

HIDDEN = 16


class Split(nn.Module):
    """Cuts its input at places that are fixed in the code, in a helper that is called twice."""

    def __init__(self) -> None:
        super().__init__()
        self.a = conv(4, 4, 1)

    def forward(self, x: Tensor) -> Tensor:
        first, rest = _cut(x, 4)
        second, rest = _cut(rest, 5)
        return torch.cat([rest, self.a(first).relu(), second.sigmoid()], 1)


def _cut(x: Tensor, size: int) -> tuple[Tensor, Tensor]:
    return x[:, :size], x[:, size:]


class Looped(nn.Module):
    """The same line cuts another piece each time."""

    def forward(self, x: Tensor) -> Tensor:
        pieces, start = [], 0
        for size in (2, 3, 11):
            pieces.append(x.narrow(1, start, size) * (1 + size))
            start += size
        return torch.cat(pieces[::-1], 1)


class Heads(nn.Module):
    """Attention over positions whose heads' shape is numbers in the code."""

    def __init__(self, *, fused: bool = False) -> None:
        super().__init__()
        self.qkv, self.proj, self.fused = nn.Conv2d(16, 48, 1), nn.Conv2d(16, 16, 1), fused

    def forward(self, x: Tensor) -> Tensor:
        b, _, h, w = x.shape
        q, k, v = self.qkv(x).reshape(b, 3, 2, 8, h * w).unbind(1)
        if self.fused:
            q, k, v = q.mT, k.mT, v.mT
            out = F.scaled_dot_product_attention(q, k, v, scale=0.3).mT
        else:
            out = v @ (q.mT @ k * 0.3).softmax(-1).mT
        return self.proj(out.reshape(b, 16, h, w))


class HeadsApart(nn.Module):
    """Queries, keys and values of layers of their own, by tokens, the head size fixed."""

    def __init__(self) -> None:
        super().__init__()
        self.q, self.k, self.v, self.o = (nn.Linear(16, 16) for _ in range(4))

    def forward(self, x: Tensor) -> Tensor:
        t = x.flatten(2).transpose(1, 2)
        q, k, v = (layer(t).view(t.shape[0], -1, 2, 8).transpose(1, 2) for layer in (self.q, self.k, self.v))
        out = (q @ k.transpose(-2, -1) / 3).softmax(-1) @ v
        return self.o(out.transpose(1, 2).reshape(t.shape[0], -1, 16)).transpose(1, 2).unflatten(2, (6, 6))


class Shared(nn.Module):
    """One module that runs twice."""

    def __init__(self) -> None:
        super().__init__()
        self.cut = Split()

    def forward(self, x: Tensor) -> Tensor:
        return self.cut(F.relu(self.cut(x)))


def _shuffle(x: Tensor) -> Tensor:
    n, _, h, w = x.shape
    return x.view(n, 2, 8, h, w).transpose(1, 2).reshape(n, 16, h, w)


def _assign(x: Tensor, y: Tensor) -> Tensor:
    x = x.clone()
    x[:, 3:] = y
    return x


def _scatter(x: Tensor, y: Tensor) -> Tensor:
    return torch.slice_scatter(x, y, 1, 3, 16)


_PERMUTATION = torch.randperm(HIDDEN, generator=torch.Generator().manual_seed(0))


class Permuted(nn.Module):
    """Picks channels by a buffer."""

    def __init__(self, places: Tensor) -> None:
        super().__init__()
        self.register_buffer("places", places)

    def forward(self, x: Tensor) -> Tensor:
        return x[:, self.places]


Make = Callable[[], nn.Module]


def _plain(function: Callable[[Tensor], Tensor], out: int = HIDDEN) -> Make:
    return _with(lambda m, x: function(x), out)


def _with(function: Callable[..., Tensor], out: int = HIDDEN, **members: Callable[[], nn.Module]) -> Make:
    def middle(m: Any, x: Tensor) -> Tensor:
        return m.last(function(m, F.relu(m.first(x))).sigmoid())

    return lambda: Net(
        middle, first=conv(3, HIDDEN), last=conv(out, 4), **{name: make() for name, make in members.items()}
    )


def _module(make: Make, out: int = HIDDEN) -> Make:
    return _with(lambda m, x: m.a(x), out, a=make)


NETS: dict[str, Make] = {
    "split into listed sizes": _plain(lambda x: torch.mul(*x.split([8, 8], 1)), 8),
    "split into unequal sizes": _plain(lambda x: torch.cat([x.split([3, 13], 1)[1], x.split((3, 13), dim=1)[0]], 1)),
    "split by one size": _plain(lambda x: torch.mul(*torch.split(x, 8, 1)), 8),
    "split with a rest": _plain(lambda x: torch.cat(x.split(split_size=7, dim=1)[::-1], 1)),
    "uneven chunk": _plain(lambda x: torch.cat(torch.chunk(x, 3, dim=1)[::-1], 1)),
    "tensor_split": _plain(lambda x: torch.cat(x.tensor_split(3, 1)[::-1], 1)),
    "slices": _plain(lambda x: torch.cat([x[:, 5:], x[:, :5] * 2], 1)),
    "slice in the middle": _plain(lambda x: x[:, 3:9] + x[:, 6:12], 6),
    "slices from the end": _plain(lambda x: torch.cat([x[:, -5:], x[..., :-5, :, :] * 2], 1)),
    "narrow": _plain(lambda x: torch.cat([x.narrow(1, 5, 11), torch.narrow(x, dim=1, start=0, length=5) * 2], 1)),
    "narrow in a loop": _module(Looped),
    "helper called twice": _module(Split),
    "module called twice": _module(Shared),
    "view": _plain(lambda x: x.view(-1, 16, 36).reshape(-1, 16, 6, 6)),
    "view and linear": lambda: Net(
        lambda m, x: m.b(F.adaptive_avg_pool2d(m.a(x), 2).view(-1, 16 * 2 * 2)), a=conv(3, 16), b=nn.Linear(64, 4)
    ),
    "unflatten": _plain(lambda x: x.unflatten(1, (2, 8)).transpose(1, 2).flatten(1, 2)),
    "nn.Unflatten": _with(lambda m, x: m.a(x).transpose(1, 2).flatten(1, 2), a=lambda: nn.Unflatten(1, (2, 8))),
    "expand": _with(lambda m, x: x * m.a(x.mean((2, 3), keepdim=True)).expand(-1, 16, 6, 6), a=lambda: conv(16, 16, 1)),
    "channel shuffle": _plain(_shuffle),
    "channel shuffle between grouped convolutions": _with(
        lambda m, x: m.b(_shuffle(m.a(x))), a=lambda: conv(16, 16, groups=2), b=lambda: conv(16, 16, groups=2)
    ),
    "heads": _module(Heads),
    "heads of layers apart": _module(HeadsApart),
    "permutation in a list": _plain(lambda x: x[:, [15, 14, 0, 1, 2, 3, 13, 12, 11, 10, 9, 4, 5, 6, 7, 8]]),
    "permutation in a buffer": _module(lambda: Permuted(_PERMUTATION)),
    "subset in a buffer": _module(lambda: Permuted(_PERMUTATION[:6]), 6),
    "channels picked twice": _plain(lambda x: x[:, torch.tensor([1, 1, 5, 5, 3, 3, 8, 8])], 8),
    "index_select": _plain(lambda x: x.index_select(1, _PERMUTATION)),
    "roll": _plain(lambda x: torch.roll(x, 3, 1)),
    "roll back": _plain(lambda x: x.roll(-3, dims=1)),
    "flip": _plain(lambda x: x.flip(1) + x.sigmoid()),
    "strided slices": _plain(lambda x: torch.cat([x[:, ::2], x[:, 1::2]], 1)),
    "slice assignment": _with(lambda m, x: _assign(x, m.a(x)), a=lambda: conv(16, 13)),
}
"""Each between two convolutions, the first of which has ``HIDDEN`` channels."""
