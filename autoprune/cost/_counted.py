"""Multiply-adds as torch counts them while a network runs."""

from __future__ import annotations

from threading import RLock

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from autoprune.model_guard import unchanged

_ONE_AT_A_TIME = RLock()
"""Which kernels attention takes is the process's: of two threads one would give back what the other had set."""


def counted_macs(model: nn.Module, images: Tensor) -> int:
    """Return the multiply-adds of one image that torch's FLOP counter counts, attention as plain matrix products."""
    counter = FlopCounterMode(display=False)
    with _ONE_AT_A_TIME:
        fast = torch.backends.mha.get_fastpath_enabled()
        torch.backends.mha.set_fastpath_enabled(False)  # its fused kernel is counted as nothing
        try:
            with unchanged(model), torch.no_grad(), sdpa_kernel(SDPBackend.MATH), counter:
                model(images)
        finally:
            torch.backends.mha.set_fastpath_enabled(fast)
    return counter.get_total_flops() // 2 // images.shape[0]
