"""What a step makes small, given what the network and the dense one answer: with labels or without."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from autoprune.errors import UsageError
from autoprune.evaluation import Divergence, Outputs, Reference, Task, answered, check_comparable, outputs_to
from autoprune.finetuning._losses import total_loss
from autoprune.finetuning._recipe import Recipe


class Objective(Protocol):
    """A loss of one batch."""

    def __call__(self, inputs: Any, labels: Any, found: Any, taught: Any) -> Tensor:
        """Return the mean loss over a batch, a scalar.

        Args:
            inputs: What the networks were given.
            labels: Class numbers, shape (B,), or None.
            found: What the network answered.
            taught: What the dense network answered, None without one.
        """


class LabelLoss:
    """Cross-entropy with the labels and distillation of logits, see `total_loss`.

    Args:
        recipe: How much of each.
    """

    def __init__(self, recipe: Recipe) -> None:
        self._recipe = recipe

    def __call__(self, inputs: Any, labels: Any, found: Any, taught: Any) -> Tensor:
        """Return the mean loss over a batch."""
        return total_loss(
            outputs_to(inputs, found).tensors[0],
            labels,
            None if taught is None else outputs_to(inputs, taught).tensors[0],
            distill=self._recipe.distill,
            temperature=self._recipe.temperature,
            label_smoothing=self._recipe.label_smoothing,
        )


class OutputLoss:
    """The divergence from the dense network's outputs.

    Args:
        divergence: How outputs are compared.
        variances: Of the dense network's outputs, one for each tensor.
        temperature: Of class scores.
    """

    def __init__(self, divergence: Divergence, variances: Sequence[float], *, temperature: float) -> None:
        self._divergence, self._variances, self._temperature = divergence, variances, temperature

    def __call__(self, inputs: Any, labels: Any, found: Any, taught: Any) -> Tensor:
        """Return the mean divergence over a batch.

        Raises:
            UsageError: if the networks' outputs are nested or shaped differently, or there is no gradient.
        """
        ours, theirs = outputs_to(inputs, found), outputs_to(inputs, taught)
        if ours.form != theirs.form or [one.shape for one in ours.tensors] != [one.shape for one in theirs.tensors]:
            raise UsageError(
                f"The network gives {ours.text} where the dense network gives {theirs.text}, so that it cannot learn these: "
                "say with run=... what is compared (--run module:function), for instance what heads give before any selection."
            )
        if not any(tensor.requires_grad for tensor in ours.tensors):
            raise UsageError(
                "The network's outputs have no gradient (a forward without gradients, or rounded values), so that nothing is "
                "learned from them; say with run=... what is compared (--run module:function)."
            )
        loss = self._divergence.loss(ours.tensors, theirs.tensors, self._variances, temperature=self._temperature)
        if not loss.requires_grad:
            names = ", ".join(dict.fromkeys(self._divergence.names))
            raise UsageError(
                f"The divergence {names} has no gradient, so that nothing is learned from it; fine-tune with another one: kl, "
                "relative, cosine."
            )
        return loss.float().mean()


@torch.no_grad()
def output_loss(teacher: nn.Module, batches: Iterable[Any], measure: Task, *, temperature: float) -> OutputLoss:
    """Return the divergence from a dense network's outputs, in units of their variance over some batches.

    Args:
        teacher: The dense network in eval mode.
        batches: Inputs where it is.
        measure: How outputs are compared, and how a batch is run.
        temperature: Of class scores.

    Raises:
        UsageError: if its outputs cannot be compared.
    """

    def dense(inputs: Any) -> Outputs:
        return outputs_to(inputs, answered(measure.run, teacher, inputs))

    reference: Reference | None = None
    for inputs in batches:
        outputs = dense(inputs)
        if reference is None:
            check_comparable(outputs, "The dense network")
            divergence = Divergence(measure.divergence, outputs)
            reference = Reference(dense, "train", [not by_kl for by_kl in divergence.by_kl])
        reference.add(outputs)
    assert reference is not None  # there are at least two images
    return OutputLoss(divergence, reference.close().variances, temperature=temperature)
