"""The oracle of surgery is right where plain PyTorch can say so, and sees what is wrong."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace

import numpy as np
import pytest
import torch
from torch import nn

from autoprune.graph import PruningGraph, build_graph
from autoprune.testing import check_surgery, counted_macs, masked_outputs, randomised

KEPT = [0, 2, 3, 7]


def network(norm: nn.Module) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), norm, nn.ReLU(), nn.Conv2d(8, 5, 3), nn.Flatten())


def traced(model: nn.Module) -> tuple[nn.Module, PruningGraph, torch.Tensor]:
    torch.manual_seed(0)
    randomised(model).double()
    images = torch.randn(2, 3, 5, 5, dtype=torch.float64)
    return model, build_graph(model, images), images


class ChannelNorm(nn.Module):
    """Layer or RMS norm over the channels of images."""

    def __init__(self, norm: nn.Module) -> None:
        super().__init__()
        self.norm = norm

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        out: torch.Tensor = self.norm(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)
        return out


@pytest.mark.parametrize(
    "norm",
    [nn.Identity(), nn.BatchNorm2d(8), nn.GroupNorm(1, 8), ChannelNorm(nn.LayerNorm(8)), ChannelNorm(nn.RMSNorm(8))],
    ids=["none", "batch", "group", "layer", "rms"],
)
def test_masked_outputs_are_those_of_the_smaller_network_made_by_hand(norm: nn.Module) -> None:
    model, graph, images = traced(network(norm))
    (group,) = [group for group in graph.groups if group.reason is None]
    (masked,) = masked_outputs(model, graph, {group.name: np.array(KEPT)}, images)
    first, last = model[0], model[3]  # type: ignore[index]
    with torch.no_grad():
        x = nn.functional.conv2d(images, first.weight[KEPT], first.bias[KEPT], padding=1)
        inner = getattr(norm, "norm", norm)
        if isinstance(norm, nn.BatchNorm2d):
            x = nn.functional.batch_norm(
                x,
                norm.running_mean[KEPT],
                norm.running_var[KEPT],
                norm.weight[KEPT],
                norm.bias[KEPT],  # type: ignore[index]
            )
        elif isinstance(norm, nn.GroupNorm):
            x = nn.functional.group_norm(x, 1, norm.weight[KEPT], norm.bias[KEPT])
        elif isinstance(inner, nn.LayerNorm):
            x = x.permute(0, 2, 3, 1)
            x = nn.functional.layer_norm(x, (4,), inner.weight[KEPT], inner.bias[KEPT]).permute(0, 3, 1, 2)
        elif isinstance(inner, nn.RMSNorm):
            x = nn.functional.rms_norm(x.permute(0, 2, 3, 1), (4,), inner.weight[KEPT]).permute(0, 3, 1, 2)
        expected = nn.functional.conv2d(x.relu(), last.weight[:, KEPT], last.bias).flatten(1)
    torch.testing.assert_close(masked, expected)


def test_a_right_graph_passes() -> None:
    model, graph, images = traced(network(nn.BatchNorm2d(8)))
    check = check_surgery(model, graph, images, policies=5)
    assert check.policies == 5
    assert check.distance < 1e-12
    assert check.effect > 1e-3
    assert (check.macs_wrong, check.params_wrong) == (0, 0)


def test_a_graph_that_mixes_up_channels_is_seen() -> None:
    model, graph, images = traced(network(nn.BatchNorm2d(8)))
    (group,) = [group for group in graph.groups if group.reason is None]
    slices = tuple(
        replace(piece, unit=np.roll(piece.unit, 1)) if piece.tensor == "3.weight" else piece for piece in group.slices
    )
    broken = replace(
        graph, groups=tuple(replace(g, slices=slices) if g.index == group.index else g for g in graph.groups)
    )
    assert check_surgery(model, broken, images, policies=5).distance > 1e-3


def test_counted_macs() -> None:
    assert counted_macs(nn.Conv2d(3, 8, 3), torch.zeros(2, 3, 6, 6)) == 3 * 8 * 9 * 16
    attention = nn.MultiheadAttention(8, 2, batch_first=True)

    class Attend(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            out: torch.Tensor = attention(x, x, x, need_weights=False)[0]
            return out

    projections, products = 4 * 5 * 8 * 8, 2 * 5 * 5 * 8
    assert counted_macs(Attend().train(), torch.zeros(2, 5, 8)) == projections + products
    attention.eval()
    assert counted_macs(Attend().eval(), torch.zeros(2, 5, 8)) == projections + products
    assert torch.backends.mha.get_fastpath_enabled()


def test_macs_counted_in_two_threads_leave_the_process_as_it_was() -> None:
    """The first is still counting when the second begins, and ends before it."""
    second_waits, first_ends = threading.Event(), threading.Event()

    class Slow(nn.Conv2d):
        def __init__(self, *, first: bool) -> None:
            super().__init__(3, 8, 3)
            self.first = first

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            if self.first:
                second_waits.wait(1.0)
            else:
                first_ends.wait(1.0)
            return super().forward(x)

    def count(first: bool) -> int:
        try:
            return counted_macs(Slow(first=first), torch.zeros(2, 3, 6, 6))
        finally:
            first_ends.set()

    before = torch.backends.mha.get_fastpath_enabled()
    with ThreadPoolExecutor(2) as pool:
        one = pool.submit(count, True)
        other = pool.submit(count, False)
        second_waits.set()
        assert one.result() == other.result() == 3 * 8 * 9 * 16
    assert torch.backends.mha.get_fastpath_enabled() == before


def test_randomised_leaves_no_vector_constant_and_no_weight_changed() -> None:
    model = nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8)).train()
    before = model[0].weight.clone()  # type: ignore[union-attr]
    randomised(model)
    assert not model.training
    assert torch.equal(model[0].weight, before)  # type: ignore[arg-type]
    for name in ("1.weight", "1.bias", "1.running_mean", "1.running_var"):
        assert model.state_dict()[name].unique().numel() == 8, name
    assert (model[1].running_var > 0).all()  # type: ignore[union-attr,operator]


@dataclass
class Found:
    mask: torch.Tensor
    others: list[torch.Tensor]


class Finds(nn.Sequential):
    def forward(self, x: torch.Tensor) -> Found:
        y = super().forward(x)
        return Found(y, [y * 2])


def test_outputs_may_be_dataclasses() -> None:
    model, graph, images = traced(Finds(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Conv2d(8, 5, 3)))
    check = check_surgery(model, graph, images, policies=3)
    assert check.distance < 1e-12
    assert check.effect > 1e-3
