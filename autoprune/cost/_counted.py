"""Multiply-adds as torch counts them while a network runs."""

from __future__ import annotations

from collections.abc import Callable
from threading import RLock
from typing import Any, cast

import torch
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from autoprune.model_guard import ModelInputs, as_inputs, unchanged

Run = Callable[[nn.Module, Any], Any]

_ONE_AT_A_TIME = RLock()
"""Which kernels attention takes is the process's: of two threads one would give back what the other had set."""


def counted_macs(model: nn.Module, example: Any, run: Run | None = None, *, images: int | None = None) -> int:
    """Return the multiply-adds of one image that torch's FLOP counter counts, attention as plain matrix products.

    Args:
        model: The network.
        example: A batch for it, see `autoprune.model_guard.as_inputs`; or for a function that runs it.
        run: The function, ``run(model, example)``.
        images: Number of images in the batch; None for what its first tensor says.
    """
    inputs = None if run is not None else as_inputs(example, model)
    counter = FlopCounterMode(display=False)
    with _ONE_AT_A_TIME:
        fast = torch.backends.mha.get_fastpath_enabled()
        torch.backends.mha.set_fastpath_enabled(False)  # its fused kernel is counted as nothing
        try:
            with unchanged(model), torch.no_grad(), sdpa_kernel(SDPBackend.MATH), counter:
                _ = inputs.call(model) if inputs is not None else cast(Run, run)(model, example)
        finally:
            torch.backends.mha.set_fastpath_enabled(fast)
    return counter.get_total_flops() // 2 // (images or len(cast(ModelInputs, inputs)))
