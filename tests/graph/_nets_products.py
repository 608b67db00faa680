"""Small networks that multiply activations with one another: attention, correlations, context."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ._cases import buf, conv, one, par


class Heads(nn.Module):
    """Attention whose number of heads is an attribute."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.num_heads = heads
        self.head_size = width // heads
        self.width = width
        self.qkv = nn.Linear(width, 3 * width)
        self.proj = nn.Linear(width, width)

    def cut(self, x: Tensor) -> Tensor:
        return self.qkv(x).reshape(x.shape[0], x.shape[1], 3, self.num_heads, self.head_size)

    def attend(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        return F.scaled_dot_product_attention(q, k, v)

    def forward(self, x: Tensor) -> Tensor:
        n, tokens, _ = x.shape
        y = self.attend(*self.cut(x).permute(2, 0, 3, 1, 4).unbind(0))
        return self.proj(y.transpose(1, 2).reshape(n, tokens, self.width))


class Paths(nn.Module):
    """Weighs copies of every channel (a selective kernel); both numbers of its view are attributes."""

    def __init__(self, width: int, paths: int) -> None:
        super().__init__()
        self.paths, self.width = paths, width
        self.a = nn.Linear(width, paths * width)

    def forward(self, x: Tensor) -> Tensor:
        share = self.a(x.mean((2, 3))).view(x.shape[0], self.paths, self.width, 1, 1).softmax(1)
        return (torch.stack([x, x.sigmoid()], 1) * share).sum(1)


class PlainHeads(Heads):
    def attend(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        return (q @ k.transpose(-2, -1)).softmax(-1) @ v


class OpenHeads(Heads):
    def cut(self, x: Tensor) -> Tensor:
        return self.qkv(x).unflatten(2, (3, -1, 2))


class OpenSize(Heads):
    def cut(self, x: Tensor) -> Tensor:
        return self.qkv(x).unflatten(2, (3, 2, -1))


class MaskedHeads(Heads):
    def __init__(self, width: int, heads: int, masks: int = 1) -> None:
        super().__init__(width, heads)
        self.register_buffer("mask", buf(masks, 36, 36))

    def attend(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        return F.scaled_dot_product_attention(q, k, v, attn_mask=self.mask)


def _mha() -> nn.Module:
    return nn.MultiheadAttention(8, 2, batch_first=True)


def _tokens(module: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    return module(x.flatten(2).transpose(1, 2)).transpose(1, 2).unflatten(2, x.shape[2:])


one(
    "matmul with the channels",
    "right",
    lambda m, x: torch.matmul(x.flatten(2).transpose(1, 2), m.w).transpose(1, 2).unflatten(2, (6, 6)),
    w=lambda: par(8, 8),
)
one("einsum", "refused", lambda m, x: torch.einsum("nchw,cd->ndhw", x, m.w), w=lambda: par(8, 8))
one("matmul over positions", "right", lambda m, x: x @ m.w, w=lambda: par(6, 6))
one("einsum over positions", "right", lambda m, x: torch.einsum("nchw,wv->nchv", x, m.w), w=lambda: par(6, 6))
one(
    "correlation of two layers",
    "right",
    lambda m, x: x * torch.bmm(m.a(x).flatten(2).mT, m.b(x).flatten(2)).softmax(-1).amax((1, 2))[:, None, None, None],
    a=lambda: conv(8, 6),
    b=lambda: conv(8, 6),
)
one("product by einsum", "right", lambda m, x: torch.einsum("nchw,nchv->nchv", x, m.a(x)), a=lambda: conv(8, 8))
one(
    "global context",
    "partly",
    lambda m, x: (
        x + m.b((x.flatten(2).unsqueeze(1) @ m.a(x).flatten(2).softmax(-1)[..., None]).flatten(1)[..., None, None])
    ),
    a=lambda: conv(8, 1, 1),
    b=lambda: conv(8, 8, 1),
)
one("attention heads", "right", lambda m, x: _tokens(m.a, x), a=lambda: Heads(8, 4))
one("paths weighed by channel", "right", lambda m, x: m.a(x), a=lambda: Paths(8, 2))
one("attention heads of three", "right", lambda m, x: _tokens(m.a, x), width=9, a=lambda: Heads(9, 3))
one("attention heads by matmul", "right", lambda m, x: _tokens(m.a, x), a=lambda: PlainHeads(8, 2))
one("attention heads of open number", "right", lambda m, x: _tokens(m.a, x), a=lambda: OpenHeads(8, 4))
one("attention with heads of open size", "partly", lambda m, x: _tokens(m.a, x), a=lambda: OpenSize(8, 2))
one("attention with a mask", "right", lambda m, x: _tokens(m.a, x), a=lambda: MaskedHeads(8, 4))
one("attention with a mask for each head", "partly", lambda m, x: _tokens(m.a, x), a=lambda: MaskedHeads(8, 4, 4))
one(
    "torch's attention",
    "refused",
    lambda m, x: _tokens(lambda y: m.a(y, y, y, need_weights=False)[0], x),
    a=lambda: _mha(),
)
one(
    "bilinear attention",
    "refused",
    lambda m, x: torch.bmm(x.flatten(2), x.flatten(2).transpose(1, 2)).unsqueeze(1).expand(-1, 8, -1, -1),
)
