"""Networks of timm (Wightman, "PyTorch Image Models"): built by name."""

from __future__ import annotations

from typing import Any, cast

from torch import nn

from autoprune.errors import AutopruneError, UsageError
from autoprune.registry import nearest
from autoprune.support.packages import lazy

timm = lazy("timm", "A network of timm's needs")


def build(
    name: str, num_classes: int | None
) -> tuple[nn.Module, tuple[int, ...], tuple[float, ...], tuple[float, ...]]:
    """Return a network with random weights, and what its published ones take: shape (C, H, W), mean, standard deviation.

    Args:
        name: Its name, with or without the tag of published weights ("resnet18", "resnet18.a1_in1k").
        num_classes: Number of outputs, None for its own.

    Raises:
        UsageError: if timm is not installed or has no such network.
        AutopruneError: if timm cannot make it.
    """
    known = timm.list_models(pretrained="." in name)
    if name not in known:
        raise UsageError(f"timm has no model '{name}'.{nearest(name, known)}")
    options: dict[str, Any] = {} if num_classes is None else {"num_classes": num_classes}
    try:
        network = timm.create_model(name, pretrained=False, **options)
    except Exception as error:  # whatever one of a thousand constructors raises
        raise AutopruneError(f"timm cannot make '{name}': {type(error).__name__}: {error}.") from error
    found = network.pretrained_cfg
    shape, mean, std = (tuple(found[key]) for key in ("input_size", "mean", "std"))
    return cast(nn.Module, network), shape, mean, std
