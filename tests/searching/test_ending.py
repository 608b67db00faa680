"""A search that ends early: it ends with what there is, and with more time it goes on as if it had never ended."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from autoprune.agents import Agent, Auto, Counts
from autoprune.errors import UsageError
from autoprune.evaluation import Score
from autoprune.runs import RunFolder, distinct, lay_out_best
from autoprune.searching import Ending, Stop, candidates, parse_seconds
from autoprune.support.tensors import load_safetensors
from autoprune.surgery import Policy
from autoprune.testing import ToyProblem

from .._driven import Finished, Problem, comparable, run

EPISODES = 12


def told(folder: Path) -> list[tuple[str, int, tuple[int, ...]]]:
    return [(e.agent, e.episode, tuple(e.counts.values())) for e in RunFolder(folder).read_episodes()]


class Costly(Problem):
    """A score takes three dense passes."""

    def score(self, counts: Sequence[int], /) -> Score:
        return replace(super().score(counts), cost=3.0)


@pytest.mark.parametrize("agent", ["random", "tpe", "evolution"])
@pytest.mark.parametrize("workers", [1, 2])
def test_ended_early_and_given_more_is_the_run_that_never_ended(agent: str, workers: int, tmp_path: Path) -> None:
    options: dict[str, Any] = {"episodes": EPISODES, "workers": workers}
    whole = run(agent, tmp_path / "whole", problem=Costly(steps=12), ending=Ending(patience=None), **options)
    limits = [Ending(max_passes=most, patience=None) for most in (9.0, 16.0, 25.0)]
    for ending in limits:
        part = run(agent, tmp_path / "parts", problem=Costly(steps=12), ending=ending, **options)
        assert part["stopped"]["why"] == "passes"
        assert part["passes"]["scoring"] >= float(ending.max_passes or 0) - 2.0  # preparing takes two
        assert part["passes"]["scoring"] < float(ending.max_passes or 0) + 3.0 * (workers + 1)
        assert Policy.load(tmp_path / "parts" / "policy.json").counts() == tuple(part["final"]["counts"].values())
        assert ending.goes_on(part) is False
        assert Ending(patience=None).goes_on(part)
    ended = run(agent, tmp_path / "parts", problem=Costly(steps=12), ending=Ending(patience=None), **options)
    assert sorted(told(tmp_path / "parts")) == sorted(told(tmp_path / "whole"))
    for report in (whole, ended):  # networks that were finished on the way stay in the table
        del report["rows"], report["passes"]
    assert comparable(ended) == comparable(whole)


def test_what_was_asked_to_stop_ends_after_the_policy_at_hand_with_one_network_finished(tmp_path: Path) -> None:
    ending = Ending(patience=None)

    class Interrupting(Problem):
        def score(self, counts: Sequence[int], /) -> Score:
            found = super().score(counts)
            if self.scored == 5:
                ending.stop.set()
            return found

    problem = Interrupting()
    report = run("random", tmp_path, problem=problem, episodes=EPISODES, ending=ending)
    assert report["stopped"] == {"why": "interrupted", "text": "it was interrupted", "after": None}
    assert len(distinct(RunFolder(tmp_path).read_episodes())) == 5
    assert len(problem.finished) == 1
    assert Ending().goes_on(report)


def test_nothing_ends_before_a_policy_is_within_the_budget(tmp_path: Path) -> None:
    report = run("random", tmp_path, episodes=3, ending=Ending(timeout_s=1e-9))
    assert report["stopped"]["why"] == "timeout"
    assert [found["name"] for found in report["scored"]] == ["uniform"]
    assert report["exported"] == "uniform"


@pytest.mark.parametrize("patience", [1, 2, 3])
def test_patience_counts_different_policies_since_the_best(patience: int, tmp_path: Path) -> None:
    report = run("random", tmp_path, problem=Problem(steps=12), episodes=60, ending=Ending(patience=patience))
    own = distinct(e for e in RunFolder(tmp_path).read_episodes() if e.agent == "random")
    rewards = [e.score.reward for e in own]
    since = [n - int(np.argmax(rewards[: n + 1])) for n in range(len(rewards))]
    assert since[-1] == patience
    assert max(since[:-1], default=0) < patience
    assert report["stopped"]["after"] == patience
    assert not Ending(patience=patience).goes_on(report)
    assert Ending(patience=patience + 1).goes_on(report)


class Expecting(Agent):
    """Says what it expects."""

    def ask(self, episode: int) -> Counts | None:
        self.at = episode
        return tuple(self.problem.projector.project(np.random.default_rng(episode).random(len(self.problem.levels))))

    def expected_gain(self) -> float | None:
        return None if self.at < 4 else 0.01 / (self.at - 3) ** 2


class Known(Problem):
    """The difference to the dense network is known to half a point."""

    def score(self, counts: Sequence[int], /) -> Score:
        return replace(super().score(counts), drop_se=0.005)


@pytest.mark.parametrize("workers", [1, 2])
def test_a_search_ends_where_its_agent_expects_less_than_a_tenth_of_the_noise(workers: int, tmp_path: Path) -> None:
    report = run(Expecting, tmp_path, problem=Known(), episodes=40, workers=workers)
    gains = {episode: 0.01 / (episode - 3) ** 2 for episode in range(4, 40)}
    first = min(episode for episode, gain in gains.items() if gain <= 0.1 * 0.005)
    own = [e for e in RunFolder(tmp_path).read_episodes() if e.agent == "Expecting"]
    assert len(own) == first
    assert report["stopped"]["why"] == "converged"
    assert f"better by more than {100 * gains[first]:.2f} points" in report["stopped"]["text"]
    assert not Ending().goes_on(report)
    assert Ending(patience=None).goes_on(report)


def test_auto_expects_less_the_more_it_knows() -> None:
    """On a problem whose divergence is the loss of accuracy, it ends near the optimum, long before all episodes."""

    class Measured(ToyProblem):
        def score(self, counts: Sequence[int]) -> Score:
            found = super().score(counts)
            return replace(found, distance=self.dense.accuracy - found.accuracy)

    problem = Measured(4, steps=8, seed=3)
    agent = Auto(problem, episodes=100)
    best, gains = 0.0, []
    for episode in range(60):
        counts = agent.ask(episode)
        if counts is None:
            break
        gain = agent.expected_gain()
        assert (gain is None) == (episode < 6)
        if gain is not None:
            gains.append(gain)
            if gain < 1e-4:
                break
        score = problem.score(counts)
        best = max(best, score.accuracy)
        agent.tell(episode, counts, score)
    assert all(gain >= 0 for gain in gains)
    assert problem.optimum()[1] - best < 0.005
    assert len(gains) < 40


@pytest.mark.parametrize("row", ["uniform", "shallow", "random"])
def test_another_row_is_the_result_where_it_is_asked_for(row: str, tmp_path: Path) -> None:
    first = run("random", tmp_path)
    problem = Problem()
    report = run("random", tmp_path, problem=problem, ending=Ending(row=row, only_row=True))
    assert report["exported"] == row
    scored = next(found for found in report["scored"] if found["name"] == row)
    assert report["final"]["counts"] == scored["counts"]
    assert Policy.load(tmp_path / "policy.json").counts() == tuple(scored["counts"].values())
    assert problem.scored == 0
    assert len(problem.finished) == (row not in [found["name"] for found in first["rows"]])
    assert {found["name"] for found in report["rows"]} == {found["name"] for found in first["rows"]} | {row}
    with pytest.raises(UsageError, match=r"no row 'unifrom'.*Did you mean 'uniform'"):
        run("random", tmp_path, ending=Ending(row="unifrom", only_row=True))


def test_from_the_first_policy_on_the_best_so_far_is_there(tmp_path: Path) -> None:
    """Stopped before any score, what lies in the folder is the best of what the journal has, whole."""

    class Stopped(BaseException):
        pass

    class Stopping(Problem):
        left = 0

        def score(self, counts: Sequence[int], /) -> Score:
            if self.scored == self.left:
                raise Stopped
            return super().score(counts)

        def finish(self, counts: Sequence[int], /) -> Finished:
            raise Stopped

    for left in range(9):
        problem, path = Stopping(), tmp_path / str(left)
        problem.left = left
        with pytest.raises(Stopped):
            run("random", path, problem=problem)
        folder, said = RunFolder(path), list[str]()
        episodes = folder.read_episodes()
        found = lay_out_best(folder, said.append)
        assert (found is None) == (not episodes)
        if found is None:
            continue
        best = max(episodes, key=lambda e: e.score.reward)
        assert Policy.load(found / "policy.json").counts() == tuple(best.counts.values())
        assert load_safetensors(found / "model.safetensors")["weight"].shape == (sum(best.counts.values()), 2)
        assert f"{best.agent}'s best, as scored" in said[0]
    run("random", path)
    assert not folder.best_path.exists()
    assert lay_out_best(folder, said.append) is None


def test_the_agents_best_and_the_best_of_the_others_are_finished_unless_clearly_worse() -> None:
    from autoprune.runs import Episode

    def episode(agent: str, accuracy: float, error: float) -> Episode:
        score = Score(accuracy, 1 - accuracy, 1, 1, reward=accuracy, drop_se=error)
        return Episode(agent, 0, {"a": round(1e4 * accuracy)}, score, True, False, 0.0)

    own = [episode("auto", value, 0.003) for value in (0.91, 0.905, 0.90)]
    near, far = episode("shallow", 0.903, 0.003), episode("deep", 0.85, 0.003)
    assert candidates(own, [near, far], 2) == ([own[0], near, own[1], own[2], far], 2)
    assert candidates(own, [far], 2) == ([own[0], far, own[1], own[2]], 1)
    assert candidates(own, [far], 3) == ([own[0], own[1], far, own[2]], 2)
    assert candidates([far], own, 2)[0][0] is own[0]  # a rule that is better comes first
    unknown = episode("shallow", 0.5, float("nan"))
    assert candidates(own, [unknown], 2)[1] == 2
    assert candidates([], own, 2) == (own, 2)
    assert candidates(own, [episode("deep", 0.91, 0.003)], 2) == (own, 2)  # an equal policy is one


@pytest.mark.parametrize(
    ("text", "seconds"), [("90", 90.0), ("60s", 60.0), ("10m", 600.0), ("1.5h", 5400.0), ("1e2", 100.0)]
)
def test_times_are_read(text: str, seconds: float) -> None:
    assert parse_seconds(text) == seconds


@pytest.mark.parametrize("text", ["", "m", "ten", "10 days", "1h30"])
def test_what_is_no_time_is_said(text: str) -> None:
    with pytest.raises(UsageError, match="seconds, minutes or hours"):
        parse_seconds(text)


@pytest.mark.parametrize(
    "wrong", [{"timeout_s": 0}, {"timeout_s": float("nan")}, {"max_passes": -1}, {"patience": 0}, {"patience": "soon"}]
)
def test_a_limit_that_is_none_is_said(wrong: dict[str, Any]) -> None:
    with pytest.raises(UsageError, match="must be"):
        Ending(**wrong)


def test_limits_are_compared_without_their_switches() -> None:
    first, second = Ending(), Ending()
    assert first == second
    assert isinstance(first.stop, threading.Event)
    assert Stop("timeout", "").hurried
    assert not Stop("converged", "").hurried
