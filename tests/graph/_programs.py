"""Random small networks composed of operators: a list of steps, each of which reads one or two of the values before it.

A step is made from the widths of what it reads and a number that picks among its forms. One that does not fit is left out, so
that any list of numbers is a program.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.parametrizations import weight_norm
from torchvision.ops import FrozenBatchNorm2d

SIDE = 4
WIDEST = 32
WIDTHS = (4, 6, 8, 9)

Function = Callable[..., Tensor]
Make = Callable[[int, int, int], "Step | None"]
"""Width of the first value, width of the second, form -> the step."""

OPERATORS: dict[str, Make] = {}
REFUSED = {
    *("mixed by einsum", "softmax over channels"),
    *("largest channel", "mean channel", "picked channel", "channels of zeros"),
}
"""Operators that make channels stay: they come up less often."""


class Step(nn.Module):
    """A function of one or two values, with the modules, parameters and buffers it uses."""

    def __init__(self, function: Function, *, both: bool = False, **members: Any) -> None:
        super().__init__()
        self.function = function
        self.both = both
        for name, member in members.items():
            if isinstance(member, Tensor) and not isinstance(member, nn.Parameter):
                self.register_buffer(name, member)
            else:
                setattr(self, name, member)

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        return self.function(self, x, y)


class Program(nn.Module):
    """Steps on a growing list of values, all of shape (N, any, SIDE, SIDE), and heads on what nothing else reads.

    Args:
        code: Four numbers a step: which operator, which value it reads, which second one, which form.
    """

    def __init__(self, code: Sequence[tuple[int, int, int, int]]) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3, padding=1)
        self.steps = nn.ModuleList()
        self.reads: list[tuple[int, int]] = []
        self.names: list[str] = []
        names = list(OPERATORS)
        with torch.no_grad():
            found = [image := torch.rand(2, 3, SIDE, SIDE), self.stem(image)]
            for operator, first, second, form in code:
                # Mostly what was made last, now and then the image.
                i, j = (max(0, len(found) - 1 - back) for back in (first, second))
                step = OPERATORS[names[operator]](found[i].shape[1], found[j].shape[1], form)
                if step is None:
                    continue
                value = step(found[i], found[j])
                assert value.dim() == 4
                if value.shape[1] <= WIDEST:
                    assert value.shape[2:] == (SIDE, SIDE), names[operator]
                    self.steps.append(step)
                    self.reads.append((i, j if step.both else i))
                    self.names.append(names[operator])
                    found.append(value)
        read = {place for pair in self.reads for place in pair}
        self.unread = [place for place in range(1, len(found) - 1) if place not in read]
        width = found[-1].shape[1]
        self.pooled = nn.Linear(width, 3)
        self.flat = nn.Linear(width * SIDE * SIDE, 2)
        beside = sum(found[place].shape[1] for place in self.unread)
        self.dense = nn.Conv2d(beside, 2, 1) if beside else nn.Identity()

    def forward(self, x: Tensor) -> dict[str, Any]:
        found = [x, self.stem(x)]
        for step, (i, j) in zip(self.steps, self.reads, strict=True):
            found.append(step(found[i], found[j]))
        beside = self.dense(torch.cat([found[place] for place in self.unread], 1)) if self.unread else x
        return {"last": (self.pooled(found[-1].mean((2, 3))), self.flat(found[-1].flatten(1))), "beside": beside}


def _function(name: str, function: Callable[[Tensor], Tensor], fits: Callable[[int], bool] = lambda c: True) -> None:
    """Add an operator of one value."""
    OPERATORS[name] = lambda c, d, form: Step(lambda m, x, y: function(x)) if fits(c) else None


def _both(
    name: str,
    function: Callable[[Tensor, Tensor], Tensor],
    fits: Callable[[int, int], bool] = lambda c, d: c == d,
) -> None:
    """Add an operator of two values."""
    OPERATORS[name] = lambda c, d, form: Step(lambda m, x, y: function(x, y), both=True) if fits(c, d) else None


def _layer(name: str, make: Callable[[int, int], nn.Module | None], run: Function = lambda m, x: m.a(x)) -> None:
    """Add a module, made from a width and a form, and how it is called."""

    def step(c: int, d: int, form: int) -> Step | None:
        module = make(c, form)
        return None if module is None else Step(lambda m, x, y: run(m, x), a=module)

    OPERATORS[name] = step


def _vector(name: str, run: Function, shape: Callable[[int], tuple[int, ...]], *, buffer: bool = False) -> None:
    """Add an operator with a tensor of its own."""

    def step(c: int, d: int, form: int) -> Step:
        values = torch.rand(shape(c)) + 0.5
        return Step(lambda m, x, y: run(m, x), s=values if buffer else nn.Parameter(values))

    OPERATORS[name] = step


def _even(c: int) -> bool:
    return c % 2 == 0


def _grouped(kind: Any, c: int, form: int) -> nn.Module:
    width = WIDTHS[form % 4]
    groups = [g for g in (1, 2, 3, 4, c) if c % g == 0 and width % g == 0]
    return cast(
        nn.Module, kind(c, width, (1, 3)[form // 2 % 2], padding=form // 2 % 2, groups=groups[form % len(groups)])
    )


def _tokens(module: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    return module(x.flatten(2).transpose(1, 2)).transpose(1, 2).unflatten(2, (SIDE, SIDE))


def _last(module: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    return module(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


def _written(x: Tensor, channels: int) -> Tensor:
    y = x.clone()
    y[:, :channels] = x[:, -channels:].sigmoid()
    return y


# Convolutions and linear layers
_layer("conv", lambda c, form: _grouped(nn.Conv2d, c, form))
_layer("conv 1x1", lambda c, form: nn.Conv2d(c, WIDTHS[form % 4], 1, bias=form < 4))
_layer("conv to one channel", lambda c, form: nn.Conv2d(c, 1, 1))
_layer("transposed conv", lambda c, form: _grouped(nn.ConvTranspose2d, c, form))
_layer("depthwise", lambda c, form: nn.Conv2d(c, c * (1 + form % 2), 3, padding=1, groups=c))
_layer("circular conv", lambda c, form: nn.Conv2d(c, WIDTHS[form % 4], 3, padding=1, padding_mode="circular"))
_layer("dilated conv", lambda c, form: nn.Conv2d(c, WIDTHS[form % 4], 3, padding="same", dilation=2))
_layer(
    "conv over positions in a row",
    lambda c, form: nn.Conv1d(c, WIDTHS[form % 4], 3, padding=1),
    lambda m, x: m.a(x.flatten(2)).unflatten(2, (SIDE, SIDE)),
)
_layer(
    "conv in three dimensions",
    lambda c, form: nn.Conv3d(c, WIDTHS[form % 4], (1, 3, 3), padding=(0, 1, 1)),
    lambda m, x: m.a(x.unsqueeze(2)).squeeze(2),
)
_layer("weight norm", lambda c, form: weight_norm(nn.Conv2d(c, WIDTHS[form % 4], 3, padding=1)))
_layer("tied convs", lambda c, form: nn.Conv2d(c, c, 1), lambda m, x: m.a(F.relu(m.a(x))))
_layer("linear, channels last", lambda c, form: nn.Linear(c, WIDTHS[form % 4]), lambda m, x: _last(m.a, x))
_layer("linear on tokens", lambda c, form: nn.Linear(c, WIDTHS[form % 4]), lambda m, x: _tokens(m.a, x))
_layer(
    "flatten, linear",
    lambda c, form: nn.Linear(c * SIDE * SIDE, WIDTHS[form % 4]),
    lambda m, x: m.a(x.flatten(1))[:, :, None, None].expand(-1, -1, SIDE, SIDE),
)
_layer("excitation", lambda c, form: nn.Conv2d(c, c, 1), lambda m, x: x * m.a(x.mean((2, 3), keepdim=True)).sigmoid())
_layer("linear excitation", lambda c, form: nn.Linear(c, c), lambda m, x: x * m.a(x.mean((2, 3)))[..., None, None])
_layer("spatial gate", lambda c, form: nn.Conv2d(c, 1, 1), lambda m, x: x * m.a(x).sigmoid())
_layer("residual", lambda c, form: nn.Conv2d(c, c, 3, padding=1), lambda m, x: x + m.a(F.relu(x)))
_layer(
    "half goes through a layer",
    lambda c, form: nn.Conv2d(c // 2, c // 2, 1) if c % 2 == 0 else None,
    lambda m, x: torch.cat([m.a(x.chunk(2, 1)[0]), x.chunk(2, 1)[1]], 1),
)
_vector("functional conv", lambda m, x: F.conv2d(x, m.s, padding=1), lambda c: (6, c, 3, 3))
# Norms
_layer("batch norm", lambda c, form: nn.BatchNorm2d(c, affine=form % 4 > 0))
_layer("frozen batch norm", lambda c, form: FrozenBatchNorm2d(c))
_layer("instance norm", lambda c, form: nn.InstanceNorm2d(c, affine=form % 2 > 0, track_running_stats=form > 3))
_layer("group norm", lambda c, form: nn.GroupNorm(g, c) if c % (g := (1, 2, 3, c)[form % 4]) == 0 else None)
_layer("layer norm over channels", lambda c, form: nn.LayerNorm(c), lambda m, x: _last(m.a, x))
_layer("RMS norm over channels", lambda c, form: nn.RMSNorm(c), lambda m, x: _last(m.a, x))
_layer("layer norm over a row of positions", lambda c, form: nn.LayerNorm(SIDE))
_function(
    "normalised by hand",
    lambda x: (x - x.mean(1, keepdim=True)) / (x.var(1, keepdim=True, correction=0) + 1).sqrt(),
    lambda c: c > 1,
)
_function("unit length", lambda x: F.normalize(x, dim=1))
# Vectors
_layer("PReLU", lambda c, form: nn.PReLU(c if form % 2 else 1))
_vector("layer scale", lambda m, x: x * m.s, lambda c: (c, 1, 1))
_vector("buffer", lambda m, x: x + m.s, lambda c: (1, c, 1, 1), buffer=True)
_vector("viewed scale", lambda m, x: x * m.s.view(1, -1, 1, 1), lambda c: (c,))
_vector("positions and channels", lambda m, x: x + m.s, lambda c: (1, c, SIDE, SIDE))
_vector("positions", lambda m, x: x + m.s, lambda c: (1, 1, SIDE, SIDE))
_vector("mixed by einsum", lambda m, x: torch.einsum("nchw,cd->ndhw", x, m.s), lambda c: (c, c))
_vector("positions mixed by matmul", lambda m, x: torch.matmul(x, m.s), lambda c: (SIDE, SIDE))
# Element by element
_function("relu", F.relu)
_function("gelu", F.gelu)
_function("hardswish", F.hardswish)
_function("sigmoid", torch.sigmoid)
_function("square", lambda x: x**2 - 0.5)
_function("in place", lambda x: x.clone().mul_(2).add_(0.5).clamp_(max=3))
_function("addcmul", lambda x: torch.addcmul(x, x, x.sin()))
_function("masked", lambda x: x.masked_fill(x > 0.5, 0.25))
_function("where", lambda x: torch.where(x > 0.1, x, -2 * x))
_both("sum", torch.add)
_both("difference", torch.sub)
_both("product", torch.mul)
_both("maximum", torch.maximum)
_both("interpolated", lambda x, y: torch.lerp(x, y, 0.3))
_both("gate", lambda x, y: x * y.sigmoid())
_both("pooled gate", lambda x, y: x * y.mean((2, 3), keepdim=True))
_both("mean of a stack", lambda x, y: torch.stack([x, y]).mean(0))
_both("sum with a detached value", lambda x, y: x + y.detach())
_both("sum with a turned value", lambda x, y: x + y.flip(1))
_both("broadcast channel", lambda x, y: x * y, lambda c, d: d == 1)
_both("mean channel", lambda x, y: x + y.mean(1, keepdim=True), lambda c, d: True)
_both("concat", lambda x, y: torch.cat([x, y], 1), lambda c, d: True)
_both("concat of three", lambda x, y: torch.cat([y, x, y.sigmoid()], 1), lambda c, d: True)
_both("stack beside the channels", lambda x, y: torch.stack([x, y], 2).flatten(1, 2))
# Movement
_function("pools", lambda x: F.max_pool2d(x, 3, 1, 1) + F.avg_pool2d(x, 3, 1, 1))
_function("pad and crop", lambda x: F.pad(x, (1, 0, 0, 1))[:, :, 1:, :-1])
_function("reflect and crop", lambda x: F.pad(x, (1, 1, 1, 1), mode="reflect")[:, :, 2:, :-2])
_function("every second position", lambda x: F.interpolate(x[:, :, ::2, 1::2], scale_factor=2, mode="bilinear"))
_function("flip of channels", lambda x: x.flip(1))
_function("flip of positions", lambda x: x.flip(3))
_function("roll of positions", lambda x: torch.roll(x, 2, 2))
_function("roll of channels", lambda x: torch.roll(x, 1, 1))
_function("tokens and back", lambda x: _tokens(torch.tanh, x))
_function("transposed positions", lambda x: x.mT)
_function("twice", lambda x: torch.cat([x, -x], 1))
_function("repeated", lambda x: x.repeat(1, 2, 1, 1))
_function("pixel unshuffle", lambda x: F.pixel_unshuffle(F.interpolate(x, scale_factor=2.0), 2))
_function("pixel shuffle", lambda x: F.avg_pool2d(F.pixel_shuffle(x, 2), 2), lambda c: c % 4 == 0)
_function("softmax over channels", lambda x: x.softmax(1))
_function("softmax over positions", lambda x: x.flatten(2).softmax(-1).view_as(x))
_function("sum of positions", lambda x: x * x.sum((2, 3), keepdim=True).expand_as(x).sigmoid())
_function("largest channel", lambda x: x * x.amax(1, keepdim=True))
_function("channels of zeros", lambda x: F.pad(x, (0, 0, 0, 0, 1, 1)))
_function("attention of positions", lambda x: (x.flatten(2) @ (x.flatten(2).mT @ x.flatten(2)).softmax(-1)).view_as(x))
_both("correlation", lambda x, y: x * (x.flatten(2).mT @ y.flatten(2)).softmax(-1).amax((1, 2))[:, None, None, None])
_both("product by einsum", lambda x, y: torch.einsum("nchw,nchv->nchv", x, y))
_both("context", lambda x, y: x + (x.flatten(2) @ y.flatten(2).softmax(-1).mT).unsqueeze(-1), lambda c, d: d == 1)
# Cuts
_function("halves swapped", lambda x: torch.cat(x.chunk(2, 1)[::-1], 1), _even)
_function("halves multiplied", lambda x: x[:, : x.shape[1] // 2] * x[:, x.shape[1] // 2 :], _even)
_function("glu", lambda x: F.glu(x, 1), _even)
_function("channel shuffle", lambda x: torch.channel_shuffle(x, 2), _even)
_function(
    "shuffled by views",
    lambda x: x.view(len(x), 2, x.shape[1] // 2, SIDE, SIDE).transpose(1, 2).reshape(len(x), -1, SIDE, SIDE),
    _even,
)
_function("even and odd channels", lambda x: x[:, ::2] + x[:, 1::2], _even)
_function("mean of piles", lambda x: x.unflatten(1, (2, -1)).mean(1), _even)
_function("largest of neighbours", lambda x: x.unflatten(1, (-1, 2)).amax(2), _even)
_function("written over the first half", lambda x: _written(x, x.shape[1] // 2), _even)
_function("first two channels split off", lambda x: torch.cat([x[:, :2].sigmoid(), x[:, 2:]], 1), lambda c: c > 2)
_function(
    "three uneven chunks", lambda x: torch.cat([p * n for n, p in enumerate(x.chunk(3, 1), 1)], 1), lambda c: c > 3
)
_function("narrow", lambda x: x.narrow(1, 1, x.shape[1] - 1), lambda c: c > 2)
_function("picked channel", lambda x: x * x[:, :1])


def _attend(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    return (q @ k.transpose(-2, -1)).softmax(-1) @ v


class Attention(Step):
    """Attention with as many heads as its attribute says."""

    def __init__(self, width: int, heads: int, fused: bool) -> None:
        super().__init__(lambda m, x, y: x)
        self.heads, self.size, self.fused = heads, width // heads, fused
        self.a, self.b = nn.Linear(width, 3 * width), nn.Linear(width, width)

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        tokens = x.flatten(2).transpose(1, 2)
        cut = self.a(tokens).reshape(len(x), SIDE * SIDE, 3, self.heads, self.size)
        q, k, v = cut.permute(2, 0, 3, 1, 4).unbind(0)
        attend = F.scaled_dot_product_attention if self.fused else _attend
        attended = attend(q, k, v)
        return self.b(attended.transpose(1, 2).flatten(2)).transpose(1, 2).unflatten(2, (SIDE, SIDE))


def _attention(c: int, d: int, form: int) -> Step | None:
    heads = (2, 3)[form % 2]
    return Attention(c, heads, form > 3) if c % heads == 0 else None


def _fixed_split(c: int, d: int, form: int) -> Step | None:
    """Cut by sizes that are numbers in the code, equal or not."""
    sizes = [c // 2, c - c // 2] if form % 2 else [1, c - 1]
    return Step(lambda m, x, y: torch.cat([part.relu() + 1 for part in x.split(sizes, 1)[::-1]], 1)) if c > 1 else None


def _own_split(c: int, d: int, form: int) -> Step | None:
    """Cut by sizes that are an attribute of the module."""
    sizes = [c // 3, c - c // 3]
    return None if c < 3 else Split(sizes)


class Split(Step):
    """Its pieces are as large as its attribute says."""

    def __init__(self, sizes: list[int]) -> None:
        super().__init__(lambda m, x, y: x)
        self.sizes = sizes

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        a, b = torch.split(x, self.sizes, dim=1)
        return torch.cat([b, a.sigmoid()], 1)


OPERATORS["attention"] = _attention
OPERATORS["split with fixed sizes"] = _fixed_split
OPERATORS["split with its own sizes"] = _own_split


def _fixed_view(c: int, d: int, form: int) -> Step | None:
    """Cut into heads of a fixed shape, exchanged or not, and put together again."""
    heads = (2, 3, 4)[form % 3]
    if c % heads:
        return None
    swap = form % 2 == 0

    def view(m: Step, x: Tensor, y: Tensor) -> Tensor:
        x = x.view(-1, heads, c // heads, SIDE, SIDE)
        return (x.transpose(1, 2) if swap else x).reshape(-1, c, SIDE, SIDE)

    return Step(view)


def _fixed_slices(c: int, d: int, form: int) -> Step | None:
    """Slices whose ends are numbers in the code, from the front or the end."""
    cut = 1 + form % max(c - 1, 1)
    ends = (cut, cut - c)[form % 2]
    return None if c < 2 else Step(lambda m, x, y: torch.cat([x[:, ends:].sigmoid(), x[:, :ends]], 1))


def _picked(c: int, d: int, form: int) -> Step:
    """Channels picked by a constant index: all of them in another order, or some, some of them twice."""
    generator = torch.Generator().manual_seed(c + form)
    places = torch.randperm(c, generator=generator) if form % 2 else torch.randint(c, (c,), generator=generator)
    return Step(lambda m, x, y: x[:, m.s] if form < 4 else x.index_select(1, m.s), s=places)


OPERATORS["view of a fixed shape"] = _fixed_view
OPERATORS["slices at fixed places"] = _fixed_slices
OPERATORS["picked by a constant"] = _picked
