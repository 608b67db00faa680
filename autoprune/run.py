"""The run folder: where a search keeps what it did, so that nothing is lost when it is stopped and nothing done twice.

    config.json         what was asked (RunConfig)
    episodes.jsonl      every proposed policy with its score, one line each, appended and synced
    agents/NAME/        what an agent keeps (safetensors and JSON)
    rows/NAME.json      finished lines of the table
    front/              policies and weights along a front (--pareto)
    policy.json         the result
    model.safetensors   its weights
    profile.jsonl       times measured on the target, where the budget is one of latency
    report.json         the whole report; there exactly if the run is finished

Whole files are written atomically, nothing is ever unpickled.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from autoprune.config import RunConfig
from autoprune.errors import AutopruneError, UsageError
from autoprune.files import append_jsonl, read_json, read_jsonl, repair_jsonl, write_json_atomic
from autoprune.lock import Lock
from autoprune.reading import reason
from autoprune.score import Score

_FLOATS = ("accuracy", "loss", "reward", "seconds", "cost")


@dataclass(frozen=True)
class Episode:
    """One proposed policy and its score: a line of ``episodes.jsonl``.

    Attributes:
        agent: Who proposed it.
        episode: Its number, from 0, per agent.
        counts: Kept channels by group name.
        score: What it got.
        feasible: Whether it meets the budget.
        reused: Whether the score was taken over from an equal policy scored before (seconds and cost are 0 then).
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
    def from_record(cls, record: Mapping[str, Any]) -> Episode:
        """Read what ``to_record`` gave, null being a number that was not finite."""
        score = {key: _float(record[key]) for key in _FLOATS}
        return cls(
            agent=str(record["agent"]),
            episode=int(record["episode"]),
            counts={str(name): int(count) for name, count in record["counts"].items()},
            score=Score(
                macs=int(record["macs"]),
                params=int(record["params"]),
                **score,
                images=_float(record.get("images")),
                drop_se=_float(record.get("drop_se")),
                distance=_float(record.get("distance")),
                share=float(record.get("share", 1.0)),
                costs=dict(record.get("costs", {})),
            ),
            feasible=bool(record["feasible"]),
            reused=bool(record["reused"]),
            elapsed_s=float(record["elapsed_s"]),
        )


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
        self.report_path = path / "report.json"
        self.profile_path = path / "profile.jsonl"

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
        """Return the finished run's report.

        Raises:
            UsageError: if the run is not finished.
        """
        if not self.finished:
            raise UsageError(
                f"The run in '{self.path}' is not finished; continue it with: autoprune search --out {self.path}"
            )
        return _mapping(self.report_path)

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
            self.path.mkdir(parents=True, exist_ok=True)
            probe = self.path / ".write-test"
            probe.touch()
            probe.unlink()
        except OSError as error:
            raise UsageError(
                f"The output folder '{self.path}' cannot be written ({error.strerror}); choose another --out."
            ) from error
        if not self.exists and not all(_is_ours(entry.name) for entry in self.path.iterdir()):
            raise UsageError(f"The output folder '{self.path}' holds files that are not a run's; choose another --out.")

    def lock(self) -> Lock:
        """Return the lock that a process holds while it writes here, for a ``with`` statement."""
        return Lock(self.path / ".lock")

    def read_episodes(self, *, repair: bool = False) -> list[Episode]:
        """Return the episodes so far; a last line that was cut short is left out.

        Args:
            repair: Cut such a line off the file too, so that the next one begins on a line of its own.

        Raises:
            AutopruneError: if any other line is damaged.
        """
        records = (repair_jsonl if repair else read_jsonl)(self.episodes_path)
        try:
            return [Episode.from_record(record) for record in records]
        except (ValueError, KeyError, TypeError, AttributeError, OverflowError) as error:
            raise AutopruneError(
                f"The journal '{self.episodes_path}' holds a line that is no episode ({reason(error)}); "
                "restore the file or begin another run with a new --out."
            ) from error

    def append(self, episode: Episode) -> None:
        """Add one line to the journal and wait until it is on the disk."""
        append_jsonl(self.episodes_path, episode.to_record())

    def agent_folder(self, agent: str) -> Path:
        """Return the folder for what ``agent`` keeps; there is none if it keeps nothing."""
        return self.path / "agents" / _file_name(agent)

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
        path = self.path / "rows" / f"{_file_name(name)}.json"
        path.parent.mkdir(exist_ok=True)
        write_json_atomic(path, dict(row))


def _float(value: Any) -> float:
    """Return a number of a record, null or missing being one that was not finite."""
    return math.nan if value is None else float(value)


def _is_ours(name: str) -> bool:
    """Whether a file is one that a process killed before ``config.json`` was there may have left."""
    return name in (".lock", ".write-test", "profile.jsonl") or (
        name.startswith(".config.json.") and name.endswith(".tmp")
    )


def _mapping(path: Path) -> dict[str, Any]:
    values = read_json(path)
    if not isinstance(values, dict):
        raise UsageError(f"The file '{path}' does not hold a JSON object.")
    return values


def _file_name(agent: str) -> str:
    """Return an agent's name as one folder name; "package.module:Class" has a colon, which not every system allows."""
    return "".join(c if c.isalnum() or c in "-_." else "-" for c in agent)
