"""A policy's network after the final reconstruction, with what it answered."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import nn

from autoprune.budget import AnyDrop
from autoprune.evaluation import Answers, Score
from autoprune.graph import IntArray
from autoprune.support.answers import ByImage


@dataclass(frozen=True, eq=False)
class Finished:
    """A policy's network after the final reconstruction.

    Attributes:
        model: The small network, in eval mode.
        kept: Channels that stay, by group name; groups left out are whole.
        search: Its score on the search part.
        report: Its score on the report part, None if there is none.
        right: Which images of the report part (of the search part if there is no other) it got right, shape (n,), or numbers
            whose mean is the metric; None where the images are not known one by one.
        drop: Where a drop of accuracy is the budget, what it lost on the half of the search images that no policy is scored on;
            None where the images are not known one by one.
    """

    model: nn.Module
    kept: dict[str, IntArray]
    search: Score
    report: Score | None
    right: ByImage | None = None
    drop: AnyDrop | None = None


def half(answers: Answers, which: int) -> Answers:
    """Return the answers to every other image: those that policies are scored on (0), or those that decide (1)."""
    places = torch.nonzero(answers.seen % 2 == which)[:, 0]
    return Answers(*(getattr(answers, name)[places] for name in ("values", "loss", "distance", "seen")))
