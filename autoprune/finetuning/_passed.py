"""What is fine-tuned on what, of a network and data that were passed from Python."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from torch import Tensor, nn

from autoprune.cost import counted_macs
from autoprune.data import Expected, Held, Images, Items, adapt, as_dataset, is_function, labels_in
from autoprune.errors import UsageError
from autoprune.evaluation import ACCURACY, Outputs, Part
from autoprune.evaluation import Task as Measured
from autoprune.finetuning._batches import NestedTraining, has_labels
from autoprune.finetuning._recipe import Recipe
from autoprune.finetuning._run_data import check_teaching
from autoprune.finetuning._scratch import reinitialise
from autoprune.finetuning._task import Task
from autoprune.model_guard import eval_mode
from autoprune.runs import check_run, classes_of
from autoprune.support.fingerprint import fingerprint
from autoprune.surgery import copy_model


def task_passed(
    model: nn.Module,
    train: Images,
    evaluate: Part,
    report: Part | None,
    *,
    teacher: nn.Module | None,
    recipe: Recipe,
    measure: Measured,
    example_input: Any = None,
) -> Task:
    """Put together what is trained on what; the caller's networks are copied.

    Args:
        model: The network.
        train: What is trained on.
        evaluate: What the best epoch is chosen by.
        report: What the result is measured on; None for ``evaluate``.
        teacher: The dense network, None without distillation.
        recipe: The recipe.
        measure: What networks are measured by, as asked for; its labels count for the training images too.
        example_input: A batch for the network; None for the first training image.

    Raises:
        UsageError: if something does not fit, or there is nothing to learn from.
    """
    if measure.run is not None and example_input is None:
        raise UsageError("A run function needs an example_input: one batch, as it gets it.")
    network = copy_model(model).cpu()
    learns = measure.labels is not False and (measure.metric or ACCURACY).name == ACCURACY.name
    data, example, outputs, learns = _train(network, train, measure, example_input, learns=learns)
    if not learns and teacher is None:
        raise UsageError(
            "The train part is images without labels to learn from, of which a network learns what the dense one answers: give "
            "teacher=..., the dense network, or labels."
        )
    measure = measure if is_function(evaluate) else measure.suited(outputs)
    expected = Expected.of(
        example, classes_of(outputs), model=network, runs=measure.run is not None, targets=measure.reads_targets
    )
    if is_function(evaluate):
        measure, _ = measure.seen_in(evaluate)
    else:
        measure, evaluate = measure.seen_in(evaluate, expected)
        measure = measure.completed(outputs)
        if not measure.labels and teacher is None:
            raise UsageError(
                "The evaluate part has no labels, so that networks are compared with the dense one: give teacher=..., the dense "
                "network, or labels."
            )
    if not learns:
        check_teaching(recipe, measure)
    labelled, needed = True if measure.labels else None, recipe.needs_teacher or not measure.labels
    start = fingerprint((name, value) for name, value in network.state_dict().items() if isinstance(value, Tensor))
    with eval_mode(network):
        macs = counted_macs(network, example, measure.run, images=outputs.count)
    if recipe.from_scratch:
        reinitialise(network, seed=recipe.seed)
    return Task(
        model=network,
        teacher=copy_model(teacher).eval() if teacher is not None and needed else None,
        train=data,
        augment="none" if recipe.augment == "auto" else recipe.augment,
        search=evaluate if is_function(evaluate) else adapt(evaluate, "evaluate", expected, labelled=labelled),
        report=report
        if report is None or is_function(report)
        else adapt(report, "report", expected, labelled=labelled),
        macs=macs,
        params=sum(parameter.numel() for parameter in network.parameters()),
        measure=measure,
        labels=learns,
        recorded={
            "data": "python",
            **({} if isinstance(data, NestedTraining) else {"images": len(data)}),
            "weights_fingerprint": start,
            **({} if learns else {"labels": False}),
        },
    )


def _train(
    network: nn.Module, train: Any, measure: Measured, example: Any, *, learns: bool
) -> tuple[Held | Items | NestedTraining, Any, Outputs, bool]:
    """Return what is trained on, a batch, what the network gives to it, and whether labels are learned from."""
    if measure.run is not None or not (example is None or isinstance(example, Tensor)):
        outputs = check_run(network, example, measure.run)
        classes = classes_of(outputs)
        runs = measure.run is not None
        expected = Expected.of(None if runs else example, classes, model=network, runs=runs, targets=not learns)
        learns = learns and classes is not None and (measure.labels is True or has_labels(train, expected))
        return NestedTraining(train, replace(expected, targets=not learns), learns), example, outputs, learns
    if learns and measure.labels is None:
        learns, train = labels_in(train)
    data = as_dataset(train, "train", labelled=True if learns else None)
    example = data[0][0][None] if example is None else example
    outputs = check_run(network, example)
    if learns and measure.labels is None and classes_of(outputs) is None:
        return as_dataset(data, "train", labelled=None), example, outputs, False
    return data, example, outputs, learns
