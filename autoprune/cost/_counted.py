"""Multiply-adds as torch counts them while a network runs."""

from __future__ import annotations

from threading import RLock
from typing import Any

import torch
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from autoprune.model_guard import as_inputs, unchanged

_ONE_AT_A_TIME = RLock()
"""Which kernels attention takes is the process's: of two threads one would give back what the other had set."""


def counted_macs(model: nn.Module, example: Any) -> int:
    """Return the multiply-adds of one image that torch's FLOP counter counts, attention as plain matrix products.

    Args:
        model: The network.
        example: A batch for it, see `autoprune.model_guard.as_inputs`.
    """
    inputs = as_inputs(example, model)
    counter = FlopCounterMode(display=False)
    with _ONE_AT_A_TIME:
        fast = torch.backends.mha.get_fastpath_enabled()
        torch.backends.mha.set_fastpath_enabled(False)  # its fused kernel is counted as nothing
        try:
            with unchanged(model), torch.no_grad(), sdpa_kernel(SDPBackend.MATH), counter:
                inputs.call(model)
        finally:
            torch.backends.mha.set_fastpath_enabled(fast)
    return counter.get_total_flops() // 2 // len(inputs)
