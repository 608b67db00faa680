"""The progress of a search on stderr."""

from __future__ import annotations

from contextlib import ExitStack

from rich.progress import MofNCompleteColumn

from autoprune.cli._bar import StderrBar
from autoprune.evaluation import ACCURACY
from autoprune.report import Progress, Row
from autoprune.runs import Episode, RunFolder


class RichProgress(StderrBar, Progress):
    """A bar with the current and best score and the time left on a terminal; a few plain lines elsewhere.

    Used in a ``with`` statement.

    Args:
        quiet: Show nothing.
    """

    def __init__(self, *, quiet: bool = False) -> None:
        super().__init__(MofNCompleteColumn(), quiet=quiet)
        self._done = 0
        self._total = 0
        self._metric = ACCURACY
        self.folder: RunFolder | None = None

    @property
    def begun(self) -> bool:
        """Whether a policy was scored."""
        return self._done > 0

    def opened(self, folder: RunFolder) -> None:
        """Remember where the run can be continued."""
        self.folder = folder

    def begin(self, total: int, done: int) -> None:
        """Start counting policies."""
        self._done, self._total = done, total
        self._bar.reset(self._task, total=total, completed=done)
        if done:
            self._print(f"Continuing: {done} policies were scored already.")

    def scored(self, episode: Episode, best: Episode | None) -> None:
        """Show the policy just scored and the best so far; without a terminal, every tenth of the way."""
        self._done += 1
        self._metric = metric = episode.score.metric
        text = f"{episode.agent} {metric.text(episode.score.accuracy)}"
        if best is not None:
            text += f", best {metric.text(best.score.accuracy)}"
        self._bar.update(self._task, advance=1, description=text)
        if not self._console.is_terminal and self._done % max(1, self._total // 10) == 0:
            self._print(f"{self._done}/{self._total} policies: {text}")

    def finished(self, row: Row) -> None:
        """Print a finished line of the table."""
        value = self._metric.text(row.search_accuracy)
        self._print(f"{row.name}: {value} on the search part after the final reconstruction, {row.macs:,} MACs")


def search_progress(stack: ExitStack, *, tensorboard: bool, quiet: bool) -> tuple[RichProgress, Progress]:
    """Return what shows a search until ``stack`` is closed, and what receives its events: that, and event files if wanted."""
    shown = stack.enter_context(RichProgress(quiet=quiet))
    if not tensorboard:
        return shown, shown
    from autoprune.report import SearchEvents

    return shown, stack.enter_context(SearchEvents(shown))
