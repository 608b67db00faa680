"""The learning rate of every step: a linear rise, then half a cosine down to zero."""

from __future__ import annotations

import math


def learning_rate(step: int, steps: int, *, highest: float, warmup: float) -> float:
    """Return the learning rate of one step (Loshchilov and Hutter, "SGDR", 2017, equation 5, one period).

    Args:
        step: The step, from 0.
        steps: All steps.
        highest: Rate at the end of the rise.
        warmup: Share of the steps in which it rises.
    """
    rise = round(warmup * steps)
    if step < rise:
        return highest * (step + 1) / rise
    return highest * 0.5 * (1 + math.cos(math.pi * (step - rise) / max(steps - rise, 1)))
