"""What a factor on each channel does to the loss of each image: one pass forward and back over some calibration images."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from autoprune.errors import UsageError
from autoprune.groups import Group, Layer
from autoprune.model_guard import SafeGradients
from autoprune.reconstruct._plan import Affine, Dense, Plan
from autoprune.reconstruct._sequential import channel_axis

IMAGES = 256
"""Images whose gradients are taken, at most."""
CHUNK = 32  # images at a time


def gate_gradients(plan: Plan, groups: Sequence[Group], images: Tensor, *, seed: int) -> dict[int, Tensor]:
    """Return each image's derivative of the loss by a factor (of 1) on each channel, where layers read the group.

    The loss is the cross-entropy against a class drawn from the dense network's own softmax.

    Args:
        plan: The dense network's plan.
        groups: The groups whose channels get factors.
        images: Calibration images, shape (N, ...).
        seed: Seed of the classes.

    Returns:
        By the group's index, shape (min(N, 256), size).

    Raises:
        UsageError: if the network does not answer with class scores, or its program cannot be differentiated.
    """
    generator = torch.Generator().manual_seed(seed)
    found: dict[int, list[Tensor]] = {group.index: [] for group in groups}
    used = images[:IMAGES]
    for start in range(0, len(used), CHUNK):
        part = used[start : start + CHUNK]
        gates = {group.index: torch.ones(len(part), group.size, device=part.device) for group in groups}
        for gate in gates.values():
            gate.requires_grad_()
        with torch.enable_grad(), SafeGradients():
            scores = plan.answer(part, _Gated(gates))
            if scores.dim() != 2 or scores.shape[1] < 2:
                raise UsageError(
                    f"Gradients are taken of the loss of class scores, shape (images, classes), but this network answers with "
                    f"shape {tuple(scores.shape)}; choose a selection that needs none."
                )
            chances = scores.detach().double().softmax(dim=1).cpu()
            drawn = torch.multinomial(chances, 1, generator=generator)[:, 0].to(part.device)
            loss = F.cross_entropy(scores, drawn, reduction="sum")
            gradients = torch.autograd.grad(loss, list(gates.values()), allow_unused=True)
        for index, gate, gradient in zip(gates, gates.values(), gradients, strict=True):
            found[index].append(torch.zeros_like(gate) if gradient is None else gradient)
    return {index: torch.cat(parts) for index, parts in found.items()}


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
