"""How far class scores are from others: what scores and probes measure against the dense network's answers."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor


def divergence(found: Tensor, reference: Tensor, temperature: float) -> Tensor:
    """Return the Kullback-Leibler divergence of softmaxes, image by image (Hinton et al. 2015), in nats, shape (N,).

    Args:
        found: Class scores, shape (N, classes).
        reference: Those that they should be, same shape.
        temperature: What both are divided by first.
    """
    ours, theirs = (F.log_softmax(scores.float() / temperature, dim=1) for scores in (found, reference))
    return F.kl_div(ours, theirs, reduction="none", log_target=True).sum(dim=1)
