"""Event files for TensorBoard, in ``RUN/tensorboard``: the search's policies and the epochs of every fine-tuning."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

from autoprune.evaluation import ACCURACY, Metric, loss_name
from autoprune.finetuning import FinetuneProgress
from autoprune.report._progress import Progress
from autoprune.report._rows import Row
from autoprune.runs import Episode, RunFolder
from autoprune.support.packages import require

FOLDER = "tensorboard"


class _Writer:
    """Writes numbers; the file is made with the first one. Used in a ``with`` statement.

    Args:
        folder: The run folder, None if it is not known yet.

    Raises:
        UsageError: if TensorBoard is not installed.
    """

    def __init__(self, folder: Path | None) -> None:
        require("Event files need", "tensorboard")
        self.folder = folder
        self._writers: dict[str, Any] = {}

    def add(self, run: str, values: Mapping[str, float | None], step: int) -> None:
        """Add some values of one step to the curves of ``run``; None is left out."""
        from torch.utils.tensorboard import SummaryWriter

        assert self.folder is not None
        if run not in self._writers:
            self._writers[run] = SummaryWriter(str(self.folder / FOLDER / run))
        for name, value in values.items():
            if value is not None:
                self._writers[run].add_scalar(name, value, step)
        self._writers[run].flush()

    def close(self) -> None:
        """End the files."""
        for writer in self._writers.values():
            writer.close()
        self._writers.clear()


class SearchEvents(Progress):
    """Writes what a search scores, and passes every event on to another receiver. Used in a ``with`` statement.

    Args:
        inner: The receiver.

    Raises:
        UsageError: if TensorBoard is not installed.
    """

    def __init__(self, inner: Progress) -> None:
        self._inner = inner
        self._writer = _Writer(None)

    def __enter__(self) -> SearchEvents:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._writer.close()

    def stage(self, text: str) -> None:
        """Pass it on."""
        self._inner.stage(text)

    def opened(self, folder: RunFolder) -> None:
        """Remember where files go from now on."""
        self._writer.close()
        self._writer.folder = folder.path
        self._inner.opened(folder)

    def measured(self, done: int, total: int) -> None:
        """Pass it on."""
        self._inner.measured(done, total)

    def begin(self, total: int, done: int) -> None:
        """Pass it on."""
        self._inner.begin(total, done)

    def plan(self, policies: int, passes: float) -> None:
        """Pass it on."""
        self._inner.plan(policies, passes)

    def step(self, text: str, passes: float) -> None:
        """Pass it on."""
        self._inner.step(text, passes)

    def scored(self, episode: Episode, best: Episode | None) -> None:
        """Write the policy's numbers as curves of its agent."""
        score = episode.score
        values = {f"search/{score.metric.name}": score.accuracy, f"search/{loss_name(score.metric)}": score.loss}
        values["search/reward"] = score.reward
        values |= {"search/macs": float(score.macs)} | ({} if best is None else {"search/best": best.score.reward})
        self._writer.add(f"search-{episode.agent.replace(':', '-')}", values, episode.episode)
        self._inner.scored(episode, best)

    def finished(self, row: Row) -> None:
        """Pass it on."""
        self._inner.finished(row)


class FinetuneEvents(FinetuneProgress):
    """Writes the epochs of a fine-tuning. Used in a ``with`` statement.

    Args:
        folder: The run folder.

    Raises:
        UsageError: if TensorBoard is not installed.
    """

    def __init__(self, folder: Path) -> None:
        self._writer = _Writer(folder)
        self._run = ""
        self._metric = ACCURACY

    def __enter__(self) -> FinetuneEvents:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._writer.close()

    def measured_by(self, metric: Metric) -> None:
        """Remember what the curves are called."""
        self._metric = metric

    def begin(self, name: str, epochs: int, done: int, images: int) -> None:
        """Remember whose curves come."""
        self._run = f"finetune-{name}"

    def epoch(self, record: Mapping[str, Any]) -> None:
        """Write the epoch's numbers."""
        values = {f"finetune/{name}": record[name] for name in ("lr", "train_loss", "seconds")}
        self._writer.add(self._run, {**values, **self._measured("search", record, "search_")}, record["epoch"])

    def finished(self, result: Mapping[str, Any]) -> None:
        """Write the result on the report part."""
        self._writer.add(self._run, self._measured("report", result, ""), result["best_epoch"])

    def _measured(self, part: str, found: Mapping[str, Any], prefix: str) -> dict[str, float | None]:
        """Return the metric and the loss on a part, by the names of their curves."""
        loss = {f"finetune/{part}_{loss_name(self._metric)}": found[f"{prefix}loss"]}
        return {**loss, f"finetune/{part}_{self._metric.name}": found[f"{prefix}accuracy"]}
