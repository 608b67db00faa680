"""The run folder: where a search keeps what it did, so that nothing is lost when it is stopped and nothing done twice.

    config.json         what was asked (RunConfig)
    episodes.jsonl      every proposed policy with its score, one line each, appended and synced
    agents/NAME/        what an agent keeps (safetensors and JSON)
    rows/NAME.json      lines of what was finished for a drop of accuracy or a front
    finished/           finished networks: of a fixed budget kept for good, so that the run can go on or hand over another
    best.safetensors    the best network so far, with its policy, until the run ends
    best/               the same as a folder, where it was exported
    front/              policies and weights along a front (--pareto)
    policy.json         the result
    model.safetensors   its weights
    load.py             puts them into a network of the dense one's class without autoprune; nothing here runs it
    profile.jsonl       times measured on the target, where the budget is one of latency
    costs.json          what was measured for costs of one's own
    report.json         the whole report, with the digests of policies and weights; there exactly if the run is finished

Whole files are written atomically, nothing is ever unpickled. Every file carries a checksum, and what a journal says is compared
with itself here, with the problem by the driver.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from autoprune.errors import AutopruneError, UsageError
from autoprune.evaluation import ACCURACY, Metric, Score
from autoprune.runs._config import RunConfig
from autoprune.runs._lock import Lock
from autoprune.support.checksums import file_digest
from autoprune.support.files import is_temporary, refuse_links, remove_temporaries, try_folder
from autoprune.support.jsonl import append_jsonl, read_jsonl, repair_jsonl
from autoprune.support.reading import reason
from autoprune.support.strict_json import read_json, write_json_atomic
from autoprune.support.tensors import load_safetensors

_FOLDERS = ("agents", "best", "finished", "front", "rows")
_MEASURED = ("profile.jsonl", "costs.json")
_FILES = (
    "config.json",
    "episodes.jsonl",
    "policy.json",
    "model.safetensors",
    "load.py",
    "best.safetensors",
    *_MEASURED,
    "report.json",
    ".lock",
)
_PROBE = "write-test"


@dataclass(frozen=True)
class Episode:
    """One proposed policy and its score: a line of ``episodes.jsonl``.

    Attributes:
        agent: Who proposed it.
        episode: Its number, from 0, per agent.
        counts: Kept channels by group name.
        score: What it got.
        feasible: Whether it meets the budget.
        reused: Whether the agent proposed an equal policy before, whose score this is (seconds and cost are 0 then). A policy
            that another agent proposed too is scored once, and charged to each of them.
        elapsed_s: Wall time of the run up to this line, over all its sessions.
    """

    agent: str
    episode: int
    counts: Mapping[str, int]
    score: Score
    feasible: bool
    reused: bool
    elapsed_s: float

    def to_record(self) -> dict[str, Any]:
        """Return the episode as JSON-ready values."""
        return {
            "agent": self.agent,
            "episode": self.episode,
            "counts": dict(self.counts),
            **self.score.to_dict(),
            "feasible": self.feasible,
            "reused": self.reused,
            "elapsed_s": round(self.elapsed_s, 3),
        }

    @classmethod
    def from_record(cls, record: Mapping[str, Any], metric: Metric = ACCURACY) -> Episode:
        """Read what ``to_record`` gave, null being a number that was not finite.

        Args:
            record: The values.
            metric: What the run measures.

        Raises:
            ValueError: for a value that no episode has.
            KeyError: if one is missing.
        """
        agent, number, counts = record["agent"], record["episode"], record["counts"]
        flags, elapsed = (record["feasible"], record["reused"]), record["elapsed_s"]
        if not isinstance(agent, str) or not isinstance(counts, dict) or not all(type(flag) is bool for flag in flags):
            raise ValueError("a value is of the wrong type")
        if type(number) is not int or number < 0 or type(elapsed) not in (int, float):
            raise ValueError(f"the episode is {number!r:.40} after {elapsed!r:.40} seconds")
        wrong = next((name for name, count in counts.items() if type(count) is not int or count < 0), None)
        if wrong is not None:
            raise ValueError(f"the count of group '{wrong}' is {counts[wrong]!r:.40}")
        score = Score.from_record(record, metric)
        return cls(agent, number, dict(counts), score, feasible=flags[0], reused=flags[1], elapsed_s=float(elapsed))


def distinct(episodes: Iterable[Episode]) -> list[Episode]:
    """Return the episodes whose policy no earlier one of them has: what was paid for."""
    found: dict[tuple[tuple[str, int], ...], Episode] = {}
    for episode in episodes:
        found.setdefault(tuple(sorted(episode.counts.items())), episode)
    return list(found.values())


class RunFolder:
    """One run on disk.

    Args:
        path: The folder. It need not exist yet.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.config_path = path / "config.json"
        self.episodes_path = path / "episodes.jsonl"
        self.policy_path = path / "policy.json"
        self.model_path = path / "model.safetensors"
        self.best_path = path / "best.safetensors"
        self.report_path = path / "report.json"
        self.profile_path = path / "profile.jsonl"
        self._lock: Lock | None = None

    @property
    def exists(self) -> bool:
        """Whether a run was begun here."""
        return self.config_path.is_file()

    @property
    def finished(self) -> bool:
        """Whether the run has ended with a report."""
        return self.report_path.is_file()

    def require(self) -> RunFolder:
        """Return the folder itself.

        Raises:
            UsageError: if there is no run here.
        """
        if not self.exists:
            raise UsageError(f"There is no run in '{self.path}' (no config.json); give the folder of a search's --out.")
        return self

    def read_config(self) -> RunConfig:
        """Return the configuration (UsageError if it is missing, damaged or of another version)."""
        return RunConfig.from_dict(_mapping(self.require().config_path))

    def read_report(self) -> dict[str, Any]:
        """Return the finished run's report; policies and weights in the folder must be those that it names.

        Raises:
            UsageError: if the run is not finished, or a file of it was damaged or replaced.
        """
        if not self.finished:
            raise UsageError(
                f"The run in '{self.path}' is not finished; continue it with: autoprune search --out {self.path}"
            )
        report = _mapping(self.report_path)
        self._check_digests(report.get("digests", {}))
        return report

    def _check_digests(self, digests: Any) -> None:
        """Compare files with what the report says of them; one that is gone is missed by what reads it."""
        if not isinstance(digests, dict) or any(
            Path(name).is_absolute() or ".." in Path(name).parts for name in digests
        ):
            raise UsageError(f"The file '{self.report_path}' is damaged: its digests are not a run's; restore it.")
        for name, digest in digests.items():
            path = self.path / name
            if path.is_file() and file_digest(path) != digest:
                raise UsageError(
                    f"The file '{path}' is not the one that the run's report names: it was damaged or replaced; restore it, or "
                    "run the search again with another --out."
                )

    def digests(self) -> dict[str, str]:
        """Return the SHA-256 of the policies and weights that the run ended with, by their paths in the folder.

        Raises:
            UsageError: if one was damaged since it was written, maybe by an earlier session.
        """
        front = sorted(self.front_folder.glob("front-*")) if self.front_folder.is_dir() else []
        paths = [path for path in (self.policy_path, self.model_path, *front) if path.is_file()]
        for path in paths:
            if path.suffix == ".json":
                read_json(path, "policy")
            else:
                load_safetensors(path)
        return {path.relative_to(self.path).as_posix(): file_digest(path) for path in paths}

    def write_report(self, report: Mapping[str, Any]) -> None:
        """End the run with its report."""
        self.check_in_place()
        write_json_atomic(self.report_path, report)

    def remove_report(self) -> None:
        """Make a finished run that goes on an unfinished one, before its result is written again."""
        self.report_path.unlink(missing_ok=True)

    def begin(self, config: RunConfig) -> None:
        """Make the folder with its configuration, or check that the one there is equal.

        Raises:
            UsageError: if the folder holds something else, or a run with another configuration; says what differs.
            AutopruneError: if it cannot be written.
        """
        if self.exists:
            differences = self.read_config().differences(config)
            if differences:
                raise UsageError(
                    f"The run in '{self.path}' has another configuration ({'; '.join(differences)}); "
                    "give the same options or another --out."
                )
            return
        self.check_writable()
        write_json_atomic(self.config_path, config.to_dict())

    def check_writable(self) -> None:
        """Make the folder if need be and see that files can be written in it.

        Raises:
            UsageError: if it cannot be made or written, or holds files that are not a run's.
        """
        try:
            try_folder(self.path)
        except OSError as error:
            raise UsageError(
                f"The output folder '{self.path}' cannot be written ({error.strerror}); choose another --out."
            ) from error
        if not self.exists and not all(_is_ours(entry.name) for entry in self.path.iterdir()):
            raise UsageError(f"The output folder '{self.path}' holds files that are not a run's; choose another --out.")

    @contextmanager
    def lock(self) -> Iterator[None]:
        """Hold the lock of the process that writes here, for a ``with`` statement; what a killed one left goes.

        Raises:
            AutopruneError: if another process holds it, or the folder cannot be written.
            UsageError: if a file or folder of the run is a symbolic link.
        """
        with Lock(self.path / ".lock") as lock:
            refuse_links(self.path, (*_FOLDERS, *_FILES))
            remove_temporaries(self.path, of=(*_FILES, _PROBE))
            for name in _FOLDERS:
                remove_temporaries(self.path / name)
            self._lock = lock
            try:
                yield
            finally:
                self._lock = None

    def check_in_place(self) -> None:
        """See that the folder is still where it was locked, so that it is not made anew elsewhere than where the run is.

        Raises:
            AutopruneError: if it was moved away or deleted.
        """
        if self._lock is not None and not self._lock.in_place:
            raise AutopruneError(
                f"The run folder '{self.path}' was moved away or deleted while the search ran, so it stopped; all that was "
                "scored before is where the folder is now: continue it there with autoprune search --out FOLDER."
            )

    def read_episodes(self, *, repair: bool = False) -> list[Episode]:
        """Return the episodes so far; a last line that was cut short is left out.

        Args:
            repair: Cut such a line off the file too, so that the next one begins on a line of its own.

        Raises:
            AutopruneError: if any other line is damaged, or lines are missing or too many.
        """
        records = (repair_jsonl if repair else read_jsonl)(self.episodes_path)
        metric = self.read_config().measure if self.exists else ACCURACY
        episodes: list[Episode] = []
        told: dict[str, int] = {}
        for line, record in enumerate(records, start=1):
            try:
                episode = Episode.from_record(record, metric)
                if episode.episode != told.get(episode.agent, 0):
                    raise ValueError(
                        f"episode {episode.episode} of {episode.agent}, {told.get(episode.agent, 0)} is next"
                    )
                if episodes and list(episode.counts) != list(episodes[0].counts):
                    raise ValueError("its groups are not those of the first line")
            except (ValueError, KeyError, TypeError, AttributeError, OverflowError) as error:
                raise self.damaged(line, reason(error)) from error
            told[episode.agent] = episode.episode + 1
            episodes.append(episode)
        expected = _mapping(self.report_path).get("episodes") if self.finished else None
        if isinstance(expected, int) and len(episodes) < expected:
            raise self.damaged(len(episodes) + 1, "it is missing, and the run is finished")
        return episodes

    def damaged(self, line: int, why: str) -> AutopruneError:
        """Return the error that a line of the journal is damaged."""
        return AutopruneError(
            f"Line {line} of the journal '{self.episodes_path}' is not what a search of this run wrote ({why}); restore the "
            "file or begin another run with a new --out."
        )

    def append(self, episode: Episode) -> None:
        """Add one line to the journal and wait until it is on the disk."""
        self.check_in_place()
        append_jsonl(self.episodes_path, episode.to_record())

    def agent_folder(self, agent: str) -> Path:
        """Return the folder for what ``agent`` keeps; there is none if it keeps nothing."""
        return self.path / "agents" / _file_name(agent)

    @property
    def finished_folder(self) -> Path:
        """Where finished networks are kept until the run ends."""
        return self.path / "finished"

    @property
    def front_folder(self) -> Path:
        """Where the policies of a front are."""
        return self.path / "front"

    def read_row(self, name: str) -> dict[str, Any] | None:
        """Return the finished table line ``name``, or None if it is not finished."""
        path = self.path / "rows" / f"{_file_name(name)}.json"
        return _mapping(path) if path.is_file() else None

    def write_row(self, name: str, row: Mapping[str, Any]) -> None:
        """Keep a finished table line."""
        self.check_in_place()
        path = self.path / "rows" / f"{_file_name(name)}.json"
        write_json_atomic(path, dict(row))


def _is_ours(name: str) -> bool:
    """Whether a file is one that a process killed before ``config.json`` was there may have left."""
    return name in (".lock", *_MEASURED) or is_temporary(name, ("config.json", *_MEASURED, _PROBE))


def _mapping(path: Path) -> dict[str, Any]:
    values = read_json(path)
    if not isinstance(values, dict):
        raise UsageError(f"The file '{path}' does not hold a JSON object.")
    return values


def _file_name(agent: str) -> str:
    """Return an agent's name as one folder name; "package.module:Class" has a colon, which not every system allows."""
    return "".join(c if c.isalnum() or c in "-_." else "-" for c in agent)
