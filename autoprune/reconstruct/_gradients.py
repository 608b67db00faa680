"""What a factor on each channel does to the loss of each image: one pass forward and back over some calibration images."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from autoprune.errors import UsageError
from autoprune.groups import Group, Layer
from autoprune.model_guard import ModelInputs, SafeGradients
from autoprune.reconstruct._plan import Dense, Plan
from autoprune.reconstruct._sequential import channel_axis
from autoprune.reconstruct._steps import Affine

IMAGES = 256
"""Images whose gradients are taken, at most."""
CHUNK = 32  # images at a time


def gate_gradients(
    plan: Plan, groups: Sequence[Group], images: Tensor | ModelInputs, *, seed: int
) -> dict[int, Tensor]:
    """Return each image's derivative of the loss by a factor (of 1) on each channel, where layers read the group.

    For class scores, shape (N, classes), the loss is the cross-entropy against a class drawn from the dense network's own
    softmax. For other answers it is the likelihood of what a normal distribution around them draws, whose variance is each
    tensor's own: the mean square of the derivatives is then the relative squared error of the answers.

    Args:
        plan: The dense network's plan.
        groups: The groups whose channels get factors.
        images: Calibration images, each tensor (N, ...).
        seed: Seed of what is drawn.

    Returns:
        By the group's index, shape (min(N, 256), size).

    Raises:
        UsageError: if no answer can be differentiated.
    """
    generator = torch.Generator().manual_seed(seed)
    found: dict[int, list[Tensor]] = {group.index: [] for group in groups}
    used = images[:IMAGES]
    for start in range(0, len(used), CHUNK):
        part = used[start : start + CHUNK]
        gates = {group.index: torch.ones(len(part), group.size, device=images.device) for group in groups}
        for gate in gates.values():
            gate.requires_grad_()
        with torch.enable_grad(), SafeGradients():
            loss = _loss(plan.answer(part, _Gated(gates)), generator)
            gradients = torch.autograd.grad(loss, list(gates.values()), allow_unused=True)
        for index, gate, gradient in zip(gates, gates.values(), gradients, strict=True):
            found[index].append(torch.zeros_like(gate) if gradient is None else gradient)
    return {index: torch.cat(parts) for index, parts in found.items()}


def _loss(answers: Sequence[Tensor], generator: torch.Generator) -> Tensor:
    """Return the summed loss of a batch's answers, against what is drawn from them."""
    if len(answers) == 1 and answers[0].dim() == 2 and answers[0].shape[1] > 1:
        chances = answers[0].detach().double().softmax(dim=1).cpu()
        drawn = torch.multinomial(chances, 1, generator=generator)[:, 0].to(answers[0].device)
        return F.cross_entropy(answers[0], drawn, reduction="sum")
    real = [answer for answer in answers if answer.requires_grad and answer.numel()]
    if not real:
        raise UsageError(
            "Gradients are taken of what the network answers, but no answer has one; choose a selection that needs none."
        )
    loss = real[0].new_zeros(())
    for answer in real:
        noise = torch.randn(answer.shape, generator=generator, dtype=torch.float64).to(answer)
        deviation = answer.detach().var(unbiased=False).clamp(min=1e-12).sqrt()
        loss = loss + (answer * noise).sum() / (deviation * (answer[0].numel() * len(real)) ** 0.5)
    return loss


class _Gated:
    """Visits layers: those that read channels one by one get them times their factors."""

    def __init__(self, gates: dict[int, Tensor]) -> None:
        self._gates = gates

    def __call__(self, step: Affine, value: Tensor, _other: Tensor | None, dense: Dense) -> Tensor:
        factor = self._factor(step.layer)
        if factor is None:
            return dense(value)
        axis = channel_axis(step.layer, value)
        shape = [len(value), *(-1 if dim == axis else 1 for dim in range(1, value.dim()))]
        return dense(value * factor.reshape(shape))

    def _factor(self, layer: Layer) -> Tensor | None:
        """Return the factor of every input channel, shape (N, in_channels)."""
        factor = None
        for index, gate in self._gates.items():
            own = torch.from_numpy((layer.in_group == index).nonzero()[0]).to(gate.device)
            if not layer.reads_channels or not len(own):
                continue
            units = torch.from_numpy(layer.in_unit).to(gate.device)[own]
            whole = gate.new_ones(len(gate), layer.in_channels) if factor is None else factor
            factor = whole.index_copy(1, own, gate.index_select(1, units))
        return factor
