"""The progress of a search on stderr."""

from __future__ import annotations

import time
from datetime import timedelta

from rich.progress import ProgressColumn, Task, TextColumn
from rich.text import Text

from autoprune.evaluation import ACCURACY
from autoprune.report._progress import Progress
from autoprune.report._rows import Row
from autoprune.report._workload import Workload
from autoprune.runs import Episode, RunFolder
from autoprune.support.bar import StderrBar, has_bar


class SearchBar(StderrBar, Progress):
    """A bar with the current and best score and the time left on a terminal; a few plain lines elsewhere.

    The bar is in dense passes over the search images, so that it moves evenly: scores, and the steps beside them (probing,
    each final reconstruction, measuring). Used in a ``with`` statement.

    Args:
        quiet: Show nothing.
    """

    def __init__(self, *, quiet: bool = False) -> None:
        super().__init__(TextColumn("{task.fields[count]}"), left=_TimeLeft(), quiet=quiet, count="", ends=None)
        self._done = 0
        self._total = 0
        self._work = Workload()
        self._began = 0.0
        self._metric = ACCURACY
        self.folder: RunFolder | None = None

    @property
    def begun(self) -> bool:
        """Whether a policy was scored."""
        return self._done > 0

    def opened(self, folder: RunFolder) -> None:
        """Remember where the run can be continued."""
        self.folder = folder

    def measured(self, done: int, total: int) -> None:
        """Show how many networks of a profile are measured."""
        if not self._work.done:
            self._began = self._began or time.monotonic()
            each = (time.monotonic() - self._began) / max(1, done)
            ends = time.monotonic() + each * (total - done)
            self._bar.update(self._task, completed=done, total=total, count=f"{done}/{total}", ends=ends)

    def begin(self, total: int, done: int) -> None:
        """Start counting policies."""
        self._done, self._total = done, total
        self._work, self._began = Workload(), time.monotonic()
        self._bar.reset(self._task, total=None, count=f"{done}/{total}", ends=None)
        if done:
            self._print(f"Continuing: {done} policies were scored already.")

    def plan(self, policies: int, passes: float) -> None:
        """Take what is to come into the time left."""
        self._work.plan(policies, passes)
        self._show()

    def step(self, text: str, passes: float) -> None:
        """Show a step that is no policy."""
        self._work.step(passes)
        self._show()
        self.stage(text)

    def scored(self, episode: Episode, best: Episode | None) -> None:
        """Show the policy just scored and the best so far; without a terminal, every tenth of the way."""
        self._done += 1
        self._metric = metric = episode.score.metric
        text = f"{episode.agent} {metric.text(episode.score.accuracy)}"
        if best is not None:
            text += f", best {metric.text(best.score.accuracy)}"
        self._work.score(episode.score.cost)
        self._show()
        self._bar.update(self._task, description=text)
        if not has_bar(self._console) and self._done % max(1, self._total // 10) == 0:
            self._print(f"{self._done}/{self._total} policies: {text}")

    def finished(self, row: Row) -> None:
        """Print a finished line of the table."""
        value = self._metric.text(row.search_accuracy)
        self._print(f"{row.name}: {value} on the search part after the final reconstruction, {row.macs:,} MACs")

    def _show(self) -> None:
        now = time.monotonic()
        left = self._work.seconds_left(now - self._began)
        self._bar.update(
            self._task,
            completed=self._work.done,
            total=self._work.done + self._work.left,
            count=f"{self._done}/{self._total}",
            ends=None if left is None else now + left,
        )


class _TimeLeft(ProgressColumn):
    """The time until the moment at which all is expected to be done."""

    max_refresh = 0.5

    def render(self, task: Task) -> Text:
        """Return it as hours, minutes and seconds."""
        ends = task.fields["ends"]
        left = "-:--:--" if ends is None else str(timedelta(seconds=max(0, round(ends - time.monotonic()))))
        return Text(left, style="progress.remaining")
