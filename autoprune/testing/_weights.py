"""Weights that forwards compute, as the layers receive them: watched and replaced in eager PyTorch, call by call."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

_LAYERS = (torch.conv1d, torch.conv2d, torch.conv3d, F.linear)
_ALL = (*_LAYERS, torch.conv_transpose1d, torch.conv_transpose2d, torch.conv_transpose3d)


class LayerWeights(TorchFunctionMode):
    """Records the weight of every convolution and linear call, and replaces those given.

    Args:
        replaced: Number of the call -> function of its weight that returns another.

    Attributes:
        seen: The weights of all calls so far, as they came.
    """

    def __init__(self, replaced: Mapping[int, Callable[[Tensor], Tensor]] | None = None) -> None:
        super().__init__()
        self.replaced = replaced or {}
        self.seen: list[Tensor] = []

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """Run ``func``, layers among them with their weights replaced."""
        kwargs = dict(kwargs or {})
        if func in _ALL:
            weight = kwargs.pop("weight") if "weight" in kwargs else args[1]
            given = kwargs.pop("input") if "input" in kwargs else args[0]
            number = len(self.seen)
            self.seen.append(weight)
            change = self.replaced.get(number)
            args = (given, weight if change is None else change(weight), *args[2:])
        return func(*args, **kwargs)
