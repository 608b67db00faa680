"""Searches that are killed (SIGKILL) and continued until they end, compared with one that was never disturbed.

Each session is a fork of a process that has everything imported. It is killed before its n-th operation on a file, in the middle
of a write to one, or after some time; both drawn from a seed.
"""

from __future__ import annotations

import os
import random
import signal
import sys
import time
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from autoprune.budget import Budget
from autoprune.evaluation import Score
from autoprune.runs import Episode, RunFolder
from autoprune.support.checksums import text_checksum
from autoprune.support.strict_json import read_json, to_json

from ._driven import Finished, Problem, comparable, run

AGENTS = ("random", "tpe", "evolution", "netadapt", "sensitivity", "uniform")
GOALS = (
    Budget(0.5),
    Budget((), max_drop=2.0, minimize="macs"),
    Budget((), minimize="macs"),
)
EVENTS = {"open", "os.rename", "os.mkdir", "os.remove", "os.rmdir", "os.truncate"}
PATIENCE_S = 20.0
MEMORY = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
"""Where runs are kept if it can be: a SIGKILL loses nothing of what was written, and syncing takes no time there."""
_write = os.write


@dataclass(frozen=True)
class Case:
    """A search: who searches for what, with how many workers."""

    agent: str
    goal: int
    workers: int

    def problem(self, log: Path | None = None) -> Problem:
        problem = Logged(log)
        return problem if self.goal == 0 else problem.at(GOALS[self.goal])  # type: ignore[return-value]

    @property
    def episodes(self) -> int:
        return 6 if self.goal == 0 else 12


