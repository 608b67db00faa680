"""Small networks, each one operator or idiom, with what must become of them.

"right": all channels between layers can go; "refused": none can; "partly": some can, and the others say why not.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils import parametrizations
from torch.nn.utils.parametrize import register_parametrization
from torch.utils.checkpoint import checkpoint
from torchvision.ops import FrozenBatchNorm2d, SqueezeExcitation, StochasticDepth

from ._cases import CASES, Net, buf, case, conv, one, par, sandwich
from ._nets_products import Heads


@dataclass
class Two:
    first: Tensor
    second: Tensor


class Gain(nn.Module):
    """A parametrization: a factor for every output channel."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.gain = par(channels, 1, 1, 1)

    def forward(self, weight: Tensor) -> Tensor:
        return weight * self.gain


def _scripted(layer: nn.Module) -> nn.Module:
    with warnings.catch_warnings(action="ignore"):  # torch.jit is old
        return torch.jit.script(layer)


def _parametrized(layer: nn.Conv2d) -> nn.Module:
    return register_parametrization(layer, "weight", Gain(layer.out_channels))


class Mean(nn.Module):
    """Adds the mean over a dimension of fixed size."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.dim = dim

    def forward(self, x: Tensor) -> Tensor:
        return x + x.mean(self.dim, keepdim=True)


def _shuffle(x: Tensor, groups: int) -> Tensor:
    n, c, h, w = x.shape
    return x.view(n, groups, c // groups, h, w).transpose(1, 2).reshape(n, c, h, w)


def _write(x: Tensor, y: Tensor) -> Tensor:
    x = x.clone()
    x[:, : x.shape[1] // 2] = y
    return x


# Element-wise
one("relu6", "right", lambda m, x: F.relu6(x - 1))
one("hardswish and hardsigmoid", "right", lambda m, x: F.hardswish(x) + F.hardsigmoid(x))
one("sigmoid of the producer", "right", lambda m, x: torch.sigmoid(x))
one("exp and cos", "right", lambda m, x: torch.exp(-x) + torch.cos(x))
one("in-place chain", "right", lambda m, x: x.clone().mul_(2).add_(1).relu_().clamp_(max=3))
one("dropout", "right", lambda m, x: F.dropout(x, 0.5, m.training))
one("addcmul", "right", lambda m, x: torch.addcmul(x, m.a(x), m.b(x)), a=lambda: conv(8, 8), b=lambda: conv(8, 8))
one("lerp", "right", lambda m, x: torch.lerp(x, m.a(x), 0.3), a=lambda: conv(8, 8))
one("where", "right", lambda m, x: torch.where(x > 0.1, x, m.a(x)), a=lambda: conv(8, 8))
one("maximum (maxout)", "right", lambda m, x: torch.maximum(x, m.a(x)), a=lambda: conv(8, 8))
one("subtraction", "right", lambda m, x: m.a(x) - x, a=lambda: conv(8, 8))
one("masked_fill", "right", lambda m, x: x.masked_fill(x > 0.5, 0.25))
one("power and square root", "right", lambda m, x: (x**2 + 1).sqrt() / (1 + x.abs()))
one("half precision in between", "right", lambda m, x: x.half().sigmoid().add(0.5).to(x.dtype))
one("half the network in float64", "right", lambda m, x: x.double().mul(2).to(x.dtype))
one("zeros_like", "right", lambda m, x: torch.zeros_like(x).add_(m.a(x)), a=lambda: conv(8, 8))
one(
    "accumulator made in the code",
    "right",
    lambda m, x: sum((m.a(x), m.b(x)), torch.zeros(1)),
    a=lambda: conv(8, 8),
    b=lambda: conv(8, 8),
)
# Parameters and buffers
one("buffer [1, C, 1, 1]", "right", lambda m, x: x * m.s, s=lambda: buf(1, 8, 1, 1))
one("layer scale [C, 1, 1]", "right", lambda m, x: x + m.s * m.a(x), s=lambda: par(8, 1, 1), a=lambda: conv(8, 8))
one("scale [C] viewed", "right", lambda m, x: x * m.s.view(1, -1, 1, 1), s=lambda: par(8))
one("scale [C] indexed with None", "right", lambda m, x: x * m.s[None, :, None, None], s=lambda: par(8))
one("scale and positions [1, C, 6, 6]", "right", lambda m, x: x + m.s, s=lambda: par(1, 8, 6, 6))
one(
    "frozen batch norm",
    "right",
    lambda m, x: (
        x * (m.w * (m.v + 1e-5).rsqrt()).reshape(1, -1, 1, 1) + (m.b - m.u * m.w * m.v.rsqrt()).reshape(1, -1, 1, 1)
    ),
    w=lambda: buf(8),
    v=lambda: buf(8),
    b=lambda: buf(8),
    u=lambda: buf(8),
)
one("FrozenBatchNorm2d", "right", lambda m, x: m.n(m.a(x)), a=lambda: conv(8, 8), n=lambda: FrozenBatchNorm2d(8))
one("SqueezeExcitation", "right", lambda m, x: m.s(x), s=lambda: SqueezeExcitation(8, 4))
one(
    "stochastic depth",
    "right",
    lambda m, x: x + m.d(m.a(x)),
    a=lambda: conv(8, 8),
    d=lambda: StochasticDepth(0.5, "row"),
)
one("scalar parameter", "right", lambda m, x: x * m.s, s=lambda: par(1))
one("learned spatial map [1, 1, 6, 6]", "right", lambda m, x: x * m.s, s=lambda: par(1, 1, 6, 6))
one(
    "constant tensor in the code", "refused", lambda m, x: x * torch.tensor([1.0, 2, 3, 4, 5, 6, 7, 8]).view(1, 8, 1, 1)
)
one("ones as wide as the channels", "right", lambda m, x: x + torch.ones(1, x.shape[1], 1, 1))
one(
    "functional conv",
    "right",
    lambda m, x: F.conv2d(x, m.w, m.b, padding=1),
    s=lambda: par(1),
    w=lambda: nn.Parameter(torch.randn(8, 8, 3, 3) * 0.2),
    b=lambda: par(8),
)
one(
    "functional batch norm",
    "right",
    lambda m, x: F.batch_norm(x, m.u, m.v, m.w, m.b),
    u=lambda: buf(8),
    v=lambda: buf(8),
    w=lambda: par(8),
    b=lambda: par(8),
)
one("PReLU with one slope", "right", lambda m, x: m.p(x - 1), p=nn.PReLU)
one("PReLU per channel", "right", lambda m, x: m.p(x - 1), p=lambda: nn.PReLU(8))
one(
    "PReLU shared at two widths",
    "right",
    lambda m, x: m.a(m.p(m.b(m.p(x - 1)))),
    p=nn.PReLU,
    a=lambda: conv(6, 8),
    b=lambda: conv(8, 6),
)
# Joins
one("residual", "right", lambda m, x: x + m.a(x), a=lambda: conv(8, 8))
one("dense concat", "right", lambda m, x: torch.cat([x, m.a(x)], 1), out=14, a=lambda: conv(8, 6))
case(
    "concat with the network's input",
    "right",
    lambda: Net(lambda m, x: m.b(torch.cat([x, m.a(x)], 1)), a=conv(3, 8), b=conv(11, 4)),
)
case("sum with the network's input", "refused", lambda: Net(lambda m, x: m.b(x + m.a(x)), a=conv(3, 3), b=conv(3, 4)))
one("concat of positions", "right", lambda m, x: torch.cat([x, m.a(x)], 2), a=lambda: conv(8, 8))
one("stack and mean", "right", lambda m, x: torch.stack([x, m.a(x)]).mean(0), a=lambda: conv(8, 8))
one(
    "stack beside the channels",
    "right",
    lambda m, x: torch.stack([x, m.a(x)], 2).flatten(1, 2),
    out=16,
    a=lambda: conv(8, 8),
)
one(
    "squeeze and excitation",
    "right",
    lambda m, x: x * torch.sigmoid(m.b(F.relu(m.a(F.adaptive_avg_pool2d(x, 1))))),
    a=lambda: conv(8, 4, 1),
    b=lambda: conv(4, 8, 1),
)
one(
    "excitation with linear layers",
    "right",
    lambda m, x: x * torch.sigmoid(m.b(F.relu(m.a(x.mean((2, 3)))))).unsqueeze(-1).unsqueeze(-1),
    a=lambda: nn.Linear(8, 4),
    b=lambda: nn.Linear(4, 8),
)
one(
    "excitation expanded",
    "right",
    lambda m, x: x * torch.sigmoid(m.a(x.mean((2, 3), keepdim=True))).expand_as(x),
    a=lambda: conv(8, 8, 1),
)
one("spatial attention", "partly", lambda m, x: x * torch.sigmoid(m.a(x)), a=lambda: conv(8, 1))
one("spatial attention expanded", "partly", lambda m, x: x * torch.sigmoid(m.a(x)).expand_as(x), a=lambda: conv(8, 1))
one(
    "repeated channels",
    "right",
    lambda m, x: m.a(x).repeat(1, 2, 1, 1) + torch.cat([x, x], 1),
    out=16,
    a=lambda: conv(8, 8),
)
one("tied weights", "right", lambda m, x: F.relu(m.a(F.relu(m.a(x)))), a=lambda: conv(8, 8))
one("detached branch", "right", lambda m, x: x + m.a(x.detach()), a=lambda: conv(8, 8))
one("zero-padded shortcut", "partly", lambda m, x: F.pad(x, (0, 0, 0, 0, 2, 2)) + m.a(x), out=12, a=lambda: conv(8, 12))
one(
    "shortcut padded by concat",
    "partly",
    lambda m, x: torch.cat([x, torch.zeros(x.shape[0], 4, *x.shape[2:])], 1) + m.a(x),
    out=12,
    a=lambda: conv(8, 12),
)
# Cuts
one("chunk", "right", lambda m, x: torch.mul(*x.chunk(2, 1)), out=4)
one(
    "chunk into two branches",
    "right",
    lambda m, x: torch.cat([m.a(x.chunk(2, 1)[0]), x.chunk(2, 1)[1]], 1),
    a=lambda: conv(4, 4),
)
one("uneven split", "right", lambda m, x: torch.cat([m.a(x[:, :3]), x[:, 3:]], 1), a=lambda: conv(3, 3))
one(
    "split with sizes",
    "right",
    lambda m, x: torch.cat([m.a(x.split([3, 5], 1)[0]), x.split([3, 5], 1)[1]], 1),
    a=lambda: conv(3, 3),
)
one(
    "half by a computed slice",
    "right",
    lambda m, x: torch.cat([m.a(x[:, : x.shape[1] // 2]), x[:, x.shape[1] // 2 :]], 1),
    a=lambda: conv(4, 4),
)
one("half by a fixed slice", "right", lambda m, x: torch.cat([m.a(x[:, :4]), x[:, 4:]], 1), a=lambda: conv(4, 4))
one("strided slice of channels", "right", lambda m, x: torch.cat([m.a(x[:, ::2]), x[:, 1::2]], 1), a=lambda: conv(4, 4))
one("one channel picked", "partly", lambda m, x: x * x[:, 3:4])
one("select", "partly", lambda m, x: x[:, 2].unsqueeze(1) + m.a(x), a=lambda: conv(8, 8))
one("index_select of channels", "right", lambda m, x: x.index_select(1, torch.tensor([7, 6, 5, 4, 3, 2, 1, 0])))
one("channel shuffle", "right", lambda m, x: m.a(_shuffle(x, 2)), a=lambda: conv(8, 8, groups=2))
one("nn.ChannelShuffle", "right", lambda m, x: nn.ChannelShuffle(4)(x))
one("pixel shuffle", "right", lambda m, x: F.pixel_shuffle(x, 2), out=2)
one("groups of open number", "right", lambda m, x: m.n(x.unflatten(1, (-1, 2))).flatten(1, 2), n=lambda: Mean(2))
one(
    "channels viewed with an open size",
    "right",
    lambda m, x: x.view(x.shape[0], -1, 4, 6, 6).transpose(1, 2).reshape(x.shape),
)
one(
    "uneven chunk",
    "right",
    lambda m, x: torch.cat([m.a(x.chunk(3, 1)[0]), *x.chunk(3, 1)[1:]], 1),
    a=lambda: conv(3, 3),
)
one("pixel unshuffle", "right", lambda m, x: F.pixel_unshuffle(x, 2), out=32)
one("glu", "right", lambda m, x: F.glu(x, 1), out=4)
one("in-place slice assignment", "right", lambda m, x: _write(x, m.a(x)), a=lambda: conv(8, 4))
one("written into zeros", "partly", lambda m, x: _write(x.new_zeros(x.shape[0], 8, 6, 6), m.a(x)), a=lambda: conv(8, 4))
# Movement
one("flip of positions", "right", lambda m, x: x.flip(3))
one("flip of channels", "right", lambda m, x: x.flip(1) + m.a(x), a=lambda: conv(8, 8))
one("roll of positions", "right", lambda m, x: torch.roll(x, (1, 2), (2, 3)))
one("roll of channels", "right", lambda m, x: torch.roll(x, 1, 1))
one("constant pad of positions", "right", lambda m, x: F.pad(x, (1, 2, 0, 1)))
one(
    "reflection and replication pads",
    "right",
    lambda m, x: F.pad(F.pad(x, (1, 1, 1, 1), mode="reflect"), (1, 1, 1, 1), mode="replicate"),
)
one("circular pad", "right", lambda m, x: F.pad(x, (1, 1, 1, 1), mode="circular"))
one("strided slice of positions", "right", lambda m, x: x[:, :, ::2, 1::2])
one(
    "channels last and back",
    "right",
    lambda m, x: m.n(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2),
    n=lambda: nn.Linear(8, 8),
)
one("memory format", "right", lambda m, x: x.contiguous(memory_format=torch.channels_last))
one(
    "tokens and back",
    "right",
    lambda m, x: m.n(x.flatten(2).transpose(1, 2)).transpose(1, 2).unflatten(2, (6, 6)),
    n=lambda: nn.Linear(8, 8),
)
one("hard-coded view", "right", lambda m, x: x.view(-1, 8, 36).view(-1, 8, 6, 6))
case(
    "hard-coded view before a linear layer",
    "right",
    lambda: Net(lambda m, x: m.n(F.adaptive_avg_pool2d(m.a(x), 1).view(-1, 8)), a=conv(3, 8), n=nn.Linear(8, 4)),
)
case(
    "flatten into linear",
    "right",
    lambda: Net(lambda m, x: m.n(torch.flatten(m.a(x), 1)), a=conv(3, 8), n=nn.Linear(288, 4)),
)
case(
    "flatten, concat, linear",
    "right",
    lambda: Net(
        lambda m, x: m.n(torch.cat([m.a(x).flatten(1), m.b(x).mean((2, 3))], 1)),
        a=conv(3, 8),
        b=conv(3, 6),
        n=nn.Linear(294, 4),
    ),
)
# Convolutions
one("depthwise", "right", lambda m, x: m.a(x), a=lambda: conv(8, 8, groups=8))
one("depthwise with multiplier 2", "right", lambda m, x: m.a(x), out=16, a=lambda: conv(8, 16, groups=8))
one("grouped", "right", lambda m, x: m.a(x), a=lambda: conv(8, 8, groups=4))
one(
    "different group counts on one tensor",
    "right",
    lambda m, x: m.a(x) + m.b(x),
    a=lambda: conv(8, 8, groups=4),
    b=lambda: conv(8, 8, groups=2),
)
one("transposed", "right", lambda m, x: m.a(x), out=6, a=lambda: nn.ConvTranspose2d(8, 6, 2, 2))
one("grouped and transposed", "right", lambda m, x: m.a(x), a=lambda: nn.ConvTranspose2d(8, 8, 2, 2, groups=4))
one("dilated, padding same", "right", lambda m, x: m.a(x), a=lambda: nn.Conv2d(8, 8, 3, padding="same", dilation=2))
case(
    "one-dimensional",
    "right",
    lambda: Net(
        lambda m, x: m.b(F.max_pool1d(F.relu(m.a(x.flatten(2))), 2)), a=nn.Conv1d(3, 8, 3), b=nn.Conv1d(8, 4, 3)
    ),
)
case(
    "three-dimensional",
    "right",
    lambda: Net(
        lambda m, x: m.b(F.relu(m.a(x.unsqueeze(2)))), a=nn.Conv3d(3, 8, (1, 3, 3)), b=nn.Conv3d(8, 4, (1, 3, 3))
    ),
)
one("weight norm", "right", lambda m, x: m.a(x), a=lambda: parametrizations.weight_norm(conv(8, 8)))
one("parametrization of one's own", "right", lambda m, x: m.a(x), a=lambda: _parametrized(conv(8, 8)))
one("spectral norm", "right", lambda m, x: m.a(x), a=lambda: parametrizations.spectral_norm(conv(8, 8)))
one(
    "weight norm further on",
    "right",
    lambda m, x: m.b(F.relu(m.a(x))),
    a=lambda: parametrizations.weight_norm(conv(8, 8)),
    b=lambda: conv(8, 8),
)
# Norms, pools, reductions
one("batch norm", "right", lambda m, x: m.n(x), n=lambda: nn.BatchNorm2d(8))
one("instance norm", "right", lambda m, x: F.instance_norm(x))
one("local response norm", "refused", lambda m, x: m.n(x), n=lambda: nn.LocalResponseNorm(3))
one("batch norm without scale", "right", lambda m, x: m.n(x), n=lambda: nn.BatchNorm2d(8, affine=False))
one(
    "instance norm with statistics",
    "right",
    lambda m, x: m.n(x),
    n=lambda: nn.InstanceNorm2d(8, affine=True, track_running_stats=True),
)
one("group norm", "right", lambda m, x: m.n(x), n=lambda: nn.GroupNorm(2, 8))
one("group norm of single channels", "right", lambda m, x: m.n(x), n=lambda: nn.GroupNorm(8, 8))
one(
    "layer norm over channels",
    "right",
    lambda m, x: m.n(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2),
    n=lambda: nn.LayerNorm(8),
)
one("pools", "right", lambda m, x: F.max_pool2d(x, 2) + F.avg_pool2d(x, 2) + F.adaptive_max_pool2d(x, 3))
one(
    "interpolation",
    "right",
    lambda m, x: F.interpolate(x, scale_factor=2, mode="bilinear") + F.interpolate(x, size=(12, 12)),
)
one("mean over channels", "partly", lambda m, x: x.mean(1, keepdim=True) * m.a(x), a=lambda: conv(8, 8))
one("sum over channels", "partly", lambda m, x: x.sum(1, keepdim=True) * m.a(x), a=lambda: conv(8, 8))
one("maximum over channels", "partly", lambda m, x: x.amax(1, keepdim=True) * m.a(x), a=lambda: conv(8, 8))
one("softmax over channels", "refused", lambda m, x: x.softmax(1))
one("softmax over positions", "right", lambda m, x: x.flatten(2).softmax(-1).view_as(x))
one("normalised over channels", "right", lambda m, x: F.normalize(x, dim=1))
one("an unknown operator over channels", "refused", lambda m, x: torch.logcumsumexp(x, 1))
one(
    "united channels meet a sum",
    "right",
    lambda m, x: F.pixel_shuffle(x, 2).repeat(1, 4, 1, 1) + m.a(F.interpolate(x, scale_factor=2)),
    a=lambda: conv(8, 8),
)
# Outputs, control flow, wrappers
case(
    "tuple of outputs",
    "right",
    lambda: Net(lambda m, x: (m.b(F.relu(m.a(x))), m.c(m.a(x))), a=conv(3, 8), b=conv(8, 4), c=conv(8, 2)),
)
case(
    "dict of outputs",
    "right",
    lambda: Net(
        lambda m, x: {"out": m.b(F.relu(m.a(x))), "aux": m.c(F.relu(m.a(x)))}, a=conv(3, 8), b=conv(8, 4), c=conv(8, 2)
    ),
)
one("checkpoint", "right", lambda m, x: checkpoint(m.a, x, use_reentrant=False), a=lambda: conv(8, 8))
one("no_grad inside", "right", lambda m, x: _no_grad(m, x), a=lambda: conv(8, 8))
one("branch on the channel count", "right", lambda m, x: x * 2 if x.shape[1] > 0 else x)
one("region without autocast", "right", lambda m, x: _exact(m, x), a=lambda: conv(8, 8), b=lambda: conv(8, 8))
one("unused layer output", "right", lambda m, x: (m.a(x), x)[1], a=lambda: conv(8, 8))
one("branch on the channels", "partly", lambda m, x: m.a(x) if x.amax() > -100 else x, a=lambda: conv(8, 8))
case(
    "branch on the network's input",
    "right",
    lambda: Net(lambda m, x: m.b(m.a(x)) if x.mean() > -100 else m.a(x), a=conv(3, 8), b=conv(8, 4)),
)
one("branch on one channel", "partly", lambda m, x: m.a(x) if x[0, 0, 0, 0] > -100 else x, a=lambda: conv(8, 8))
case(
    "dataclass of outputs",
    "right",
    lambda: Net(lambda m, x: Two(m.b(F.relu(m.a(x))), m.c(m.a(x))), a=conv(3, 8), b=conv(8, 4), c=conv(8, 2)),
)
case(
    "data parallel",
    "right",
    lambda: nn.DataParallel(Net(lambda m, x: m.b(F.relu(m.a(x))), a=conv(3, 8), b=conv(8, 4))),
)
one(
    "scripted submodule",
    "partly",
    lambda m, x: m.b(m.a(x)),
    a=lambda: _scripted(conv(8, 8)),
    b=lambda: conv(8, 8),
)
case(
    "frozen parameters",
    "right",
    lambda: Net(lambda m, x: m.b(F.relu(m.a(x))), a=conv(3, 8), b=conv(8, 4)).requires_grad_(False),
)


def _exact(m: Net, x: Tensor) -> Tensor:
    with torch.autocast(x.device.type, enabled=False):
        y = m.a(x)
    return x + m.b(y)


def _no_grad(m: Net, x: Tensor) -> Tensor:
    with torch.no_grad():
        y = m.a(x)
    return x + y


__all__ = ["CASES", "Heads", "Net", "buf", "conv", "par", "sandwich"]
