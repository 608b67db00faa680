"""Attention over channels and positions as convolutional networks have it: CBAM, squeeze and excitation, coordinate, ECA."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import TensorDataset

import autoprune
from autoprune.graph import PruningGraph, build_graph, prove
from autoprune.testing import check_surgery

from .._sample import pick


class _Channels(nn.Module):
    """CBAM's channel attention: one MLP on averages and maxima, pooled by size and flattened."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.mlp = nn.Sequential(nn.Flatten(), nn.Linear(channels, 4), nn.ReLU(), nn.Linear(4, channels))

    def forward(self, x: Tensor) -> Tensor:
        size = (x.size(2), x.size(3))
        total = self.mlp(F.avg_pool2d(x, size, stride=size)) + self.mlp(F.max_pool2d(x, size, stride=size))
        return x * total.sigmoid().unsqueeze(2).unsqueeze(3).expand_as(x)


class _ConvolvedChannels(nn.Module):
    """The same with adaptive pools and 1x1 convolutions."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.average, self.largest = nn.AdaptiveAvgPool2d(1), nn.AdaptiveMaxPool2d(1)
        self.fc = nn.Sequential(nn.Conv2d(channels, 4, 1, bias=False), nn.ReLU(), nn.Conv2d(4, channels, 1, bias=False))

    def forward(self, x: Tensor) -> Tensor:
        return x * (self.fc(self.average(x)) + self.fc(self.largest(x))).sigmoid()


class _Squeeze(nn.Module):
    """Squeeze and excitation with views."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.fc = nn.Sequential(nn.Linear(channels, 4), nn.ReLU(), nn.Linear(4, channels), nn.Sigmoid())

    def forward(self, x: Tensor) -> Tensor:
        n, c, _, _ = x.size()
        return x * self.fc(x.mean((2, 3)).view(n, c)).view(n, c, 1, 1).expand_as(x)


