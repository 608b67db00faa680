"""The progress of a fine-tuning on stderr."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

from rich.progress import TextColumn

from autoprune.evaluation import ACCURACY, Metric, loss_name, loss_text
from autoprune.finetuning import FinetuneProgress
from autoprune.report import short_name
from autoprune.support.bar import StderrBar


class RichFinetuneProgress(StderrBar, FinetuneProgress):
    """A bar per epoch with images per second and the time left on a terminal, and one line per epoch everywhere.

    Used in a ``with`` statement.

    Args:
        quiet: Show nothing.
    """

    def __init__(self, *, quiet: bool = False) -> None:
        super().__init__(TextColumn("{task.fields[rate]}"), quiet=quiet, rate="")
        self._epochs = self._done = self._images = 0
        self._started = 0.0
        self._wide = (10, 11)
        self._metric = ACCURACY

    def measured_by(self, metric: Metric) -> None:
        """Remember what the lines say."""
        self._metric = metric

    def begin(self, name: str, epochs: int, done: int, images: int) -> None:
        """Start counting epochs."""
        self._epochs, self._done, self._images = epochs, done, images
        if done:
            self._print(f"Continuing '{name}': {done} of {epochs} epochs were done already.")
        value, loss = (f"search {name}" for name in (short_name(self._metric), loss_name(self._metric)))
        self._wide = max(len(value), 10), max(len(loss), 11)
        self._print(
            f"epoch       lr    train loss  {value:>{self._wide[0]}}  {loss:>{self._wide[1]}}  images/s  seconds"
        )
        self._next()

    def step(self, images: int) -> None:
        """Move the bar."""
        rate = images / max(time.monotonic() - self._started, 1e-9)
        self._bar.update(self._task, completed=images, rate=f"{rate:,.0f} images/s")

    def epoch(self, record: Mapping[str, Any]) -> None:
        """Print the epoch's line."""
        self._done = record["epoch"]
        best = " *" if record["best"] else ""
        loss = record["search_loss"]
        self._print(
            f"{record['epoch']:5d}  {record['lr']:7.5f}  {record['train_loss']:12.4f}  "
            f"{self._metric.text(record['search_accuracy']):>{self._wide[0]}}  "
            f"{'-' if loss is None else loss_text(self._metric, loss):>{self._wide[1]}}  "
            f"{self._images / max(record['seconds'], 1e-9):8,.0f}  {record['seconds']:7.1f}{best}"
        )
        self._next()

    def _next(self) -> None:
        self._started = time.monotonic()
        number = min(self._done + 1, self._epochs)
        self._bar.reset(self._task, total=self._images, description=f"Epoch {number}/{self._epochs}", rate="")
