"""How far a batch of answers of any nesting is from the dense network's, as one number: what probes measure."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils import _pytree as pytree

from autoprune.evaluation._divergence import divergence
from autoprune.evaluation._outputs import scores_classes

PROBE_TEMPERATURE = 3.0
"""What class scores are divided by first."""


def answers_divergence(found: Any, dense: Any) -> Tensor:
    """Return how far answers of any nesting are from the dense network's: the mean over their tensors, a scalar.

    Class scores, shape (N, classes): mean Kullback-Leibler divergence in nats of softmaxes of temperature `PROBE_TEMPERATURE`.
    Any other tensor of real numbers: squared distance over the dense tensor's variance. Others are left out.

    Args:
        found: What a network answers.
        dense: What the dense network answers, nested alike.
    """
    pairs = [
        (ours, theirs)
        for ours, theirs in zip(pytree.tree_leaves(found), pytree.tree_leaves(dense), strict=True)
        if isinstance(theirs, Tensor) and theirs.is_floating_point() and theirs.numel()
    ]
    each = [
        divergence(ours, theirs, PROBE_TEMPERATURE).mean()
        if scores_classes(theirs)
        else F.mse_loss(ours, theirs) / theirs.var(unbiased=False).clamp(min=1e-12)
        for ours, theirs in pairs
    ]
    return each[0] if len(each) == 1 else torch.stack(each).mean() if each else torch.zeros(())
