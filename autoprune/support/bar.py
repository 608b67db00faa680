"""What the progress displays on stderr have in common: a bar on a terminal or in a notebook, plain lines elsewhere."""

from __future__ import annotations

from types import TracebackType
from typing import Any, Self

from rich.console import Console
from rich.progress import (
    BarColumn,
    Progress,
    ProgressColumn,
    SpinnerColumn,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from autoprune.support.packages import missing


def has_bar(console: Console) -> bool:
    """Return whether a bar can be drawn: on a terminal, or in a notebook that has ipywidgets."""
    return console.is_terminal or (console.is_jupyter and missing(["ipywidgets"]) is None)


class StderrBar:
    """A bar with what is being done and the time left, on a terminal. Used in a ``with`` statement.

    Args:
        count: The column that says how much is done.
        left: The column that says how long it takes yet; None for what the steps so far suggest.
        quiet: Show nothing.
        fields: First values of what ``count`` shows.
    """

    def __init__(
        self, count: ProgressColumn, /, *, left: ProgressColumn | None = None, quiet: bool = False, **fields: Any
    ) -> None:
        self._console = Console(stderr=True, quiet=quiet, highlight=False)
        self._bar = Progress(
            SpinnerColumn(),
            TextColumn("{task.description}"),
            BarColumn(bar_width=24),
            count,
            TimeElapsedColumn(),
            TextColumn("left"),
            left or TimeRemainingColumn(),
            console=self._console,
            transient=True,
            disable=quiet or not has_bar(self._console),
        )
        self._task = self._bar.add_task("Starting", total=None, **fields)

    def __enter__(self) -> Self:
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
        if not has_bar(self._console):
            self._print(text)

    def _print(self, text: str) -> None:
        self._console.print(text, soft_wrap=True, markup=False)
