"""What the user should know of the images that a search works on: few of them, the same ones in two parts, one class only."""

from __future__ import annotations

import torch
from torch import Tensor

from autoprune.data import Adapted, keys_of
from autoprune.evaluation import Evaluator
from autoprune.model_guard import ModelInputs

FEW = 16
"""Calibration images at which, and below, the user is told that these are few."""


def data_notes(
    given: Adapted, calibration: Tensor | ModelInputs, search: Evaluator, report: Evaluator | None
) -> tuple[str, ...]:
    """Return sentences on the parts, after each was run over once.

    Args:
        given: The calibration part.
        calibration: Those of its images that are used, shape (N, ...).
        search: The search part.
        report: The report part, None if there is none.
    """
    notes = [*given.notes, *search.notes, *(() if report is None else report.notes)]
    shown = search if report is None else report
    if shown.by_function and shown.answers is None:
        notes.append(
            f"No standard error of the {shown.metric.name} is known: the evaluate function for the {shown.name} part gives one "
            f"number; return it sample by sample, {{'{shown.metric.name}': tensor of shape (n,)}}, its mean, and there is "
            "one."
        )
    if len(calibration) <= FEW:
        notes.append(
            f"There are only {len(calibration)} calibration images: some hundreds, best of the training images, refit "
            "the weights much better."
        )
    notes += [note for part in (search, report) if part is not None for note in _repeats(part)]
    seen = keys_of(calibration)
    if report is not None and report.keys is not None:
        if search.keys is not None and (both := _shared(report.keys, search.keys)):
            notes.append(
                f"{both} of the {report.size} report images are search images too: the result on the report part flatters; "
                "give images that no other part has."
            )
        if both := _shared(report.keys, seen):
            notes.append(
                f"{both} of the {report.size} report images are calibration images too, whose labels are not used: give images "
                "that no other part has."
            )
    return tuple(dict.fromkeys(notes))


def _repeats(part: Evaluator) -> list[str]:
    """Say that images come more than once, or that all are of one class."""
    found = []
    if part.keys is not None and part.size and (repeated := part.size - len(torch.unique(part.keys))):
        found.append(
            f"{repeated} of the {part.size} {part.name} images repeat another one: standard errors count each as a new one."
        )
    if part.labels is not None and len(part.labels) > 1 and len(torch.unique(part.labels)) == 1:
        found.append(
            f"All {part.size} {part.name} images are of class {int(part.labels[0])}: accuracy says little then."
        )
    return found


def _shared(keys: Tensor, others: Tensor) -> int:
    return int(torch.isin(keys, others).sum())