class Logged(Problem):
    """Writes down what is scored and finished, whoever does it."""

    def __init__(self, log: Path | None) -> None:
        super().__init__()
        self._log = log

    def score(self, counts: Sequence[int], /) -> Score:
        self._note("score", counts)
        return super().score(counts)

    def finish(self, counts: Sequence[int], /) -> Finished:
        self._note("finish", counts)
        log, self._log = self._log, None
        try:
            return super().finish(counts)
        finally:
            self._log = log

    def _note(self, what: str, counts: Sequence[int]) -> None:
        if self._log is not None:
            handle = _open(self._log, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
            _write(handle, f"{what} {' '.join(map(str, counts))}\n".encode())
            os.close(handle)


_open = os.open


@dataclass(frozen=True)
class Trial:
    """A search that was killed and continued: what was done, what came out, and what comes out where nobody kills it."""

    done: str
    outcome: dict[str, Any]
    undisturbed: dict[str, Any]


def trial(seed: int) -> Trial:
    """Kill one search one to three times, and let it end.

    Raises:
        AssertionError: if anything is lost, done twice or left behind.
    """
    rng = random.Random(seed)
    case = Case(rng.choice(AGENTS), rng.randrange(len(GOALS)), rng.choice((1, 1, 2)))
    whole = undisturbed(case)
    done = []
    with TemporaryDirectory(dir=MEMORY) as scratch:
        path, log = Path(scratch) / "run", Path(scratch) / "log"
        groups: list[int] = []
        lines = 0
        for _ in range(rng.randint(1, 3)):
            if rng.random() < 0.7:
                at, seconds = rng.randint(1, whole.operations), None
            else:
                at, seconds = None, rng.uniform(0, 1.2 * whole.seconds)
            known, networks = _done(path)
            log.unlink(missing_ok=True)
            child = _forked(lambda at=at: _session(case, path, log, at=at))  # type: ignore[misc]
            status = _ended(child, seconds)
            groups.append(child)
            assert status in (0, -signal.SIGKILL), f"a session ended with {status}"
            done.append(f"{'operation ' + str(at) if at else f'{seconds:.3f} s'}{'' if status else ' (ended before)'}")
            _check_log(log, known, networks)
            now = len(RunFolder(path).read_episodes()) if path.exists() else 0
            assert now >= lines, f"{lines - now} policies of the journal are gone"
            lines = now
        known, networks = _done(path)
        log.unlink(missing_ok=True)
        child = _forked(lambda: _session(case, path, log, at=None))
        assert _ended(child, None) == 0
        _check_log(log, known, networks)
        _check_gone([*groups, child])
        return Trial(f"{case}: killed at {', '.join(done)}", _outcome(path, case), whole.outcome)


@dataclass(frozen=True)
class Whole:
    """An undisturbed run: what came out, how many operations it takes, how long."""

    outcome: dict[str, Any]
    operations: int
    seconds: float


@cache
def undisturbed(case: Case) -> Whole:
    """Return the run that nobody kills."""
    with TemporaryDirectory(dir=MEMORY) as scratch:
        path, log = Path(scratch) / "run", Path(scratch) / "log"
        began = time.monotonic()
        assert _ended(_forked(lambda: _session(case, path, log, at=0)), None) == 0
        seconds = time.monotonic() - began
        return Whole(_outcome(path, case), int(log.with_suffix(".operations").read_text()), seconds)


def _session(case: Case, path: Path, log: Path, *, at: int | None) -> None:
    """Run or continue a search, killed before operation ``at``; 0 counts them only."""
    counter = _Counter(path, at)
    if at is not None:
        counter.install()
    run(case.agent, path, problem=case.problem(log), episodes=case.episodes, workers=case.workers)
    if at == 0:
        log.with_suffix(".operations").write_text(str(counter.count))


class _Counter:
    """Counts operations on the run's files, and ends the process before the last."""

    def __init__(self, folder: Path, last: int | None) -> None:
        self._folder, self._last, self._owner = str(folder), last, os.getpid()
        self.count = 0

    def install(self) -> None:
        sync, write, cut = os.fsync, os.write, os.ftruncate

        def syncing(handle: int) -> None:
            self.operation()
            sync(handle)

        def writing(handle: int, data: Any) -> int:
            self.operation(lambda: write(handle, bytes(data)[: len(data) // 2]))
            return write(handle, data)

        def cutting(handle: int, length: int) -> None:
            self.operation()
            cut(handle, length)

        os.fsync, os.write, os.ftruncate = syncing, writing, cutting
        sys.addaudithook(self._audited)

    def _audited(self, event: str, given: tuple[Any, ...]) -> None:
        if event in EVENTS and any(str(value).startswith(self._folder) for value in given[:2]):
            self.operation()

    def operation(self, half: Callable[[], object] = lambda: None) -> None:
        if os.getpid() != self._owner:
            return
        self.count += 1
        if self.count == self._last:
            half()
            os.kill(os.getpid(), signal.SIGKILL)
            time.sleep(60)


def _forked(work: Callable[[], None]) -> int:
    """Do something in a fork, in a process group of its own; returns its id."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of threads, which no child of ours uses
        child = os.fork()
    if child == 0:
        status = 1
        try:
            os.setpgid(0, 0)
            work()
            status = 0
        except BaseException as error:
            sys.__stderr__ and sys.__stderr__.write(f"{type(error).__name__}: {error}\n")
        finally:
            os._exit(status)
    return child


def _ended(child: int, seconds: float | None) -> int:
    """Return how a process ended, which is killed after some seconds."""
    if seconds is not None:
        time.sleep(seconds)
        os.kill(child, signal.SIGKILL)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def _done(path: Path) -> tuple[set[tuple[int, ...]], set[str]]:
    """Return the policies that a run has scores of, and the files of its finished networks."""
    episodes = RunFolder(path).read_episodes() if path.exists() else []
    return {tuple(e.counts.values()) for e in episodes}, {
        file.stem for file in (path / "finished").glob("*.safetensors")
    }


def _check_log(log: Path, known: set[tuple[int, ...]], networks: set[str]) -> None:
    """See that nothing was done that was done in an earlier session, and no policy scored twice in one."""
    lines = log.read_text().splitlines() if log.exists() else []
    again = []
    for line in lines:
        what, *numbers = line.split()
        counts = tuple(map(int, numbers))
        if counts in known if what == "score" else text_checksum(to_json(list(counts))) in networks:
            again.append(line)
    assert not again, f"done twice: {again}"
    assert len(set(lines)) == len(lines), f"done twice in one session: {lines}"


def _outcome(path: Path, case: Case) -> dict[str, Any]:
    """Return everything that an ended run is, but its times."""
    episodes = [replace(e, elapsed_s=0.0) for e in RunFolder(path).read_episodes()]
    files = sorted(str(file.relative_to(path)) for file in path.rglob("*") if file.is_file())
    return {
        "report": comparable(read_json(path / "report.json")),
        "episodes": sorted(map(_key, episodes)),
        "files": files,
        "bytes": {
            name: (path / name).read_bytes()
            for name in files
            if name.startswith("front/") or name in ("policy.json", "model.safetensors")
        },
    }


def _key(episode: Episode) -> str:
    return f"{episode.agent} {episode.episode:05d} {to_json(episode.to_record())}"


def _check_gone(groups: Sequence[int]) -> None:
    """See that no process is left of those that were killed."""
    until = time.monotonic() + PATIENCE_S
    while left := [group for group in groups if _alive(group)]:
        assert time.monotonic() < until, f"processes are left of {left}"
        time.sleep(0.05)


def _alive(group: int) -> bool:
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            state, _, of = stat.read_text().rpartition(")")[2].split()[:3]
        except OSError:
            continue
        if int(of) == group and state != "Z":
            return True
    return False
