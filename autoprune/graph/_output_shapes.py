"""Whether the shapes of what a recorded network answers hang on what its inputs show."""

from __future__ import annotations

import math
from contextlib import suppress

import torch
from torch import nn

from autoprune.errors import AutopruneError
from autoprune.graph._record import output_tensors
from autoprune.model_guard import ModelInputs, eval_mode, unchanged


def check_shapes(model: nn.Module, inputs: ModelInputs) -> None:
    """See that the outputs of a model that was recorded have shapes that do not hang on what images show.

    Raises:
        AutopruneError: if they do, or if they are empty.
    """
    if not any(tensor.is_floating_point() for tensor in inputs.tensors):
        return
    generator = torch.Generator().manual_seed(1)
    noise = inputs.map(lambda t: torch.randn(t.shape, generator=generator).to(t) if t.is_floating_point() else t)
    shapes: list[list[list[int]]] = []
    with unchanged(model), eval_mode(model), torch.no_grad():
        for x in (inputs, noise, _combined(inputs, noise, 1.0), _combined(inputs, inputs, -2.0)):
            with suppress(Exception):  # of images that are no pictures
                shapes.append([list(out.shape) for out in output_tensors(x.call(model))])
    if not shapes:
        return
    first = shapes[0]
    advice = "so its channels cannot be told; prune the part before that, its backbone for instance (--part backbone)."
    for second in shapes[1:]:
        if first == second:
            continue
        one, other = next(((a, b) for a, b in zip(first, second, strict=False) if a != b), (first, second))
        raise AutopruneError(
            f"The model's outputs have other shapes for other images ({one} and {other}), as a detector's that keeps boxes by "
            f"their scores, {advice}"
        )
    if first and not any(math.prod(shape) for shape in first):
        raise AutopruneError(
            f"The model's outputs are empty for the example (of shape {first[0]}), as a detector's that finds nothing, {advice}"
        )


def _combined(inputs: ModelInputs, others: ModelInputs, factor: float) -> ModelInputs:
    """Return ``inputs + factor * others`` of all tensors of real numbers."""
    following = iter(others.tensors)
    return inputs.map(lambda t: t + next(following) * factor if t.is_floating_point() else (next(following), t)[1])
