"""Weights that a forward computes: standardised, normalised, scaled; and those that nothing can be said of."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.parametrizations import weight_norm

from autoprune.graph import PruningGraph, build_graph, prove
from autoprune.surgery import prune_model
from autoprune.testing import check_surgery


class _Standardised(nn.Conv2d):
    def forward(self, x: Tensor) -> Tensor:
        w = self.weight
        mean = w.mean((1, 2, 3), keepdim=True)
        w = (w - mean) / (w.var((1, 2, 3), keepdim=True, unbiased=False) + 1e-6).sqrt()
        return self._conv_forward(x, w, self.bias)


class _ByBatchNorm(nn.Conv2d):
    def __init__(self, *args: int, **kwargs: int) -> None:
        super().__init__(*args, **kwargs)
        self.gain = nn.Parameter(torch.rand(self.out_channels, 1, 1, 1) + 0.5)

    def forward(self, x: Tensor) -> Tensor:
        flat = self.weight.reshape(1, self.out_channels, -1)
        w = F.batch_norm(flat, None, None, weight=(self.gain * 0.3).view(-1), training=True, momentum=0.0)
        return self._conv_forward(x, w.reshape_as(self.weight), self.bias)


class _Scaled(_ByBatchNorm):
    def forward(self, x: Tensor) -> Tensor:
        return self._conv_forward(x, self.weight * self.gain, self.bias)


class _Normalised(nn.Conv2d):
    def forward(self, x: Tensor) -> Tensor:
        return self._conv_forward(x, self.weight / self.weight.pow(2).sum((1, 2, 3), keepdim=True).sqrt(), self.bias)


class _Cosine(nn.Module):
    """A classifier by the cosine between features and one vector a class."""

    def __init__(self, channels: int, classes: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(classes, channels))
        self.scale = nn.Parameter(torch.tensor(8.0))

    def forward(self, x: Tensor) -> Tensor:
        return self.scale * F.linear(F.normalize(x.mean((2, 3)), dim=1), F.normalize(self.weight, dim=1))


class _Modulated(nn.Conv2d):
    """StyleGAN2's: weights scaled by what the image says, for all images in one grouped convolution."""

    def __init__(self, *args: int, **kwargs: int) -> None:
        super().__init__(*args, **kwargs)
        self.style = nn.Linear(self.in_channels, self.in_channels)

    def forward(self, x: Tensor) -> Tensor:
        style = self.style(x.mean((2, 3)))
        w = self.weight[None] * style[:, None, :, None, None]
        w = w * (w.pow(2).sum((2, 3, 4), keepdim=True) + 1e-8).rsqrt()
        out = F.conv2d(x.reshape(1, -1, *x.shape[2:]), w.flatten(0, 1), groups=len(x))
        return out.reshape(len(x), -1, *out.shape[2:])


class _Softmaxed(nn.Conv2d):
    def forward(self, x: Tensor) -> Tensor:
        return self._conv_forward(x, self.weight.softmax(1), self.bias)


class _Mixed(nn.Conv2d):
    """Every output channel's weight holds a bit of all others'."""

    def forward(self, x: Tensor) -> Tensor:
        return self._conv_forward(x, self.weight + self.weight.mean(0, keepdim=True), self.bias)


def _net(conv: Callable[..., nn.Module]) -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(
        conv(3, 8, 3), nn.ReLU(), conv(8, 8, 3, groups=2), nn.ReLU(), conv(8, 12, 3), nn.ReLU(), nn.Conv2d(12, 4, 1)
    ).double()


def _proved(model: nn.Module) -> tuple[PruningGraph, Tensor]:
    images = torch.randn(2, 3, 10, 10, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    return prove(model, build_graph(model, images), images), images


def _weight_normed(*args: int, **kwargs: int) -> nn.Module:
    return weight_norm(nn.Conv2d(*args, **kwargs))


@pytest.mark.parametrize("conv", [_Standardised, _ByBatchNorm, _Scaled, _Normalised, _weight_normed])
def test_channels_of_computed_weights_go(conv: Callable[..., nn.Module]) -> None:
    model = _net(conv)
    graph, images = _proved(model)
    assert [(group.name, group.size) for group in graph.groups if group.reason is None] == [
        ("0", 4),
        ("2", 4),
        ("4", 12),
    ]
    assert len(graph.computed) == 3
    check = check_surgery(model, graph, images, policies=8)
    assert check.distance < 1e-10
    assert (check.macs_wrong, check.params_wrong) == (0, 0)


@pytest.mark.parametrize("conv", [_Scaled, _weight_normed])
def test_what_is_left_of_a_scaled_weight_is_a_part_of_the_dense_one(conv: Callable[..., nn.Module]) -> None:
    model = _net(conv)
    graph, _ = _proved(model)
    rows, columns = np.array([0, 3, 7]), np.array([1, 2, 5, 6])
    small = prune_model(model, graph, {"4": rows, "2": np.array([1, 2])})
    weight, dense = (
        net[4].weight * net[4].gain if conv is _Scaled else net[4].weight  # type: ignore[operator, union-attr]
        for net in (small, model)
    )
    torch.testing.assert_close(weight, dense[rows][:, columns])


def test_a_cosine_classifier_goes_over_the_features_that_are_left() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Conv2d(8, 12, 3), nn.ReLU(), _Cosine(12, 4)).double()
    graph, images = _proved(model)
    assert [(group.name, group.size) for group in graph.groups if group.reason is None] == [("0", 8), ("2", 12)]
    check = check_surgery(model, graph, images, policies=8)
    assert check.distance < 1e-10
    assert (check.macs_wrong, check.params_wrong) == (0, 0)
    kept = np.arange(0, 12, 3)
    small = prune_model(model, graph, {"2": kept})
    features = small[:4](images).mean((2, 3))
    cosine = F.cosine_similarity(features[:, None], model[4].weight[:, kept][None], dim=2)
    torch.testing.assert_close(small(images), model[4].scale * cosine)


def test_weights_that_the_image_makes_stay_whole() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), _Modulated(8, 12, 3), nn.ReLU(), nn.Conv2d(12, 4, 1)).double()
    graph, _ = _proved(model)
    assert all(group.reason is not None for group in graph.groups)
    assert any("computed from the image (aten.conv2d" in refusal.reason for refusal in graph.refusals)


@pytest.mark.parametrize("conv", [_Softmaxed, _Mixed])
def test_other_computed_weights_stay_whole(conv: Callable[..., nn.Module]) -> None:
    graph, _ = _proved(_net(conv))
    assert not graph.computed
    assert all(group.reason is not None for group in graph.groups)
