"""Everything that a page shows of one run, read from its folder and checked."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, TypeVar

from autoprune.agents import RULES
from autoprune.errors import AutopruneError
from autoprune.evaluation import Metric
from autoprune.inspection import FILE as SENSITIVITY
from autoprune.inspection import Network, Probe, probes_among, read_probes, run_network
from autoprune.report import FILE as TIMING
from autoprune.report import Row, read_timing
from autoprune.runs import Episode, RunConfig, RunFolder
from autoprune.support.jsonl import read_jsonl
from autoprune.support.reading import reading
from autoprune.support.strict_json import read_json

Read = TypeVar("Read")


@dataclass(frozen=True)
class Tuned:
    """One fine-tuning.

    Attributes:
        name: Its folder's name.
        result: The content of ``result.json``; None while it is not finished.
        history: One entry an epoch.
    """

    name: str
    result: Mapping[str, Any] | None
    history: tuple[Mapping[str, Any], ...]


@dataclass(frozen=True)
class Run:
    """One run.

    Attributes:
        label: What it is called on the page.
        path: Its folder.
        config: What was asked.
        report: The content of ``report.json``; None while the run is not finished.
        rows: Finished lines of the table, the dense network first if the run is finished.
        episodes: Every policy scored.
        tuned: Fine-tunings.
        timing: The content of ``timing.json``; None if there is none.
        probes: Scores of one group at a time.
        network: The dense network's layers; None if it cannot be made here.
        remarks: What is missing on the page and why.
    """

    label: str
    path: Path
    config: RunConfig
    report: Mapping[str, Any] | None
    rows: tuple[Row, ...]
    episodes: tuple[Episode, ...]
    tuned: tuple[Tuned, ...]
    timing: Mapping[str, Any] | None
    probes: tuple[Probe, ...]
    network: Network | None
    remarks: tuple[str, ...]

    @property
    def dense(self) -> Row | None:
        """The dense network's line; None while the run is not finished."""
        return self.row("dense")

    @property
    def final(self) -> Row | None:
        """The line of the run's result, the agent's as a rule; None while it is not finished."""
        return self.row((self.report or {}).get("exported", self.config.agent))

    @property
    def rules(self) -> list[Row]:
        """The simple rules' lines, without the agent's own."""
        return [row for row in self.rows if row.name in RULES and row.name != self.config.agent]

    @property
    def dense_macs(self) -> int | None:
        """The dense network's multiply-adds, None if they are not known."""
        if self.dense is not None:
            return self.dense.macs
        network = self.network
        return None if network is None else network.kept_macs({})

    @property
    def part(self) -> str:
        """The part that ``Row.accuracy`` is measured on, "report" or "search"."""
        return str((self.report or {}).get("accuracy_part", "report"))

    @property
    def metric(self) -> Metric:
        """What networks are measured in."""
        return self.config.measure

    @property
    def by_metric(self) -> bool:
        """Whether policies are judged by the metric alone."""
        return self.config.reward == "accuracy"

    def row(self, name: str) -> Row | None:
        """Return a line of the table, None if it is not there."""
        return next((row for row in self.rows if row.name == name), None)

    @property
    def scored(self) -> list[Mapping[str, Any]]:
        """What agents and rules found that was scored only, not finished; see `autoprune.report.scored_row`."""
        names = {row.name for row in self.rows}
        return [found for found in (self.report or {}).get("scored", ()) if found["name"] not in names]

    def sizes(self) -> dict[str, int]:
        """Return group name -> channels of the dense network, for the groups a policy decides; empty if not known."""
        if self.dense is not None:
            return dict(self.dense.counts)
        known = {name: size for name, size, _, _ in self.network.groups} if self.network is not None else {}
        decided = self.episodes[0].counts if self.episodes else {}
        return {name: known[name] for name in decided} if all(name in known for name in decided) else {}


def read_run(path: Path, label: str | None = None) -> Run:
    """Read a run folder, finished or not.

    Args:
        path: The folder.
        label: What to call it; its name by default.

    Raises:
        UsageError: if there is no run, or a file of it is damaged; says which.
    """
    folder = RunFolder(path).require()
    config = folder.read_config()
    report = folder.read_report() if folder.finished else None
    remarks: list[str] = []
    episodes = tuple(folder.read_episodes())
    rows = tuple(_rows(folder, config, report, episodes))
    if report is not None:
        _checked(folder.report_path, "report", lambda: _check_report(report))
    try:
        network: Network | None = run_network(folder)
    except (AutopruneError, ImportError, OSError) as error:
        network = None
        remarks.append(f"The picture shows coupling groups only, since the dense network cannot be made here: {error}")
    run = Run(
        label=label if label is not None else path.resolve().name,
        path=path,
        config=config,
        report=report,
        rows=rows,
        episodes=episodes,
        tuned=tuple(_tuned(path / "finetune", folder.report_path, report)),
        timing=_timing(path),
        probes=(),
        network=network,
        remarks=tuple(remarks),
    )
    sizes = run.sizes()
    probes = read_probes(path / SENSITIVITY) or probes_among(episodes, sizes)
    return Run(**{**{item.name: getattr(run, item.name) for item in fields(run)}, "probes": tuple(probes)})


