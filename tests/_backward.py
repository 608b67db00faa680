"""A watch over every convolution's backward pass on the CPU: none may be one that oneDNN writes outside its memory in."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

CHANNELS = 16
"""oneDNN's block of channels with AVX-512; 8 without, but no test is to depend on the machine."""


def _channels_last(value: Tensor) -> bool:
    """Whether the channels vary fastest, by the strides alone."""
    return value.shape[1] > 1 and value.stride(1) == 1 and value.stride(-1) >= value.shape[1]


def unsafe(
    input: Tensor,
    weight: Tensor,
    stride: Sequence[int],
    padding: Sequence[int],
    *,
    transposed: bool,
    groups: int,
    wanted: Sequence[bool],
) -> str | None:
    """Return what is wrong with a backward pass, None if nothing is (see `autoprune.model_guard.SafeGradients`)."""
    small = weight.dim() < 5 and 1 < weight.shape[1] < CHANNELS and groups == 1 and weight.dtype == torch.float32
    strided = all(size == 1 for size in weight.shape[2:]) and any(step != 1 for step in stride) and not any(padding)
    if not (small and strided and any(wanted[1:]) and (_channels_last(input) or _channels_last(weight))):
        return None
    kind = "transposed " if transposed else ""
    return (
        f"The backward pass of a {kind}1x1 convolution of weight {tuple(weight.shape)}, stride {tuple(stride)}, on an input of "
        f"{tuple(input.shape)}, strides {input.stride()}, kills processes on some CPUs."
    )


@contextmanager
def watched() -> Iterator[None]:
    """Raise AssertionError, before it runs, in each such backward pass of this process."""
    kernel: Any = torch.library.get_kernel("aten::convolution_backward", "CPU")

    def backward(keys: Any, grad: Tensor, input: Tensor, weight: Tensor, *others: Any) -> Any:
        _, stride, padding, _, transposed, _, groups, wanted = others
        wrong = unsafe(input, weight, stride, padding, transposed=transposed, groups=groups, wanted=wanted)
        if wrong is not None:
            raise AssertionError(wrong)
        return kernel.call_boxed(keys, grad, input, weight, *others)

    library = torch.library.Library("aten", "IMPL")
    library.impl("convolution_backward", backward, "CPU", with_keyset=True)
    try:
        yield
    finally:
        library._destroy()
