"""Small networks with coupling graphs written by hand, so that these tests depend on no tracer."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor, nn

from autoprune.groups import ChannelSlice, Group, IntArray, Layer, PruningGraph


def cut(tensor: str, dim: int, size: int, *, repeat: int = 1, start: int = 0) -> ChannelSlice:
    """Channel u owns the ``repeat`` positions from ``start + u * repeat`` on."""
    return ChannelSlice(tensor, dim, np.arange(size * repeat) + start, np.repeat(np.arange(size), repeat))


def norm_cuts(name: str, size: int, *, repeat: int = 1, start: int = 0) -> tuple[ChannelSlice, ...]:
    return tuple(
        cut(f"{name}.{t}", 0, size, repeat=repeat, start=start)
        for t in ("weight", "bias", "running_mean", "running_var")
    )


def group(index: int, name: str, size: int, *slices: ChannelSlice, reason: str | None = None) -> Group:
    return Group(name, index, size, "inner", tuple(slices), (name,), (), reason)


Ends = tuple[IntArray, IntArray]


def owned(*parts: tuple[int, int, int]) -> Ends:
    """Channels as parts of (group or -1, number of units, positions per unit)."""
    groups = [np.full(size * repeat, index) for index, size, repeat in parts]
    units = [np.repeat(np.arange(size), repeat) if index >= 0 else np.zeros(size, int) for index, size, repeat in parts]
    return np.concatenate(groups), np.concatenate(units)


def layer(model: nn.Module, name: str, in_shape: tuple[int, ...], inputs: Ends, outputs: Ends) -> Layer:
    module: Any = model.get_submodule(name)
    weight = module.weight
    if isinstance(module, nn.Linear):
        macs, op = weight.numel(), "linear"
        spatial: dict[str, Any] = dict.fromkeys(("kernel", "stride", "padding", "dilation"), ())
        groups, out_shape = 1, (2, module.out_features)
    else:
        with torch.no_grad():
            out_shape = tuple(module(torch.zeros(in_shape)).shape)
        op = "conv_transpose" if module.transposed else "conv"
        positions = (in_shape if module.transposed else out_shape)[2:]
        macs = weight.numel() * int(np.prod(positions))
        spatial = {
            "kernel": module.kernel_size,
            "stride": module.stride,
            "padding": module.padding,
            "dilation": module.dilation,
        }
        groups = module.groups
    bias = f"{name}.bias" if module.bias is not None else None
    return Layer(
        name=name,
        node=name,
        op=cast(Any, op),
        weight=f"{name}.weight",
        bias=bias,
        in_channels=len(inputs[0]),
        out_channels=len(outputs[0]),
        groups=groups,
        in_shape=in_shape,
        out_shape=out_shape,
        in_group=inputs[0],
        in_unit=inputs[1],
        out_group=outputs[0],
        out_unit=outputs[1],
        norm=None,
        macs=macs,
        **spatial,
    )


class Mixed(nn.Module):
    """A stem, a concat, a depthwise (multiplier 2), a grouped and a transposed convolution, flatten into Linear."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 6, 3, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(6)
        self.side = nn.Conv2d(3, 4, 1)
        self.mix = nn.Conv2d(10, 8, 3, padding=1)
        self.depthwise = nn.Conv2d(8, 16, 3, padding=1, groups=8, bias=False)
        self.norm2 = nn.BatchNorm2d(16)
        self.up = nn.ConvTranspose2d(16, 12, 2, stride=2)
        self.grouped = nn.Conv2d(12, 8, 3, stride=2, padding=1, groups=4)
        self.down = nn.ConvTranspose2d(8, 8, 2, groups=4)
        self.head = nn.Linear(8 * 25, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.cat([self.norm(self.stem(x)).relu(), self.side(x).relu()], 1)
        x = self.norm2(self.depthwise(self.mix(x).relu())).relu()
        x = self.down(self.grouped(self.up(x).relu()).relu()).relu()
        return cast(Tensor, self.head(x.flatten(1)))


def mixed() -> tuple[nn.Module, PruningGraph, Tensor]:
    model = randomised(Mixed())
    groups = (
        group(0, "stem", 6, cut("stem.weight", 0, 6), *norm_cuts("norm", 6), cut("mix.weight", 1, 6)),
        group(1, "side", 4, cut("side.weight", 0, 4), cut("side.bias", 0, 4), cut("mix.weight", 1, 4, start=6)),
        group(
            2,
            "mix",
            8,
            cut("mix.weight", 0, 8),
            cut("mix.bias", 0, 8),
            cut("depthwise.weight", 0, 8, repeat=2),
            *norm_cuts("norm2", 8, repeat=2),
            cut("up.weight", 0, 8, repeat=2),
        ),
        group(
            3,
            "up",
            4,
            cut("up.weight", 1, 4, repeat=3),
            cut("up.bias", 0, 4, repeat=3),
            cut("grouped.weight", 0, 4, repeat=2),
            cut("grouped.bias", 0, 4, repeat=2),
            cut("down.weight", 0, 4, repeat=2),
            cut("down.bias", 0, 4, repeat=2),
            cut("head.weight", 1, 4, repeat=50),
        ),
        group(4, "head", 5, cut("head.weight", 0, 5), cut("head.bias", 0, 5), reason="it is the network's output."),
    )
    layers = (
        layer(model, "stem", (2, 3, 4, 4), owned((-1, 3, 1)), owned((0, 6, 1))),
        layer(model, "side", (2, 3, 4, 4), owned((-1, 3, 1)), owned((1, 4, 1))),
        layer(model, "mix", (2, 10, 4, 4), owned((0, 6, 1), (1, 4, 1)), owned((2, 8, 1))),
        layer(model, "depthwise", (2, 8, 4, 4), owned((2, 8, 1)), owned((2, 8, 2))),
        layer(model, "up", (2, 16, 4, 4), owned((2, 8, 2)), owned((3, 4, 3))),
        layer(model, "grouped", (2, 12, 8, 8), owned((3, 4, 3)), owned((3, 4, 2))),
        layer(model, "down", (2, 8, 4, 4), owned((3, 4, 2)), owned((3, 4, 2))),
        layer(model, "head", (2, 200), owned((3, 4, 50)), owned((4, 5, 1))),
    )
    return model, PruningGraph(cast(Any, None), layers, groups), torch.randn(2, 3, 4, 4)


def chain(widths: tuple[int, ...] = (4, 6, 5), spatial: int = 6) -> tuple[nn.Module, PruningGraph, Tensor]:
    """conv - BN - ReLU, repeated, then global pooling and Linear."""
    parts: list[nn.Module] = []
    before = 3
    for width in widths:
        parts += [nn.Conv2d(before, width, 3, padding=1, bias=False), nn.BatchNorm2d(width), nn.ReLU()]
        before = width
    head = len(parts) + 2
    model = randomised(nn.Sequential(*parts, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(before, 3)))
    groups, layers = [], []
    ends = owned((-1, 3, 1))
    for i, width in enumerate(widths):
        following = str(3 * (i + 1)) if i + 1 < len(widths) else str(head)
        groups.append(
            group(
                i,
                str(3 * i),
                width,
                cut(f"{3 * i}.weight", 0, width),
                *norm_cuts(str(3 * i + 1), width),
                cut(f"{following}.weight", 1, width),
            )
        )
        outputs = owned((i, width, 1))
        layers.append(layer(model, str(3 * i), (2, len(ends[0]), spatial, spatial), ends, outputs))
        ends = outputs
    layers.append(layer(model, str(head), (2, before), ends, owned((-1, 3, 1))))
    return model, PruningGraph(cast(Any, None), tuple(layers), tuple(groups)), torch.randn(2, 3, spatial, spatial)


def randomised(model: nn.Module) -> nn.Module:
    """Give every tensor values that no test can pass with by accident."""
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for tensor in [*model.parameters(), *model.buffers()]:
            if tensor.is_floating_point():
                tensor.copy_(torch.rand(tensor.shape, generator=generator) + 0.5)
                if tensor.dim() > 1:
                    tensor.sub_(1.0)
    return model.eval()


def shapes_of(model: nn.Module) -> dict[str, tuple[int, ...]]:
    return {name: tuple(parameter.shape) for name, parameter in model.named_parameters()}


def masked(model: nn.Module, graph: PruningGraph, kept: dict[str, IntArray]) -> nn.Module:
    """The same function as the pruned model, full size: every slice of a removed channel is zeroed, norms included."""
    import copy

    full = copy.deepcopy(model)
    tensors = {**dict(full.named_parameters()), **dict(full.named_buffers())}
    with torch.no_grad():
        for entry in graph.groups:
            if entry.name not in kept:
                continue
            gone = np.setdiff1d(np.arange(entry.size), kept[entry.name])
            for piece in entry.slices:
                lost = torch.from_numpy(piece.position[np.isin(piece.unit, gone)])
                tensors[piece.tensor].index_fill_(piece.dim, lost, 0.0)
    return full


@dataclass(frozen=True)
class Case:
    name: str
    make: Callable[[], tuple[nn.Module, PruningGraph, Tensor]]