class _Coordinates(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.squeeze, self.norm = nn.Conv2d(channels, 4, 1), nn.BatchNorm2d(4)
        self.rows, self.columns = nn.Conv2d(4, channels, 1), nn.Conv2d(4, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        h, w = x.shape[2:]
        both = torch.cat([x.mean(3, keepdim=True), x.mean(2, keepdim=True).permute(0, 1, 3, 2)], dim=2)
        rows, columns = F.hardswish(self.norm(self.squeeze(both))).split([h, w], dim=2)
        return x * self.rows(rows).sigmoid() * self.columns(columns.permute(0, 1, 3, 2)).sigmoid()


class _Positions(nn.Module):
    """CBAM's spatial attention, over any statistics of the channels."""

    def __init__(self, *statistics: Callable[[Tensor], Tensor], hidden: int = 0) -> None:
        super().__init__()
        self.statistics = statistics
        self.conv: nn.Module = nn.Conv2d(len(statistics), 1, 3, padding=1)
        if hidden:
            first = nn.Conv2d(len(statistics), hidden, 3, padding=1)
            self.conv = nn.Sequential(first, nn.BatchNorm2d(hidden), nn.ReLU(), nn.Conv2d(hidden, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        return x * self.conv(torch.cat([statistic(x) for statistic in self.statistics], dim=1)).sigmoid()


def _mean(x: Tensor) -> Tensor:
    return x.mean(1, keepdim=True)


def _max(x: Tensor) -> Tensor:
    return torch.max(x, dim=1, keepdim=True)[0]


def _max_unsqueezed(x: Tensor) -> Tensor:
    return torch.max(x, 1)[0].unsqueeze(1)


def _mean_unsqueezed(x: Tensor) -> Tensor:
    return torch.mean(x, 1).unsqueeze(1)


def _amax(x: Tensor) -> Tensor:
    return x.amax(1, keepdim=True)


def _min(x: Tensor) -> Tensor:
    return x.min(1, keepdim=True).values


def _sum(x: Tensor) -> Tensor:
    return x.sum(1, keepdim=True)


ATTENTION: dict[str, Callable[[int], nn.Module]] = {
    "cbam": lambda c: nn.Sequential(_Channels(c), _Positions(_mean, _max)),
    "cbam, convolved": lambda c: nn.Sequential(_ConvolvedChannels(c), _Positions(_max_unsqueezed, _mean_unsqueezed)),
    "amax and min": lambda _: _Positions(_amax, _min),
    "sum": lambda _: _Positions(_sum),
    "hidden channels": lambda _: _Positions(_mean, _amax, hidden=6),
    "squeeze and excitation": _Squeeze,
    "coordinates": _Coordinates,
}


class _Net(nn.Module):
    def __init__(self, kind: Callable[[int], nn.Module], *, residual: bool) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.residual = residual
        self.first, self.middle, self.last = nn.Conv2d(2, 8, 3), kind(8), kind(10)
        self.second = nn.Conv2d(8, 10, 3)
        self.head = nn.Linear(10, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = self.second(self.middle(self.first(x).relu())).relu()
        x = x + self.last(x) if self.residual else self.last(x)
        y: Tensor = self.head(x.mean((2, 3)))
        return y


def _proved(model: nn.Module) -> tuple[PruningGraph, Tensor]:
    images = torch.randn(2, 2, 9, 8, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    return prove(model, build_graph(model, images), images), images


CASES = [(name, residual) for name in ATTENTION for residual in (False, True)]


@pytest.mark.parametrize(("name", "residual"), pick(CASES, 6))
def test_what_attention_weighs_can_be_removed(name: str, residual: bool) -> None:
    model = _Net(ATTENTION[name], residual=residual).double().eval()
    graph, images = _proved(model)
    free = {group.name: group.size for group in graph.groups if group.reason is None}
    assert (free.pop("first"), free.pop("second")) == (8, 10)
    assert set(free.values()) <= {4, 6}  # what is hidden inside the attention
    check = check_surgery(model, graph, images, policies=6)
    assert check.distance < 1e-12
    assert check.effect > 1e-6
    assert (check.macs_wrong, check.params_wrong) == (0, 0)


class _Neighbours(nn.Module):
    """ECA: a convolution along the channels."""

    def __init__(self, _: int) -> None:
        super().__init__()
        self.conv = nn.Conv1d(1, 1, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        return x * self.conv(x.mean((2, 3))[:, None]).transpose(1, 2)[..., None].sigmoid()


class _OfAnother(nn.Module):
    """Positions are weighed by other channels than those that are counted."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(x) * x.amax(1, keepdim=True).sigmoid()


class _Where(nn.Module):
    """Which channel is the largest."""

    def __init__(self, _: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(1, 1, 1)

    def forward(self, x: Tensor) -> Tensor:
        return x * self.conv(x.max(1, keepdim=True).indices.to(x.dtype)).sigmoid()


REDUCED = "channels are reduced to one number, which depends on how many there are"


@pytest.mark.parametrize(
    ("kind", "reason"),
    [
        (_Neighbours, "a convolution runs along channels and mixes each with its neighbours"),
        (_OfAnother, REDUCED),
        (_Where, REDUCED),
    ],
)
def test_what_hangs_on_which_channels_there_are_stays(kind: Callable[[int], nn.Module], reason: str) -> None:
    graph, _ = _proved(_Net(kind, residual=False).double().eval())
    assert str(graph.group("first").reason).startswith(reason)


class _Scores(nn.Module):
    """The largest class score is an output of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.classes = nn.Conv2d(2, 8, 3), nn.Conv2d(8, 6, 1)

    def forward(self, x: Tensor) -> Tensor:
        return torch.max(self.classes(self.first(x).relu()), 1)[0]


def test_classes_whose_maximum_is_the_output_stay() -> None:
    graph, _ = _proved(_Scores().double().eval())
    assert graph.group("first").reason is None
    assert graph.group("classes").reason == "they are channels of the network's output"


def test_a_whole_search_with_cbam() -> None:
    x = torch.randn(60, 2, 9, 8, generator=torch.Generator().manual_seed(0))
    parts = [TensorDataset(x[a:b], (x[a:b, 0, 0, 0] > 0).long()) for a, b in ((0, 30), (30, 50), (50, 60))]
    found = autoprune.search(
        _Net(ATTENTION["cbam"], residual=True), x[:2], calibration=parts[0], evaluate=parts[1], report=parts[2],
        budget=0.5, agent="uniform", include_residual=True,
    )  # fmt: skip
    assert found.report["final"]["macs"] <= 0.5 * found.report["dense"]["macs"]
    assert found.model.first.out_channels < 8
    assert found.model.second.out_channels < 10
