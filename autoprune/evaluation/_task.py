"""What networks are judged by: whether labels are read, the metric, the divergence of outputs, and how a batch is run."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, cast

from torch import nn

from autoprune.data import Expected, RunBatch, failed, is_function, labels_in
from autoprune.errors import AutopruneError, UsageError
from autoprune.evaluation._divergence import Divergence, DivergenceFn
from autoprune.evaluation._metric import ACCURACY, AGREEMENT, DIVERGENCE, PIXEL_ACCURACY, Metric
from autoprune.evaluation._metrics import check_metric
from autoprune.evaluation._outputs import Outputs, check_comparable, outputs_of, scores_classes
from autoprune.model_guard import ModelInputs

Run = Callable[[nn.Module, Any], Any]
"""How a batch is run where its form does not say it: ``run(model, batch)`` returns what the network gives."""


@dataclass(frozen=True, eq=False)
class Task:
    """What networks are judged by.

    Attributes:
        labels: Whether labels (or other targets) are read. Without them outputs are compared with the dense network's own. None:
            whether there are some is seen from the images.
        metric: What is measured; None for the accuracy with labels, without for the agreement of class scores that `kl` compares
            (share of images whose largest one is the dense network's) or, for any other output, the divergence.
        divergence: Names of what compares outputs, or a function, see `Divergence`; None for what suits their shapes.
        run: How a batch is run; None for what its form says.
    """

    labels: bool | None = True
    metric: Metric | None = None
    divergence: str | DivergenceFn | None = None
    run: Run | None = None

    @property
    def reads_targets(self) -> bool:
        """Whether targets are read that are no class numbers."""
        known = (ACCURACY.name, AGREEMENT.name, DIVERGENCE.name)
        return self.labels is not False and self.metric is not None and self.metric.name not in known

    @property
    def recorded(self) -> dict[str, Any]:
        """What a run's configuration records of it, once completed."""
        metric = self.metric or ACCURACY
        return {"labels": bool(self.labels), "metric": metric.name, "maximize": metric.maximize}

    def seen_in(self, part: Any, expected: Expected | None = None) -> tuple[Task, Any]:
        """Return the same task, which then says whether labels are read, and the search part that it was seen from.

        Args:
            part: The search part; a function that evaluates needs none of ours.
            expected: What the network takes.
        """
        if self.labels is not None:
            return self, part
        found, part = (True, part) if is_function(part) else labels_in(part, expected)
        return replace(self, labels=found), part

    def suited(self, dense: Outputs) -> Task:
        """Return the same task for such outputs.

        No labels are read unless asked for where the outputs are no class scores and no metric is named. The accuracy of maps of
        class scores, where it is named, is that of their places.

        Args:
            dense: Outputs of the dense network.
        """
        if self.labels is None and not _classifies(dense) and self.metric is None:
            return replace(self, labels=False)
        if self.metric == ACCURACY and dense.tensors and dense.tensors[0].dim() > 2:
            return replace(self, metric=PIXEL_ACCURACY)
        return self

    def completed(self, dense: Outputs) -> Task:
        """Return the task with its metric, given outputs of the dense network.

        Raises:
            UsageError: if the outputs cannot be compared or do not go with the metric, or a divergence is unknown.
        """
        if self.metric is not None:
            check_direction(self.metric)
        if self.labels and (self.metric is None or self.metric.name not in (AGREEMENT.name, DIVERGENCE.name)):
            metric = self.metric or ACCURACY
            if metric.name != ACCURACY.name:
                check_metric(metric)
                check_comparable(dense, "The network")
            if metric.name == ACCURACY.name and not _classifies(dense):
                raise UsageError(
                    f"The network gives {dense.text}, not class scores (N, classes) of at least two classes, so that there is no "
                    "accuracy; name what is to be measured (pixel-accuracy, miou, .. for maps), evaluate with a function (one "
                    "number or several answers an image), or give no labels (labels=False, --no-labels)."
                )
            return replace(self, metric=metric)
        check_comparable(dense, "The network")
        compared = Divergence(self.divergence, dense)
        metric = self.metric or (AGREEMENT if dense.scores_classes and all(compared.by_kl) else DIVERGENCE)
        if metric.name not in (AGREEMENT.name, DIVERGENCE.name):
            if metric.name != ACCURACY.name:
                check_metric(metric)
            raise UsageError(
                f"The metric {metric.name} needs labels or other targets, but none are read; give them, or measure "
                f"{AGREEMENT.name} or {DIVERGENCE.name}."
            )
        if metric == AGREEMENT and not dense.scores_classes:
            raise UsageError(
                f"The agreement is that of class scores (N, classes), but the network gives {dense.text}; leave the metric out."
            )
        return replace(self, metric=metric)


def _classifies(dense: Outputs) -> bool:
    """Whether outputs are class scores, shape (N, classes), alone."""
    return len(dense.tensors) == 1 and scores_classes(dense.tensors[0])


def run_by(run: Run, model: nn.Module, batch: Any) -> Any:
    """Return what a network gives to a batch that a function of the user's runs.

    Raises:
        UsageError: if the function raises.
    """
    try:
        return run(model, batch)
    except AutopruneError:
        raise
    except Exception as error:
        name = getattr(run, "__name__", repr(run))
        raise UsageError(
            f"The run function {name} raised {failed(error)}; it is called as run(model, batch), and must return what the "
            "network gives to the batch."
        ) from error


def answered(run: Run | None, model: nn.Module, inputs: Any) -> Any:
    """Return what a network gives to inputs: a tensor, `ModelInputs`, or a batch that a function of the user's runs.

    Raises:
        UsageError: if the function raises.
    """
    if isinstance(inputs, RunBatch):
        return run_by(cast(Run, run), model, inputs.value)
    return inputs.call(model) if isinstance(inputs, ModelInputs) else model(inputs)


def outputs_to(inputs: Any, answer: Any) -> Outputs:
    """Return what of a network's answer to inputs can be compared image by image."""
    if isinstance(inputs, RunBatch):
        return outputs_of(answer, None, inputs.lengths)
    return outputs_of(answer, len(inputs))


def check_direction(metric: Metric) -> None:
    """Refuse a metric of ours in the wrong direction.

    Raises:
        UsageError: saying the right one.
    """
    known = next((one for one in (ACCURACY, AGREEMENT, DIVERGENCE) if one.name == metric.name), metric)
    if known.maximize != metric.maximize:
        how = f"--maximize {metric.name}" if known.maximize else f"--minimize-metric {metric.name}"
        raise UsageError(
            f"The {metric.name} is better the {'larger' if known.maximize else 'smaller'} it is; ask for it with {how}."
        )


def notes_of(task: Task, dense: Outputs) -> list[str]:
    """Return what the user should know of a search without labels.

    Args:
        task: The task, with its metric.
        dense: Outputs of the dense network.
    """
    metric = cast(Metric, task.metric)
    apart = Divergence(task.divergence, dense)
    compared = ", ".join(
        f"(N, {', '.join(map(str, tensor.shape[1:]))}) by {name}" if tensor.dim() > 1 else f"(N,) by {name}"
        for tensor, name in zip(dense.tensors, apart.names, strict=True)
    )
    found = [
        f"No labels are read: networks are compared with the dense network's outputs, {compared}; the table shows the "
        f"{metric.name}."
    ]
    if task.divergence is None and any(scores_classes(tensor) for tensor in dense.tensors):
        found[0] += " Outputs (N, classes) are taken as class scores; for others name a divergence: relative, cosine."
    return found + [f"The network's output has {text}, which is no part of the divergence." for text in dense.left_out]