def _rows(
    folder: RunFolder, config: RunConfig, report: Mapping[str, Any] | None, episodes: Sequence[Episode]
) -> list[Row]:
    if report is not None:
        return _checked(folder.report_path, "report", lambda: [_row(values) for values in report["rows"]])
    names = dict.fromkeys([*config.baselines, *(episode.agent for episode in episodes), config.agent])
    order = [name for name in names if name != config.agent] + [config.agent]
    found = {name: values for name in order if (values := folder.read_row(name)) is not None}
    return _checked(folder.path / "rows", "table line", lambda: [_row(values) for values in found.values()])


def _row(values: Mapping[str, Any]) -> Row:
    row = Row.from_dict(values)
    for key in ("accuracy", "search_accuracy", "macs", "params", "policies_scored"):
        _number(getattr(row, key), key)
    for key in ("accuracy_se", "loss", "search_reward", "score_cost", "images"):
        if getattr(row, key) is not None:
            _number(getattr(row, key), key)
    for name, count in row.counts.items():
        _number(count, name)
    _ = row.answers  # refused if damaged
    if not isinstance(row.name, str):
        raise TypeError("name is no text")
    return row


def _check_report(report: Mapping[str, Any]) -> None:
    names = [values["name"] for values in report["rows"]]
    for needed in ("dense", report["exported"]):
        if needed not in names:
            raise ValueError(f"no row '{needed}'")
    for key in ("wall_s", "total_cost", "policies_scored", "policies_scored_in_all"):
        _number(report[key], key)
    for found in report["scored"]:
        for key in ("accuracy", "macs", "params", "policies_scored"):
            _number(found[key], key)
    if not isinstance(report["notes"], list):
        raise TypeError("notes is no list")


def _tuned(folder: Path, report_path: Path, report: Mapping[str, Any] | None) -> list[Tuned]:
    """Return what the folder holds, and of the report's results those whose folders are gone."""
    paths = sorted(path for path in folder.iterdir() if path.is_dir()) if folder.is_dir() else []
    found = [tuned for path in paths if (tuned := _one_tuned(path)).result is not None or tuned.history]
    names = {tuned.name for tuned in found}

    def missing() -> list[Tuned]:
        results = [result for result in (report or {}).get("finetuned", ()) if result["name"] not in names]
        for result in results:
            _check_result(result)
        return [Tuned(str(result["name"]), result, ()) for result in results]

    return found + _checked(report_path, "report", missing)


def _one_tuned(path: Path) -> Tuned:
    history = read_jsonl(path / "history.jsonl")

    def check_history() -> None:
        for line in history:
            _check_epoch(line)

    _checked(path / "history.jsonl", "history", check_history)
    if not (path / "result.json").is_file():
        return Tuned(path.name, None, tuple(history))
    result = read_json(path / "result.json", "result of the fine-tuning")
    _checked(path / "result.json", "result of the fine-tuning", lambda: _check_result(result))
    if len(history) < result["epochs_done"]:
        raise AutopruneError(
            f"The history '{path / 'history.jsonl'}' has {len(history)} epochs, but {result['epochs_done']} were done: lines are "
            "damaged or missing; restore the file, or remove the folder and fine-tune again."
        )
    return Tuned(path.name, result, tuple(history))


def _check_epoch(line: Mapping[str, Any]) -> None:
    _number(line["epoch"], "epoch")
    for key in ("search_accuracy", "search_loss", "train_loss", "lr"):
        if line.get(key) is not None:
            _number(line[key], key)


def _check_result(result: Mapping[str, Any]) -> None:
    for key in ("accuracy", "search_accuracy", "macs", "params", "epochs_done"):
        _number(result[key], key)
    if result.get("accuracy_se") is not None:
        _number(result["accuracy_se"], "accuracy_se")


def _timing(folder: Path) -> Mapping[str, Any] | None:
    timing = read_timing(folder)
    if timing is None:
        return None

    def check() -> None:
        for row in timing["rows"]:
            _number(row["ms"], "ms")
            _number(row["ratio"], "ratio")
            _number(row["batch"], "batch")
            str(row["name"]), str(row["target"])

    _checked(folder / TIMING, "timing", check)
    return timing


def _number(value: object, name: str) -> None:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise TypeError(f"{name} is {value!r:.40}")


def _checked(path: Path, what: str, read: Callable[[], Read]) -> Read:
    with reading(f"The {what} '{path}'", "restore it or run the search again"):
        found = read()
    return found
