"""What the progress displays on stderr have in common: a bar on a terminal, plain lines elsewhere."""

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


class StderrBar:
    """A bar with what is being done and the time left, on a terminal. Used in a ``with`` statement.

    Args:
        count: The column that says how much is done.
        quiet: Show nothing.
        fields: First values of what ``count`` shows.
    """

    def __init__(self, count: ProgressColumn, *, quiet: bool = False, **fields: Any) -> None:
        self._console = Console(stderr=True, quiet=quiet, highlight=False)
        self._bar = Progress(
            SpinnerColumn(),
            TextColumn("{task.description}"),
            BarColumn(bar_width=24),
            count,
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(),
            console=self._console,
            transient=True,
            disable=quiet or not self._console.is_terminal,
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
        if not self._console.is_terminal:
            self._print(text)

    def _print(self, text: str) -> None:
        self._console.print(text, soft_wrap=True, markup=False)
