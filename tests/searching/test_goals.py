"""Searches whose size is not fixed, and the choice among finished networks, on the toy problem."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from autoprune.budget import Budget, Drop
from autoprune.errors import UsageError
from autoprune.evaluation import Score
from autoprune.latency import Ratio
from autoprune.report import drop_sentences, front_sentences, front_table, limit_sentences, sentences, table
from autoprune.runs import RunConfig, RunFolder
from autoprune.searching import descent, front
from autoprune.support.strict_json import read_json, write_json_atomic
from autoprune.support.tensors import load_safetensors
from autoprune.surgery import Policy
from autoprune.testing import ToyProblem

from .._driven import Finished, Problem, comparable, run


def problem_at(budget: Budget, **options: Any) -> Problem:
    made = Problem(**options).at(budget)
    assert isinstance(made, Problem)
    return made


def within(score: Score, dense: Score, points: float) -> bool:
    return score.accuracy >= dense.accuracy - points / 100 - 1e-9


@pytest.mark.parametrize("agent", ["sensitivity", "uniform", "random"])
def test_the_result_is_the_smallest_that_anybody_scored_within_the_drop(agent: str, tmp_path: Path) -> None:
    problem = problem_at(Budget(max_drop=4.0))
    report = run(agent, tmp_path, problem=problem, episodes=40)
    good = [e.score.macs for e in RunFolder(tmp_path).read_episodes() if within(e.score, problem.dense, 4.0)]
    assert report["final"]["macs"] == min(good) < problem.cost.dense_macs
    assert within(Score(report["final"]["search_accuracy"], 0, 0, 0), problem.dense, 4.0)
    assert report["final"] == next(row for row in report["rows"] if row["name"] == report["exported"])
    assert Policy.load(tmp_path / "policy.json").counts() == tuple(report["final"]["counts"].values())
    lost = 100 * (report["dense"]["accuracy"] - report["final"]["accuracy"])
    assert f"lost {lost:.2f} points" in drop_sentences(report, problem.budget)[1]
    assert f"{report['exported']}" in sentences(report)[0]
    assert " *" in table(report)


class Deciding(Problem):
    """Networks whose loss on the images that decide is known: of 1,000, so many more are wrong than their size says.

    Attributes:
        losses: Points lost on them, given the share of the cost.
    """

    losses: Callable[[float], float]

    def finish(self, counts: Sequence[int], /) -> Finished:
        found = super().finish(counts)
        lost = round(10 * self.losses(self.cost.macs(counts) / self.cost.dense_macs))
        return replace(found, drop=Drop(max(lost, 0) + 5, max(-lost, 0) + 5, 1000))


@pytest.mark.parametrize(
    ("losses", "words"),
    [
        (lambda share: 3.0 * (1 - share), "at most [0-9.]+ with 95 % confidence"),
        (
            lambda share: 0.0 if share > 0.7 else 5.0,
            "On the 1,000 search images that no policy was scored on 0.00",
        ),
        (lambda share: 3.9, "the dense network .* 3.90 points were lost by the first that was tried"),
    ],
)
def test_the_result_is_the_smallest_that_images_which_no_policy_saw_confirm(
    losses: Callable[[float], float], words: str, tmp_path: Path
) -> None:
    problem = problem_at_deciding(losses)
    report = run("random", tmp_path, problem=problem, episodes=40)
    order = descent(RunFolder(tmp_path).read_episodes(), problem.budget, problem.dense, RunConfig.most_tried)
    confirmed = []
    for episode in order:
        lost = round(10 * losses(episode.score.macs / problem.cost.dense_macs))
        if not Drop(max(lost, 0) + 5, max(-lost, 0) + 5, 1000).confirms(0.04):
            break
        confirmed.append(episode)
    final = report["final"]
    assert final["macs"] == (confirmed[-1].score.macs if confirmed else problem.cost.dense_macs)
    assert Policy.load(tmp_path / "policy.json").counts() == tuple(final["counts"].values())
    weights = load_safetensors(tmp_path / "model.safetensors")
    assert weights["weight"].shape == (sum(final["counts"].values()), 2)
    assert report["exported"] == (confirmed[-1].agent if confirmed else "random")
    assert final == next(row for row in report["rows"] if row["name"] == report["exported"])
    assert re.search(words, drop_sentences(report, problem.budget)[0])
    finished = len(problem.finished)
    again = problem_at_deciding(losses)
    (tmp_path / "report.json").unlink()
    assert comparable(run("random", tmp_path, problem=again, episodes=40)) == comparable(report)
    assert len(again.finished) == 1 < finished  # only what is exported


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"confirmed": False}, "whether its drop is confirmed is wrong"),
        ({"drop": {"worse": 900, "better": 0, "images": 1000}}, "whether its drop is confirmed is wrong"),
        ({"drop": {"worse": -1, "better": 0, "images": 1000}}, "the drop is of"),
        ({"drop": {"worse": 900, "better": 900, "images": 1000}}, "the drop is of"),
        ({"drop": {"lost": 1}}, "the drop .* 'lost'"),
        ({"fast": 1}, "does not say whether"),
        ({"confirmed": None}, "does not say whether"),
        ({"name": "tpe"}, "it is that of tpe"),
        ({"macs": 1}, "multiply-adds"),
        ({"counts": {"a": 1}}, "its groups are not"),
        ("within-01", "it is (of another policy|that of)"),
    ],
)
def test_the_row_of_a_policy_within_the_drop_that_is_not_this_runs_is_refused(
    change: dict[str, Any] | str, says: str, tmp_path: Path
) -> None:
    run("random", tmp_path, problem=problem_at_deciding(lambda _: 0.0), episodes=40)
    (tmp_path / "report.json").unlink()
    path = tmp_path / "rows" / "within-00.json"
    row = read_json(path)
    changed = row | change if isinstance(change, dict) else read_json(path.with_name(f"{change}.json"))
    write_json_atomic(path, changed)
    with pytest.raises(UsageError, match=f"The row 'within-00' in .* is not this run's .*{says}.*remove it"):
        run("random", tmp_path, problem=problem_at_deciding(lambda _: 0.0), episodes=40)


def problem_at_deciding(losses: Callable[[float], float]) -> Problem:
    made = Deciding().at(Budget(max_drop=4.0))
    assert isinstance(made, Deciding)
    made.losses = losses  # type: ignore[method-assign]
    return made


def test_where_nothing_smaller_is_within_the_drop_the_dense_network_stays(tmp_path: Path) -> None:
    report = run("uniform", tmp_path, problem=problem_at(Budget(max_drop=0.0), finish_gain=0.0), episodes=10)
    assert report["final"]["macs"] == report["dense"]["macs"]
    assert "no smaller network" in sentences(report)[0]


def test_a_network_that_falls_out_of_the_drop_once_finished_is_not_the_result(tmp_path: Path) -> None:
    problem = problem_at(Budget(max_drop=4.0), finish_gain=-0.01)
    report = run("uniform", tmp_path, problem=problem, episodes=40)
    assert within(Score(report["final"]["search_accuracy"], 0, 0, 0), problem.dense, 4.0)


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (0.001, "confirmed"),
        (0.015, "not exceeded, but"),
        (None, "points."),
    ],
)
def test_the_drop_on_the_report_part_is_said_with_its_confidence(
    error: float | None, words: str, tmp_path: Path
) -> None:
    report = run("uniform", tmp_path, problem=problem_at(Budget(max_drop=4.0)), episodes=10)
    report["final"] |= {"accuracy": 0.92, "drop_se": error}
    said = drop_sentences(report, Budget(max_drop=4.0))[1]
    assert "lost 2.00" in said
    assert words in said
    if error is not None:
        assert f"{2 - 196 * error:.2f} to {2 + 196 * error:.2f}" in said


def test_a_front_has_a_policy_and_weights_for_each_point(tmp_path: Path) -> None:
    problem = problem_at(Budget(minimize="macs"))
    report = run("tpe", tmp_path, problem=problem, episodes=30)
    own = [e for e in RunFolder(tmp_path).read_episodes() if e.agent == "tpe"]
    points = front(own, "macs")
    rows = report["front"]["points"]
    assert [row["counts"] for row in rows] == [e.counts for e in points]
    assert [row["cost"] for row in rows] == [e.score.macs for e in points]
    for row in rows:
        policy = Policy.load(tmp_path / "front" / f"{row['name']}.json")
        assert policy.counts() == tuple(row["counts"].values())
        weights = load_safetensors(tmp_path / "front" / f"{row['name']}.safetensors")
        assert weights["weight"].shape == (sum(policy.counts()), 2)
    assert report["final"]["counts"] in [row["counts"] for row in rows]
    assert front_table(report).count("\n") == len(rows) + 1
    assert f"{report['front']['areas']['tpe']:.4f}" in front_sentences(report)[1]


class Stopped(BaseException):
    pass


@pytest.mark.parametrize("budget", [Budget(max_drop=4.0), Budget(minimize="macs")], ids=["drop", "front"])
def test_stopped_while_finishing_and_continued_gives_the_same_report(budget: Budget, tmp_path: Path) -> None:
    whole = run("tpe", tmp_path / "whole", problem=problem_at(budget), episodes=12)

    class Stopping(Problem):
        left = 2  # one is kept, the next is not

        def finish(self, counts: Sequence[int], /) -> Finished:
            self.left -= 1
            if self.left == 0:
                raise Stopped
            return super().finish(counts)

    made = Stopping().at(budget)
    assert isinstance(made, Problem)
    for _ in range(2):
        made.left = 2  # type: ignore[attr-defined]
        with pytest.raises(Stopped):
            run("tpe", tmp_path / "stopped", problem=made, episodes=12)
    assert comparable(run("tpe", tmp_path / "stopped", problem=problem_at(budget), episodes=12)) == comparable(whole)


def test_of_the_first_few_the_best_once_finished_is_the_result(tmp_path: Path) -> None:
    class Reordering(Problem):
        """What scores third is the best once it is finished."""

        def finish(self, counts: Sequence[int], /) -> Finished:
            found = super().finish(counts)
            gain = 0.5 if len(self.finished) == 3 else 0.0
            better = replace(found.search, reward=found.search.reward + gain)
            return Finished(found.model, found.kept, better, found.report)

    report = run("random", tmp_path, problem=Reordering(), baselines=(), finish_policies=3)
    own = [e for e in RunFolder(tmp_path).read_episodes() if e.agent == "random"]
    unique = {tuple(e.counts.values()): e for e in own}.values()
    third = sorted(unique, key=lambda e: -e.score.reward)[2]
    assert report["final"]["counts"] == third.counts


class Timed(Problem):
    """A network's time is its share of the MACs, but a few thousandths more than the policies that score best were predicted."""

    slow: int = 0

    def timed(self, network: Any, /) -> Ratio:
        self.slow -= 1
        ratio = 0.52 if self.slow >= 0 else 0.49
        return Ratio(ratio, 0.01, ratio * 1e-3, 1e-3, 9, ratio, ratio)


