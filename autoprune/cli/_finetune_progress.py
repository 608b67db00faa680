"""The progress of a fine-tuning on stderr."""

from __future__ import annotations

import time
from collections.abc import Mapping
from types import TracebackType
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from autoprune.finetuning import FinetuneProgress


class RichFinetuneProgress(FinetuneProgress):
    """A bar per epoch with images per second and the time left on a terminal, and one line per epoch everywhere.

    Used in a ``with`` statement.

    Args:
        quiet: Show nothing.
    """

    def __init__(self, *, quiet: bool = False) -> None:
        self._console = Console(stderr=True, quiet=quiet, highlight=False)
        self._bar = Progress(
            SpinnerColumn(),
            TextColumn("{task.description}"),
            BarColumn(bar_width=24),
            TextColumn("{task.fields[rate]}"),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(),
            console=self._console,
            transient=True,
            disable=quiet or not self._console.is_terminal,
        )
        self._task = self._bar.add_task("Starting", total=None, rate="")
        self._epochs = self._done = self._images = 0
        self._started = 0.0

    def __enter__(self) -> RichFinetuneProgress:
        self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bar.stop()

    def stop(self) -> None:
        """Take the bar away."""
        self._bar.stop()

    def stage(self, text: str) -> None:
        """Say what is being done now."""
        self._bar.update(self._task, description=text)
        if not self._console.is_terminal:
            self._print(text)

    def begin(self, name: str, epochs: int, done: int, images: int) -> None:
        """Start counting epochs."""
        self._epochs, self._done, self._images = epochs, done, images
        if done:
            self._print(f"Continuing '{name}': {done} of {epochs} epochs were done already.")
        self._print("epoch       lr    train loss  search acc  search loss  images/s  seconds")
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
            f"{100 * record['search_accuracy']:10.2f}  {'-' if loss is None else format(loss, '11.4f'):>11}  "
            f"{self._images / max(record['seconds'], 1e-9):8,.0f}  {record['seconds']:7.1f}{best}"
        )
        self._next()

    def _next(self) -> None:
        self._started = time.monotonic()
        number = min(self._done + 1, self._epochs)
        self._bar.reset(self._task, total=self._images, description=f"Epoch {number}/{self._epochs}", rate="")

    def _print(self, text: str) -> None:
        self._console.print(text, soft_wrap=True, markup=False)
