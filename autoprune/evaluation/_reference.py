"""What the dense network answered, which other networks' outputs are compared with."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from autoprune.errors import UsageError
from autoprune.evaluation._outputs import Outputs

MAX_REFERENCE_BYTES = 2**31
"""Outputs of the dense network that are kept; more are computed again beside every network that is scored, at twice the time."""


class Reference:
    """Outputs of the dense network, kept image by image, or computed again where they are too many.

    Args:
        again: Returns the dense network's outputs to a batch of inputs.
        part: What the part is called in messages.
        measured: For each tensor whether its variance is needed.

    Attributes:
        variances: Of each tensor, over all images and positions.
        kept: Whether the outputs are kept.
    """

    def __init__(self, again: Callable[[Any], Outputs], part: str, measured: Sequence[bool]) -> None:
        self._again, self._part, self._measured = again, part, measured
        self._batches: list[tuple[Tensor, ...]] = []
        self._tensors: tuple[Tensor, ...] = ()
        self._form: tuple[Any, ...] = ()
        self._shapes: list[torch.Size] = []
        self._sums: list[tuple[float, float, int]] = []
        self._bytes = 0
        self.kept = True
        self.variances: list[float] = []

    def add(self, found: Outputs) -> None:
        """Take the outputs to the next batch.

        Raises:
            UsageError: if they are of another form or shape than those before.
        """
        if not self._shapes:
            self._form, self._shapes = found.form, [tensor.shape[1:] for tensor in found.tensors]
            self._sums = [(0.0, 0.0, 0)] * len(found.tensors)
        self.check(found)
        for place, tensor in enumerate(found.tensors):
            if not self._measured[place]:
                continue
            total, squares, count = self._sums[place]
            values = tensor.double()
            self._sums[place] = (
                total + float(values.sum()),
                squares + float(values.square().sum()),
                count + values.numel(),
            )
        self._bytes += sum(tensor.numel() * tensor.element_size() for tensor in found.tensors)
        if self.kept and self._bytes > MAX_REFERENCE_BYTES:
            self.kept, self._batches = False, []
        if self.kept:
            self._batches.append(found.tensors)

    def close(self) -> Reference:
        """End the pass over the part."""
        if self.kept:
            self._tensors = tuple(torch.cat(column) for column in zip(*self._batches, strict=True))
        self._batches = []
        self.variances = [
            max(squares / count - (total / count) ** 2, 0.0) if count else 1.0 for total, squares, count in self._sums
        ]
        return self

    def check(self, found: Outputs) -> None:
        """Refuse outputs of another form or shape than the dense network's first ones.

        Raises:
            UsageError: saying both.
        """
        shapes = [tensor.shape[1:] for tensor in found.tensors]
        if shapes != self._shapes or found.form != self._form:
            told = ", ".join(str((*shape,)) for shape in self._shapes)
            raise UsageError(
                f"The network's output changes within the {self._part} part: an image's is {told} at first and then "
                f"{', '.join(str((*shape,)) for shape in shapes) or 'nothing'}; outputs must be nested and shaped alike to be "
                "compared: give inputs of one shape, or say with run=... what is compared."
            )

    def at(self, seen: Tensor, inputs: Any) -> tuple[Tensor, ...]:
        """Return the dense network's outputs to some images.

        Args:
            seen: Which images, shape (n,).
            inputs: These images.
        """
        if self.kept:
            return tuple(tensor[seen] for tensor in self._tensors)
        return self._again(inputs).tensors