@pytest.mark.parametrize("slow", [0, 1, 4])
def test_the_first_that_is_measured_to_be_fast_enough_is_the_result(slow: int, tmp_path: Path) -> None:
    problem = Timed(steps=12)
    problem.slow = slow
    problem.budget = Budget(latency=0.5, macs=0.5)
    report = run("random", tmp_path, problem=problem, episodes=20, baselines=())
    own = {tuple(e.counts.values()): e for e in RunFolder(tmp_path).read_episodes() if e.agent == "random"}
    order = sorted(own.values(), key=lambda e: -e.score.reward)
    assert report["final"]["counts"] == order[slow].counts
    assert report["final"]["measured"]["ratio"] == 0.49


class Slower(Problem):
    """Networks take longer than predicted, which is their share of the MACs."""

    by: float = 1.1

    def at(self, budget: Budget) -> ToyProblem:
        limit = budget.limit("latency")
        assert limit is not None
        other = super().at(Budget(macs=min(limit.value, 1.0)))
        other.budget = budget
        return other

    def finish(self, counts: Sequence[int], /) -> Finished:
        found = super().finish(counts)
        found.model.register_buffer("counts", torch.tensor(counts))
        return found

    def timed(self, network: Any, /) -> Ratio:
        share = self.cost.macs(network.counts.tolist()) / self.cost.dense_macs * self.by
        return Ratio(share, 0.001, share, 1.0, 9, share, share)


