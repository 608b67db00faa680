"""Small backward passes, run where a crash ends no test: as a script it reads the cases' numbers from stdin.

The gradients of each are compared with those in double precision, which no code of oneDNN computes.
"""

from __future__ import annotations

import itertools
import json
import random
import sys
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from autoprune.model_guard import SafeGradients

FUNCTIONS = {
    (1, False): F.conv1d,
    (2, False): F.conv2d,
    (3, False): F.conv3d,
    (1, True): F.conv_transpose1d,
    (2, True): F.conv_transpose2d,
    (3, True): F.conv_transpose3d,
}


class Case(NamedTuple):
    channels: int
    others: int
    stride: int
    kernel: int
    images_last: bool
    weight_last: bool
    dims: int
    transposed: bool


CASES = [
    Case(*values)
    for values in itertools.product(
        (1, 2, 3, 4, 5, 6, 7, 8, 9, 12, 15, 16, 17),
        (1, 3, 8, 10),
        (1, 2, 3),
        (1, 2, 3),
        (False, True),
        (False, True),
        (1, 2, 3),
        (False, True),
    )
    if values[6] == 2 or values[0] < 9  # fewer where it matters less
]


def laid_out(shape: tuple[int, ...], last: bool, generator: torch.Generator) -> Tensor:
    """Return random numbers, the channels fastest if ``last``; for a 1x1 kernel that is strides of (c, 1, c, c)."""
    values = torch.randn(shape, generator=generator)
    if not last:
        return values
    count, channels, *sizes = shape
    return torch.empty(count, *sizes, channels).movedim(-1, 1).copy_(values)


def run(case: Case, seed: int) -> tuple[Any, ...]:
    """Run a case, what it does not say drawn by the seed; return its error relative to double precision, and the case."""
    chance, generator = random.Random(seed), torch.Generator().manual_seed(seed)
    groups = chance.choice((1, 1, 1, case.channels))
    padding, size = chance.choice((0, case.kernel // 2)), chance.choice((6, 7, 8, 12))
    if case.dims == 3:
        size = 4  # sums over more are not exact enough in single precision
    count, bias, wanted = chance.choice((1, 2, 17, 32)), chance.random() < 0.5, chance.choice((1, 2, 3))
    inside, outside = case.channels, case.others * groups
    if case.transposed and groups == 1:
        inside, outside = outside, inside  # the small number is that of the outputs
    shape = (inside, outside // groups) if case.transposed else (outside, inside // groups)
    x = laid_out((count, inside, *[size] * case.dims), case.images_last, generator)
    weight = laid_out((*shape, *[case.kernel] * case.dims), case.weight_last, generator)
    offset = torch.randn(outside, generator=generator) if bias else None
    settings: dict[str, Any] = {"stride": case.stride, "padding": padding, "groups": groups}
    if case.transposed:
        settings["output_padding"] = case.stride - 1
    found: list[list[Tensor]] = []
    for dtype in (torch.float64, torch.float32):
        given = [None if value is None else value.to(dtype, copy=True) for value in (x, weight, offset)]
        for value, asked in zip(given, (wanted & 1, wanted & 2, True), strict=True):
            if value is not None:
                value.requires_grad_(bool(asked))
        with SafeGradients():
            result = FUNCTIONS[case.dims, case.transposed](*given, **settings)
        direction = torch.linspace(0.5, 1.5, result.numel(), dtype=dtype).view_as(result)
        (result * direction).sum().backward()  # type: ignore[no-untyped-call]
        found.append(
            [result.detach(), *(value.grad for value in given if value is not None and value.grad is not None)]
        )
    errors = [float((a - b).norm() / a.norm().clamp(min=1e-9)) for a, b in zip(*found, strict=True)]
    return max(errors), case, seed


def main() -> None:
    """Run the cases of the numbers on stdin and print the worst of them."""
    worst = max((run(CASES[number], number) for number in json.load(sys.stdin)), key=lambda result: result[0])
    sys.stdout.write(json.dumps(worst))


if __name__ == "__main__":
    main()
