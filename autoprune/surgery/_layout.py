"""How images and weights lie in memory: channels-last, which is fast on CPUs, unless a network's code cannot take it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from autoprune.model_guard import ModelInputs
from autoprune.surgery._prune import copy_model

Inputs = TypeVar("Inputs", Tensor, ModelInputs, Tensor | ModelInputs)


def fast_layout(inputs: Inputs, device: torch.device) -> Inputs:
    """Return inputs, each tensor channels-last where it is 4-D and the CPU computes.

    Convolutions follow the layout of their input, whatever that of the weights; on CPUs a small network is about twice as
    fast this way.
    """
    if isinstance(inputs, ModelInputs):
        return inputs.map(lambda tensor: fast_layout(tensor, device))
    if inputs.dim() == 4 and device.type == "cpu":
        return inputs.contiguous(memory_format=torch.channels_last)
    return inputs


def run_in_layout(model: nn.Module, images: Tensor) -> tuple[Any, bool]:
    """Run a network on images that may be channels-last, which some code cannot take: ``x.view(len(x), -1)`` after a convolution.

    Args:
        model: The network.
        images: Shape (N, C, H, W), or any other.

    Returns:
        Its output, and whether the images had to be laid out plainly for it.

    Raises:
        RuntimeError: what the network raises if that does not help either.
    """
    try:
        return model(images), False
    except RuntimeError as error:
        plain = images.contiguous()
        if plain.stride() == images.stride():
            raise
        try:
            return model(plain), True
        except RuntimeError:
            raise error from None


def lay_out(models: Sequence[nn.Module], images: Tensor | ModelInputs | None, device: torch.device) -> bool:
    """Move networks to a device and, on a CPU, make the weights of their convolutions channels-last if all run so.

    That is about twice as fast. Whether they run is tried on copies.

    Args:
        models: The networks, changed in place.
        images: Some of the inputs that they will be given, shape (N, ...); None where a call does not say it.
        device: Where they will run.

    Returns:
        Whether the weights are channels-last, and images are to be as `fast_layout` makes them.
    """
    for model in models:
        model.to(device)
    if images is None or device.type != "cpu" or not all(_runs_channels_last(model, images) for model in models):
        return False
    for model in models:
        model.to(memory_format=torch.channels_last)
    return True


@torch.no_grad()
def _runs_channels_last(model: nn.Module, images: Tensor | ModelInputs) -> bool:
    trial = copy_model(model).eval()
    try:
        trial.to(memory_format=torch.channels_last)  # not weights of 3-D convolutions
        given = fast_layout(images, images.device)
        _ = given.call(trial) if isinstance(given, ModelInputs) else trial(given)
    except Exception:  # whatever the user's forward raises: the run that matters says it
        return False
    return True


@contextmanager
def strides_kept(model: nn.Module) -> Iterator[None]:
    """Lay a network's parameters out afterwards as they were before, whatever was done to them in between."""
    before = [(parameter, parameter.stride()) for parameter in model.parameters()]
    try:
        yield
    finally:
        for parameter, strides in before:
            if parameter.stride() != strides:
                data = torch.empty_strided(parameter.shape, strides, dtype=parameter.dtype, device=parameter.device)
                parameter.data = data.copy_(parameter.data)
