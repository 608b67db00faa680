"""Networks that compute in place: their files hold no operator that writes, load, and compute the same."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from autoprune.errors import AutopruneError
from autoprune.exporting import export_model, load_exported

from ..._sample import pick
from ...graph import _nets, _nets_products  # noqa: F401
from ...graph._cases import CASES, Net, conv


def assigned(m: Net, x: Tensor) -> Tensor:
    x = m.first(x)
    x[:, :2] = x[:, 2:4] * 2
    return x.mean((2, 3))


def seen_after(m: Net, x: Tensor) -> Tensor:
    x = m.first(x)
    view = x[:, 1:]
    x.relu_()
    return view.mean((2, 3))


def seen_before(m: Net, x: Tensor) -> Tensor:
    x = m.first(x)
    before = x.exp()
    x.relu_()
    return (x - before).add_(x).mean((2, 3))


def without_gradients(m: Net, x: Tensor) -> Tensor:
    with torch.no_grad():
        x = F.relu(m.first(x), inplace=True)
    return x.mean((2, 3))


INPLACE: dict[str, Callable[[Net, Tensor], Tensor]] = {
    "activation": lambda m, x: F.hardswish(F.relu6(m.first(x), inplace=True), inplace=True).mean((2, 3)),
    "sum": lambda m, x: F.relu(m.first(x).add_(m.first(x)), inplace=True).mean((2, 3)),
    "assigned": assigned,
    "seen after": seen_after,
    "seen before": seen_before,
    "without gradients": without_gradients,
}


@pytest.mark.parametrize("name", pick(list(INPLACE), 4))
def test_in_place(tmp_path: Path, name: str) -> None:
    same(tmp_path, Net(INPLACE[name], first=conv(3, 4)), torch.randn(2, 3, 8, 8))


@pytest.mark.parametrize("name", pick(sorted(CASES), 3))
def test_networks_of_the_graph_tests(tmp_path: Path, name: str) -> None:
    same(tmp_path, CASES[name][0](), torch.randn(2, 3, 8, 8))


def same(folder: Path, net: nn.Module, images: Tensor) -> None:
    """Export and load a network, and compare; what torch cannot export, or more than one tensor, is not about files."""
    net.eval()
    try:
        expected = net(images.clone())
        export_model(net, images, folder / "net.pt2", format="pt2")
    except (AutopruneError, RuntimeError) as error:
        pytest.skip(f"torch cannot: {str(error)[:60]}")
    if not isinstance(expected, Tensor):
        pytest.skip("more than one tensor")
    loaded = load_exported(folder / "net.pt2")
    torch.testing.assert_close(loaded(images), expected)
    torch.testing.assert_close(loaded(images), expected)  # nothing of it was changed
