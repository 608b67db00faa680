"""Sampled rows against torch's own im2col and against the layer's output."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from autoprune.graph import build_graph
from autoprune.reconstruct._rows import sample_rows

CASES = [
    (nn.Conv2d(3, 5, 3, padding=1), (9, 9)),
    (nn.Conv2d(3, 5, (3, 2), stride=(2, 1), padding=(1, 0)), (9, 7)),
    (nn.Conv2d(3, 5, 3, dilation=2), (9, 9)),
    (nn.Conv2d(3, 5, 1), (6, 6)),
    (nn.Conv2d(3, 5, 1, stride=2), (7, 7)),
    (nn.Conv1d(3, 5, 3, padding=2, stride=2), (11,)),
    (nn.Conv3d(3, 5, 2, padding=1), (4, 5, 3)),
]


@pytest.mark.parametrize(("module", "size"), CASES)
@pytest.mark.parametrize("limit", [60, 10**6])
def test_inputs_times_weight_are_the_outputs(module: nn.Module, size: tuple[int, ...], limit: int) -> None:
    x = torch.randn(4, 3, *size, generator=torch.Generator().manual_seed(1))
    (layer,) = build_graph(nn.Sequential(module), x).layers
    rows = sample_rows(layer, 4, limit=limit, generator=torch.Generator().manual_seed(2), device=x.device)
    weight, bias = (parameter.detach() for parameter in module.parameters())
    torch.testing.assert_close(
        rows.inputs(x) @ weight.movedim(1, -1).reshape(5, -1).T + bias,
        rows.outputs(module(x).detach()),
        rtol=1e-4,
        atol=1e-5,
    )


def test_all_rows_equal_unfold() -> None:
    x = torch.randn(4, 3, 9, 9, generator=torch.Generator().manual_seed(1))
    (layer,) = build_graph(nn.Sequential(nn.Conv2d(3, 5, 3, stride=2, padding=1)), x).layers
    rows = sample_rows(layer, 4, limit=10**6, generator=torch.Generator(), device=x.device)
    unfolded = F.unfold(x, 3, stride=2, padding=1)  # (N, C * k, L)
    by_tap = unfolded.transpose(1, 2).reshape(-1, 3, 9).transpose(1, 2).flatten(1)
    torch.testing.assert_close(rows.inputs(x), by_tap)
    torch.testing.assert_close(rows.inputs(x.contiguous(memory_format=torch.channels_last)), by_tap)


def test_rows_do_not_repeat_and_treat_images_alike() -> None:
    x: Tensor = torch.randn(6, 3, 8, 8)
    (layer,) = build_graph(nn.Sequential(nn.Conv2d(3, 4, 3)), x).layers
    rows = sample_rows(layer, 6, limit=100, generator=torch.Generator().manual_seed(0), device=x.device)
    places = torch.stack(rows.index, dim=1)
    assert len(places) == 96
    assert len(places.unique(dim=0)) == 96
    assert rows.index[0].bincount().tolist() == [16] * 6


def test_linear_over_tokens() -> None:
    x = torch.randn(3, 7, 4, generator=torch.Generator().manual_seed(1))
    module = nn.Linear(4, 6)
    (layer,) = build_graph(nn.Sequential(module), x).layers
    rows = sample_rows(layer, 3, limit=6, generator=torch.Generator().manual_seed(2), device=x.device)
    assert rows.inputs(x).shape == (6, 4)
    torch.testing.assert_close(module(rows.inputs(x)), rows.outputs(module(x)))
