"""A network and data that were passed from Python: checked, understood, and with a fingerprint."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from autoprune.data import CALIBRATION, Adapted, Expected, adapt, fingerprint_parts, is_function, name_of
from autoprune.errors import UsageError
from autoprune.evaluation import Evaluate, Task
from autoprune.model_guard import check_example, check_inputs
from autoprune.models import check_finite
from autoprune.runs import Inputs, RunConfig, check_device, check_run, classes_of
from autoprune.support.fingerprint import fingerprint


def inputs_passed(
    model: nn.Module, example_input: Any, parts: tuple[Any, Any, Any], *, config: RunConfig, task: Task
) -> Inputs:
    """Check what was passed and put it together.

    Args:
        model: The network.
        example_input: A batch for it, or for the task's function that runs batches.
        parts: Calibration, search and report part.
        config: The configuration, as far as it is known.
        task: What networks are judged by, as asked for.

    Raises:
        UsageError: if something does not fit.
    """
    calibration, evaluate, report = parts
    check_device(config.device)
    if isinstance(example_input, Tensor) and task.run is None:
        check_example(example_input)
        if example_input.ndim < 2 or len(example_input) < 2:
            raise UsageError(
                "The example_input must be a tensor with a batch of at least two images, shape (B, C, H, W)."
            )
    elif task.run is None and len(check_inputs(example_input, model)) < 2:
        raise UsageError("The example_input must be a batch of at least two items.")
    check_finite(model.state_dict(), weights="of the model")
    outputs = check_run(model, example_input, task.run)
    given: dict[str, Any] = {"model": model, "runs": task.run is not None, "batch": config.batch_size}
    classes, task = classes_of(outputs), task if is_function(evaluate) else task.suited(outputs)
    if is_function(evaluate):
        task, _ = task.seen_in(evaluate)
    else:
        expected = Expected.of(example_input, classes, targets=task.reads_targets, **given)
        task, evaluate = task.seen_in(evaluate, expected)
        task = task.completed(outputs)
    expected = Expected.of(example_input, classes, targets=task.reads_targets, **given)
    images = adapt(calibration, "calibration", expected, labelled=False if task.labels else None, most=CALIBRATION)
    search, held_out = (
        _adapted(part, name, expected, task) for part, name in ((evaluate, "evaluate"), (report, "report"))
    )
    assert search is not None
    shape = tuple(example_input.shape[1:]) if isinstance(example_input, Tensor) else ()
    return Inputs(
        model=model,
        example_input=example_input,
        calibration=images,
        search=search,
        report=held_out,
        model_spec={
            "name": name_of(type(model)),
            "input_shape": list(shape),
            "num_classes": classes,
            "buildable": False,
        },
        recorded={
            "model_fingerprint": fingerprint((k, v) for k, v in model.state_dict().items() if isinstance(v, Tensor)),
            "data_fingerprint": fingerprint_parts(images, search, held_out),
            "input_shape": shape,
            **task.recorded,
        },
        task=task,
    )


def _adapted(part: Any, name: str, expected: Expected, task: Task) -> Adapted | Evaluate | None:
    """Return images as they are understood, the user's own function, or None for neither."""
    if part is None and name == "report":
        return None
    if is_function(part):
        function: Evaluate = part
        return function
    return adapt(part, name, expected, labelled=True if task.labels else None)
