"""Whether devices, networks and inputs go together, before anything is searched or trained."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from autoprune.data import Adapted, Nested, RunBatch, Stream
from autoprune.errors import UsageError
from autoprune.evaluation import Outputs, Run, outputs_of, run_by
from autoprune.model_guard import as_inputs, eval_mode, run_once, unchanged
from autoprune.support.device import resolve_device


def check_device(device: str) -> None:
    """See that a device exists.

    Raises:
        UsageError: if it does not, or its name cannot be read.
    """
    kind = resolve_device(device)
    if kind.type not in ("cpu", "cuda"):
        raise UsageError(f"The device '{device}' is not supported; use cpu or cuda.")
    if kind.type == "cuda" and (kind.index or 0) >= torch.cuda.device_count():
        raise UsageError(
            f"The device '{device}' was asked for, but there are {torch.cuda.device_count()} CUDA devices here; "
            "they count from cuda:0."
        )


def example_batch(data: Adapted) -> Tensor:
    """Return two images as a batch, shape (2, C, H, W); twice the same one where there are no more."""
    if isinstance(data, Stream | Nested):
        images = data.first(2)[0]
    else:
        images = torch.stack([data[index][0] for index in (0, min(1, len(data) - 1))])
    return images if len(images) == 2 else images[[0, 0]]


def check_output(model: nn.Module, example: Tensor) -> int:
    """See that the model takes such images, and return its number of outputs.

    Raises:
        UsageError: if it does not; says what shape the images have.
    """
    classes = classes_of(check_run(model, example))
    if classes is None:
        raise UsageError("The model does not return one tensor of logits (B, classes), which is needed here.")
    return classes


def check_run(model: nn.Module, example: Any, run: Run | None = None) -> Outputs:
    """See that the model takes such inputs, and return what it gives.

    Args:
        model: The model.
        example: A batch for it, of any nesting.
        run: Runs it on the batch; None for a plain call.

    Raises:
        UsageError: if it does not; says what shape the images have.
    """
    with unchanged(model), eval_mode(model), torch.no_grad():
        if run is not None:
            return outputs_of(run_by(run, model, example), None, RunBatch(example).lengths)
        inputs = example if isinstance(example, Tensor) else as_inputs(example, model)
        output = run_once(model, inputs, advice="check the model, the data and the input size")
    return outputs_of(output, len(inputs))


def classes_of(outputs: Outputs) -> int | None:
    """Return the number of classes that outputs are scores of, None if they are none."""
    if len(outputs.tensors) != 1 or outputs.tensors[0].dim() != 2:
        return None
    return int(outputs.tensors[0].shape[1])
