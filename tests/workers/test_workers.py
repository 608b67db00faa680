"""Several workers: the same run as with one, whatever happens to a worker."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from autoprune.budget import Budget
from autoprune.errors import AutopruneError, UsageError
from autoprune.evaluation import Score
from autoprune.runs import Episode, RunFolder
from autoprune.support.strict_json import read_json
from autoprune.workers import Workers, check_workers

from .._driven import Problem, comparable, config_for, run

AGENTS = ("random", "tpe", "evolution", "sensitivity", "netadapt", "uniform")


def journal(path: Path) -> list[Episode]:
    """Return the episodes by agent, without what depends on when they ran."""
    episodes = [replace(e, elapsed_s=0.0) for e in RunFolder(path).read_episodes()]
    return sorted(episodes, key=lambda e: e.agent)


def test_the_same_run_with_any_number_of_workers(tmp_path: Path) -> None:
    for agent in AGENTS:
        one = comparable(run(agent, tmp_path / f"{agent}-1", episodes=11))
        many = comparable(run(agent, tmp_path / f"{agent}-3", episodes=11, workers=3))
        assert journal(tmp_path / f"{agent}-3") == journal(tmp_path / f"{agent}-1")
        assert many == one
        assert one["total_cost"] == len({tuple(e.counts.values()) for e in journal(tmp_path / f"{agent}-1")})


def test_a_budget_that_is_searched_for(tmp_path: Path) -> None:
    budget = Budget((), max_drop=2.0, minimize="macs")
    for agent in ("sensitivity", "random"):
        reports = []
        for workers in (1, 2):
            problem = Problem().at(budget)
            reports.append(run(agent, tmp_path / f"{agent}{workers}", problem=problem, episodes=24, workers=workers))
        assert journal(tmp_path / f"{agent}2") == journal(tmp_path / f"{agent}1")
        assert reports[1]["final"]["counts"] == reports[0]["final"]["counts"]


def test_a_run_continues_with_another_number_of_workers(tmp_path: Path) -> None:
    config = config_for("evolution", 20)
    whole = comparable(run("evolution", tmp_path / "whole", episodes=20))
    path = tmp_path / "stopped"
    folder = RunFolder(path)
    folder.begin(config)
    for episode in [e for e in journal(tmp_path / "whole") if (e.agent, e.episode) < ("evolution", 7)]:
        folder.append(episode)
    report = comparable(run("evolution", path, episodes=20, workers=2))
    assert report == whole
    assert journal(path) == journal(tmp_path / "whole")


class Deadly(Problem):
    """Kills the process that scores the second policy."""

    def __init__(self, folder: Path) -> None:
        super().__init__(steps=12)
        self._folder = folder

    def score(self, counts: Sequence[int]) -> Score:
        (self._folder / f"{time.monotonic_ns()}-{os.getpid()}").touch()
        died = self._folder / "died"
        if len(list(self._folder.iterdir())) >= 2 and not died.exists():
            died.touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return super().score(counts)


def test_a_killed_worker_is_replaced_and_nothing_is_lost(tmp_path: Path) -> None:
    marks = tmp_path / "marks"
    marks.mkdir()
    run("tpe", tmp_path / "killed", problem=Deadly(marks), episodes=9, workers=2)
    run("tpe", tmp_path / "quiet", problem=Problem(steps=12), episodes=9)
    assert (marks / "died").exists()
    assert journal(tmp_path / "killed") == journal(tmp_path / "quiet")
    scored = {tuple(sorted(episode.counts.items())) for episode in RunFolder(tmp_path / "killed").read_episodes()}
    assert read_json(tmp_path / "killed" / "report.json")["policies_scored_in_all"] == len(scored)


def test_a_policy_that_ends_every_worker_is_named() -> None:
    def score(counts: tuple[int, ...]) -> Score:
        os.kill(os.getpid(), signal.SIGKILL)
        raise AssertionError

    with Workers(score, 2) as workers:
        workers.submit((4, 2))
        with pytest.raises(AutopruneError, match=r"3 workers in turn ended .* policy \[4, 2\], the last with code -9"):
            workers.wait()


def test_what_a_score_raises_is_raised() -> None:
    def score(counts: tuple[int, ...]) -> Score:
        raise UsageError(f"not {counts}")

    with Workers(score, 2) as workers:
        workers.submit((1, 2))
        with pytest.raises(UsageError, match=r"^not \(1, 2\)\nIn the worker:"):
            workers.wait()


class CodedError(Exception):
    """Is made of two values."""

    def __init__(self, code: int, text: str) -> None:
        super().__init__(f"{code}: {text}")
        self.code = code


class ChattyError(Exception):
    """Would be made again of another message than it has."""

    def __str__(self) -> str:
        return f"said by {os.getpid()}"


class ReducingError(Exception):
    """Does not let itself be pickled."""

    def __reduce__(self) -> str:
        raise TypeError("not this one")


def raised(make: Callable[[], Exception]) -> Exception:
    """Return what arrives of an exception that scoring raises in a worker."""

    def score(counts: tuple[int, ...]) -> Score:
        raise make()

    with Workers(score, 1) as workers:
        workers.submit((3, 1))
        try:
            workers.wait()
        except Exception as error:
            return error
    raise AssertionError


def holding(thing: object) -> Exception:
    error = ValueError("own words")
    error.thing = thing  # type: ignore[attr-defined]
    return error


def local() -> Exception:
    class LocalError(Exception):
        pass

    return LocalError("of a function")


@pytest.mark.parametrize(
    ("make", "name", "message"),
    [
        (lambda: CodedError(7, "no such file"), "CodedError", "7: no such file"),
        (lambda: holding(threading.Lock()), "ValueError", "own words"),
        (lambda: holding(lambda: None), "ValueError", "own words"),
        (lambda: ReducingError("kept"), "ReducingError", "kept"),
        (local, "LocalError", "of a function"),
        (lambda: ValueError(), "ValueError", "no message"),
        (lambda: ValueError("two\nlines"), "ValueError", "two"),
        (lambda: KeyError("key"), "KeyError", "key"),
        (lambda: ExceptionGroup("some", [ValueError("inner"), holding(threading.Lock())]), "ExceptionGroup", "some"),
        (lambda: UnicodeDecodeError("utf-8", b"\xff", 0, 1, "odd"), "UnicodeDecodeError", "odd"),
        (ChattyError, "ChattyError", "said by"),
    ],
)
def test_any_exception_of_a_worker_arrives_with_its_type_and_message(
    make: Callable[[], Exception], name: str, message: str
) -> None:
    error = raised(make)
    note = "".join(error.__notes__)
    assert note.startswith("In the worker:\n")
    assert "Traceback (most recent call last)" in note
    assert name in note
    assert type(error) is AutopruneError
    assert str(error).startswith(f"Scoring the policy [3, 1] raised {name}: ")
    assert message in str(error)
    assert "\n" not in str(error)


@pytest.mark.parametrize("kind", [AutopruneError, UsageError])
def test_the_packages_own_errors_arrive_as_they_are(kind: type[AutopruneError]) -> None:
    error = raised(lambda: kind("The value is 3, but must be 4."))
    assert type(error) is kind
    assert str(error) == "The value is 3, but must be 4."


@pytest.mark.parametrize(
    ("count", "device", "says"), [(0, "cpu", "is 0"), (2, "cuda", "'cuda'"), (True, "cpu", "True")]
)
def test_what_cannot_work_is_refused(count: int, device: str, says: str) -> None:
    with pytest.raises(UsageError, match=says):
        check_workers(count, device)
    check_workers(1, device)