@pytest.mark.parametrize(("by", "fast"), [(1.1, True), (1.6, True), (99.0, False)])
def test_a_network_slower_than_predicted_is_made_smaller_until_it_is_not(by: float, fast: bool, tmp_path: Path) -> None:
    problem = Slower()
    problem.by = by
    problem.budget = Budget(latency=0.5)
    report = run("random", tmp_path, problem=problem, episodes=6)
    final = report["final"]
    share = final["macs"] / report["dense"]["macs"]
    assert final["measured"]["ratio"] == pytest.approx(share * by)
    assert (share * by <= 0.5005) == fast
    assert final["counts"] == {g.name: g.kept for g in Policy.load(tmp_path / "policy.json").groups}
    if fast:
        assert share * by > 0.4


@pytest.mark.parametrize(
    ("budget", "ratio", "known", "words"),
    [
        ("latency=0.5", 0.49, 0.01, "budget 0.5000, predicted 0.5000, measured 0.4900 ± 1.0 % .*: met\\."),
        ("latency=0.5", 0.503, 0.01, "met as far as can be measured"),
        ("latency=0.5", 0.52, 0.01, "NOT met"),
        ("latency=5ms", 0.49, 0.01, "budget 5 ms, predicted 5 ms, measured 4.9 ms"),
        ("latency=0.5,size=1kB", 0.49, 0.01, "weights: budget 1 kB, used 900 B"),
    ],
)
def test_limits_are_said_as_asked_predicted_and_measured(
    budget: str, ratio: float, known: float, words: str, tmp_path: Path
) -> None:
    report = run("uniform", tmp_path)
    report["budget"] = Budget(budget).to_dict()
    report["dense"]["costs"] = {"latency": 0.01, "size": 2000.0}
    report["final"] |= {
        "costs": {"latency": 0.005, "size": 900.0},
        "measured": {"ratio": ratio, "known": known, "seconds": ratio * 0.01, "dense_s": 0.01, "rounds": 9},
    }
    assert re.search(words, " ".join(limit_sentences(report)))
