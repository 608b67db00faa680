"""Gradients of strided 1x1 convolutions with few channels, which oneDNN computes outside of its own memory."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import torch.nn.functional as F
from torch import Tensor
from torch.overrides import TorchFunctionMode

SAFE_CHANNELS = 16
"""From this many channels on oneDNN is right on every CPU: without AVX-512 8 suffice."""

Sizes = int | Sequence[int]
"""One number for all spatial dimensions, or one for each."""


class SafeGradients(TorchFunctionMode):
    """Compute strided 1x1 convolutions with few channels so that their backward pass is safe on CPUs.

    oneDNN's gradient of the weights (and bias) of such a convolution writes past the end of its workspace: the process dies,
    hangs for ever or goes on with damaged memory (oneDNN issue 6035; torch 2.14 has oneDNN 3.12). It does so where all of
    this holds, as measured on a CPU without AVX-512:

    - a kernel of 1 in 1 or 2 dimensions, a stride other than 1 in any of them, no padding, one group, float32;
    - 2 to 7 input channels (by the issue 2 to 15 on a CPU with AVX-512), any number of output channels, several images or
      threads;
    - each size of the input is a multiple of its stride, and the outputs are more than one row;
    - the input or the weight is channels-last, for a weight also by strides ``(c, 1, c, c)`` that reshaping left behind;
    - the gradient of the weight or of the bias is asked for; that of the input alone is right.

    For a transposed 1x1 convolution its output channels count. Strides of 1, larger kernels, several groups, 3-D
    convolutions and plain layouts run other code. Inside this mode the input is subsampled first (or, if transposed, spread
    out) and the convolution has a stride of 1: the same function of the same parameters. Every other call is passed on as it
    is, so that a network without such a layer computes the same bits. The mode counts during the forward pass; what a
    backward pass computes again (activation checkpointing) is out of its reach.

    >>> layer = torch.nn.Conv2d(4, 8, 1, stride=2).to(memory_format=torch.channels_last)
    >>> with SafeGradients():
    ...     loss = layer(torch.randn(32, 4, 32, 32)).sum()
    >>> loss.backward()
    """

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        """Call a function of torch, or what replaces it."""
        return _REPLACED.get(func, func)(*args, **(kwargs or {}))


def _convolution(
    function: Callable[..., Tensor],
    input: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: Sizes = 1,
    padding: str | Sizes = 0,
    dilation: Sizes = 1,
    groups: int = 1,
) -> Tensor:
    """Convolve, weight (out, in / groups, *kernel); over a kernel of 1 the stride is taken on the input."""
    unpadded = padding == "valid" or (not isinstance(padding, str) and not any(_each(padding, weight)))
    if not (unpadded and groups == 1 and _affected(weight, stride)):
        return function(input, weight, bias, stride, padding, dilation, groups)
    return function(input[_every(_each(stride, weight))], weight, bias)


def _transposed(
    function: Callable[..., Tensor],
    input: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: Sizes = 1,
    padding: Sizes = 0,
    output_padding: Sizes = 0,
    groups: int = 1,
    dilation: Sizes = 1,
) -> Tensor:
    """Convolve transposed, weight (in, out / groups, *kernel); over a kernel of 1 the stride is taken on the input."""
    if any(_each(padding, weight)) or groups > 1 or not _affected(weight, stride):
        return function(input, weight, bias, stride, padding, output_padding, groups, dilation)
    steps, more = _each(stride, weight), _each(output_padding, weight)
    kept = input.dim() - len(steps)
    sizes = [(size - 1) * step + 1 + rest for size, step, rest in zip(input.shape[kept:], steps, more, strict=True)]
    spread = input.new_zeros((*input.shape[:kept], *sizes))
    spread[_every(steps)] = input
    return function(spread, weight, bias)


def _affected(weight: Tensor, stride: Sizes) -> bool:
    """Return whether a convolution with this weight, which neither pads nor has groups, may be one of those."""
    small = (
        weight.device.type == "cpu" and weight.shape[1] < SAFE_CHANNELS and all(size == 1 for size in weight.shape[2:])
    )
    return small and any(step != 1 for step in _each(stride, weight))


def _each(value: Sizes, weight: Tensor) -> tuple[int, ...]:
    """Return a number for each spatial dimension."""
    dims = weight.dim() - 2
    values = (value,) if isinstance(value, int) else tuple(value)
    return values * dims if len(values) == 1 else values


def _every(steps: tuple[int, ...]) -> tuple[Any, ...]:
    return (..., *(slice(None, None, step) for step in steps))


_REPLACED: dict[Callable[..., Any], Callable[..., Any]] = {
    **{function: partial(_convolution, function) for function in (F.conv1d, F.conv2d)},
    **{function: partial(_transposed, function) for function in (F.conv_transpose1d, F.conv_transpose2d)},
}
