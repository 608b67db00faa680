"""Backward passes of small convolutions: none may kill the process, hang or be wrong, and the tests see any that could."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from autoprune.model_guard import SafeGradients

from .. import _backward_cases
from .._backward_cases import CASES
from .._sample import pick


def test_small_backward_passes_end_and_are_right() -> None:
    numbers = pick(range(len(CASES)), 120)
    done = subprocess.run(
        [sys.executable, str(Path(_backward_cases.__file__))],
        input=json.dumps(numbers),
        capture_output=True,
        text=True,
        timeout=120 + len(numbers) / 5,
        check=False,
    )
    assert done.returncode == 0, (done.returncode, done.stderr[-2000:])
    error, *case = json.loads(done.stdout)
    assert error < 1e-3, case  # torch sums the gradient of a bias in single precision


LAST = {"memory_format": torch.channels_last}


def strided(x: Tensor, weight: Tensor, *, transposed: bool = False) -> Tensor:
    return F.conv_transpose2d(x, weight, None, 2, 0, 1) if transposed else F.conv2d(x, weight, None, 2)


@pytest.mark.parametrize("transposed", [False, True])
def test_the_watch_sees_what_kills_processes(transposed: bool) -> None:
    x = torch.randn(8, 5, 8, 8).to(**LAST)
    weight = torch.randn(5, 5, 1, 1, requires_grad=True)
    with pytest.raises(AssertionError, match="kills processes"):
        strided(x, weight, transposed=transposed).sum().backward()
    with SafeGradients():
        strided(x, weight, transposed=transposed).sum().backward()
    plain = torch.randn(8, 5, 8, 8)
    strided(plain, weight, transposed=transposed).sum().backward()  # a plain layout is safe
    reshaped = torch.randn(5, 1, 1, 5).movedim(-1, 1).requires_grad_()
    with pytest.raises(AssertionError, match="kills processes"):
        strided(plain, reshaped, transposed=transposed).sum().backward()


class Mixed(nn.Module):
    """No layer of that kind: larger kernels, a stride of 1, many channels, several groups."""

    def __init__(self) -> None:
        super().__init__()
        self.net = nn.Sequential(
            nn.Conv2d(3, 6, 3, stride=2, padding=1),
            nn.Conv2d(6, 18, 1),
            nn.ReLU(),
            nn.Conv2d(18, 6, 1, stride=2),
            nn.Conv2d(6, 6, 1, stride=2, groups=6),
            nn.ConvTranspose2d(6, 4, 2, stride=2),
        )

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.net(x)
        return out


def test_other_networks_compute_the_same_bits() -> None:
    torch.manual_seed(0)
    model, x = Mixed().to(**LAST), torch.randn(16, 3, 32, 32).to(**LAST)  # type: ignore[call-overload]
    results = []
    for safe in (False, True):
        model.zero_grad()
        if safe:
            with SafeGradients():
                out = model(x)
        else:
            out = model(x)
        out.square().sum().backward()
        results.append([out.detach(), *(parameter.grad for parameter in model.parameters())])
    assert all(torch.equal(a, b) for a, b in zip(*results, strict=True))
