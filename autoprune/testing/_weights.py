"""What layers and products receive in eager PyTorch, call by call: weights watched and replaced, operands masked."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

_LAYERS = (torch.conv1d, torch.conv2d, torch.conv3d, F.linear)
_RECURRENT = tuple(f"{name}{cell}" for name in ("lstm", "gru", "rnn_tanh", "rnn_relu") for cell in ("", "_cell"))
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


class MaskedProducts(TorchFunctionMode):
    """Products of activations that leave out terms.

    Args:
        masks: Operator and number of the call among those of this operator -> operand, dimension, and which of its indices stay.
    """

    _OPS: Mapping[Any, str] = {
        **dict.fromkeys((torch.matmul, Tensor.matmul, Tensor.__matmul__), "aten.matmul"),
        **dict.fromkeys((torch.bmm, Tensor.bmm), "aten.bmm"),
        **dict.fromkeys((torch.mm, Tensor.mm), "aten.mm"),
        torch.einsum: "aten.einsum",
        **{getattr(torch, name): f"aten.{name}" for name in _RECURRENT},
    }

    def __init__(self, masks: Mapping[tuple[str, int], tuple[int, int, Tensor]]) -> None:
        super().__init__()
        self.masks = masks
        self.calls: Counter[str] = Counter()

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """Run ``func`` on what stays."""
        op = self._OPS.get(func)
        if op is not None:
            mask = self.masks.get((op, self.calls[op]))
            self.calls[op] += 1
            if mask is not None:
                operand, dim, stays = mask
                skipped = 1 if op == "aten.einsum" else 0  # its equation
                operands = list(args[skipped:])
                x = operands[operand]
                operands[operand] = x * stays.to(x).view([-1 if d == dim else 1 for d in range(x.dim())])
                args = (*args[:skipped], *operands)
        return func(*args, **(kwargs or {}))
