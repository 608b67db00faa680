"""What is minimised: cross-entropy, distillation from the dense network's logits, and matching of its features."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor


def distillation(student: Tensor, teacher: Tensor, *, temperature: float) -> Tensor:
    """Return T² KL(teacher || student) of the distributions at temperature T, the mean over the batch.

    Hinton, Vinyals and Dean, "Distilling the Knowledge in a Neural Network", 2015; the T² keeps the size of the gradient.

    Args:
        student: Logits, shape (B, classes).
        teacher: Logits of the dense network, shape (B, classes).
        temperature: T.
    """
    log_p = F.log_softmax(student / temperature, dim=1)
    log_q = F.log_softmax(teacher / temperature, dim=1)
    return temperature**2 * F.kl_div(log_p, log_q, reduction="batchmean", log_target=True)


def matching(student: Sequence[Tensor], teacher: Sequence[Tensor]) -> Tensor:
    """Return the mean over layers of the squared difference of features, in shares of the teacher's mean square."""
    shares = [
        F.mse_loss(mine.float(), theirs.float()) / theirs.float().square().mean().clamp_min(1e-12)
        for mine, theirs in zip(student, teacher, strict=True)
    ]
    return torch.stack(shares).mean()


def total_loss(
    logits: Tensor,
    labels: Tensor,
    teacher: Tensor | None,
    *,
    distill: float,
    temperature: float,
    label_smoothing: float,
) -> Tensor:
    """Return (1 - distill) cross-entropy + distill distillation; cross-entropy alone without a teacher.

    Args:
        logits: Shape (B, classes).
        labels: Shape (B,).
        teacher: The dense network's logits, shape (B, classes), or None.
        distill: Share of the distillation.
        temperature: Of the distillation.
        label_smoothing: Of the cross-entropy.
    """
    own = F.cross_entropy(logits.float(), labels, label_smoothing=label_smoothing)
    if teacher is None or distill == 0:
        return own
    return (1 - distill) * own + distill * distillation(logits.float(), teacher.float(), temperature=temperature)
