from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest

from autoprune.agents import Agent, Counts
from autoprune.budget import Budget
from autoprune.comparison import curve
from autoprune.errors import AutopruneError
from autoprune.evaluation import Score
from autoprune.runs import RunFolder, distinct
from autoprune.support import files
from autoprune.support.strict_json import read_json
from autoprune.support.tensors import load_safetensors
from autoprune.surgery import Policy
from autoprune.testing import ToyProblem

from .._driven import ALL, EPISODES, Problem, comparable, run


def test_rows_policies_and_files(tmp_path: Path) -> None:
    problem = Problem()
    report = run("random", tmp_path / "run", problem=problem)
    episodes = RunFolder(tmp_path / "run").read_episodes()
    own = [e for e in episodes if e.agent == "random"]
    assert [e.episode for e in own] == list(range(EPISODES))
    assert [(e["name"], e["policies_scored"]) for e in report["scored"]] == [
        ("uniform", 1),
        ("shallow", 1),
        ("deep", 1),
        ("random", len(distinct(own))),
    ]
    tops = {
        name: max((e for e in episodes if e.feasible and e.agent == name), key=lambda e: e.score.reward)
        for name in ("uniform", "shallow", "deep", "random")
    }
    assert {e["name"]: e["accuracy"] for e in report["scored"]} == {n: top.score.accuracy for n, top in tops.items()}
    best = max((tops[name] for name in ("random", "uniform", "shallow", "deep")), key=lambda e: e.score.reward)
    rule = max((tops[name] for name in ("uniform", "shallow", "deep")), key=lambda e: e.score.reward)
    names = [
        name for name, top in tops.items() if top.counts in (tops["random"].counts, rule.counts)
    ]  # rules may agree
    assert [row["name"] for row in report["rows"]] == ["dense", *names]
    assert {tuple(e.counts.values()) for e in (tops["random"], rule)} <= set(problem.finished)
    assert len(problem.finished) == 2
    assert report["exported"] == best.agent
    assert report["final"]["counts"] == best.counts
    assert report["final"]["search_accuracy"] == pytest.approx(best.score.accuracy + 0.01)
    assert report["final"]["accuracy"] == pytest.approx(best.score.accuracy - 0.01)
    assert report["final"]["accuracy_se"] == pytest.approx(
        (report["final"]["accuracy"] * (1 - report["final"]["accuracy"]) / 100) ** 0.5
    )
    assert report["dense"]["accuracy"] == 0.94
    assert report["notes"] == ["One thing to know."]
    assert report["policies_scored"] == len([e for e in distinct(own) if best.agent == "random"]) or 1
    assert report["passes"] == {"preparing": 2.0, "scoring": float(len(distinct(episodes))), "finishing": 2.0}
    assert report["score_cost"] == 1.0
    policy = Policy.load(tmp_path / "run" / "policy.json")
    assert policy.counts() == tuple(best.counts.values())
    assert policy.achieved["macs"] == problem.cost.macs(policy.counts())
    assert problem.projector.fits(policy.counts())
    assert load_safetensors(tmp_path / "run" / "model.safetensors")["weight"].shape == (sum(policy.counts()), 2)
    assert read_json(tmp_path / "run" / "report.json") == report


def test_random_gets_as_many_policies_as_the_agent(tmp_path: Path) -> None:
    report = run("tpe", tmp_path, problem=Problem(steps=12), episodes=7, baselines=ALL)
    rows = {row["name"]: row["policies_scored"] for row in report["scored"]}
    assert rows == {"uniform": 1, "shallow": 1, "deep": 1, "random": 7, "tpe": 7}


class Wasteful(Agent):
    """Proposes the smallest network first, which the reward likes best, then such as use up the budget."""

    def ask(self, episode: int) -> Counts | None:
        if episode == 0:
            return tuple(levels[0] for levels in self.problem.levels)
        ratios = np.random.default_rng(episode).random(len(self.problem.levels))
        return tuple(self.problem.projector.project(ratios))


@pytest.mark.parametrize(("mode", "wasted"), [("exact", False), ("at-most", True)])
def test_what_leaves_some_of_a_budget_that_is_to_be_used_up_is_no_result(
    mode: Literal["exact", "at-most"], wasted: bool, tmp_path: Path
) -> None:
    class Small(Problem):
        """A problem whose smallest policies have the best rewards."""

        def score(self, counts: Sequence[int]) -> Score:
            found = super().score(counts)
            return replace(found, reward=-float(found.macs))

    problem = Small()
    problem.budget = Budget(0.5, mode)
    problem.projector = ToyProblem(4, budget=0.5, mode=mode, steps=4).projector
    report = run(Wasteful, tmp_path, problem=problem, baselines=())
    smallest = [levels[0] for levels in problem.levels]
    assert (list(report["final"]["counts"].values()) == smallest) is wasted
    raised = [
        [*counts[:place], larger, *counts[place + 1 :]]
        for counts in [list(report["final"]["counts"].values())]
        for place, levels in enumerate(problem.levels)
        for larger in levels
        if larger > counts[place]
    ]
    assert any(problem.projector.fits(counts) for counts in raised) is wasted


@pytest.mark.parametrize("agent", ["random", "tpe", "cmaes"])
def test_equal_policies_are_scored_and_counted_once(agent: str, tmp_path: Path) -> None:
    problem = Problem(budget=1.0)  # only one policy uses all of it
    report = run(agent, tmp_path, problem=problem, baselines=ALL)
    assert problem.scored == 1
    assert {row["name"]: row["policies_scored"] for row in report["scored"]} == dict.fromkeys(
        ("uniform", "shallow", "deep", "random", agent), 1
    )
    assert report["policies_scored_in_all"] == 1
    assert report["total_cost"] == 1.0
    proposed = EPISODES if agent == "cmaes" else 1  # which has to be told of what it proposes
    assert [e.reused for e in RunFolder(tmp_path).read_episodes() if e.agent == agent] == [False] + [True] * (
        proposed - 1
    )


@pytest.mark.parametrize("agent", ["random", "tpe", "uniform", "sensitivity"])
def test_stopped_before_any_write_and_continued_gives_the_same_report(
    agent: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    undisturbed = Problem()
    whole = run(agent, tmp_path / "whole", problem=undisturbed)
    finished = undisturbed.finished
    kept = sorted(path.name for path in (tmp_path / "whole" / "finished").iterdir())
    lines = [replace(e, elapsed_s=0) for e in RunFolder(tmp_path / "whole").read_episodes()]
    sync, writes = files.os.fsync, 0

    class Killed(BaseException):
        pass

    for stop in range(1, 1000):
        writes = 0

        def stopping(handle: int, *, last: int = stop) -> None:
            nonlocal writes
            writes += 1
            if writes == last:
                raise Killed
            sync(handle)

        path = tmp_path / str(stop)
        with monkeypatch.context() as patch:
            patch.setattr(files.os, "fsync", stopping)
            try:
                run(agent, path)
            except Killed:
                pass
            else:
                break
        problem = Problem()
        before = RunFolder(path).read_episodes()
        networks = len(list((path / "finished").glob("*.safetensors")))
        assert comparable(run(agent, path, problem=problem)) == comparable(whole)
        after = RunFolder(path).read_episodes()
        assert [replace(e, elapsed_s=0) for e in after] == lines
        assert problem.scored == len(distinct(after)) - len(distinct(before))
        assert not networks or len(set(problem.finished)) <= len(set(finished)) - networks
        assert sorted(path.name for path in (path / "finished").iterdir()) == kept
    assert stop > len(lines)


class Seen(Problem):
    """A problem that shows how much errors matter, for 12.5 images; a score takes 100."""

    def errors(self) -> list[np.ndarray[Any, Any]]:
        return [(1 - np.arange(group.size + 1) / group.size) ** 2 for group in self.decisions]

    def sensitivities(self) -> tuple[np.ndarray[Any, Any], float]:
        return np.ones(len(self.decisions)), 12.5

    def score(self, counts: Sequence[int], /) -> Score:
        return replace(super().score(counts), images=100.0)


def test_what_an_agent_looks_at_beside_its_scores_is_part_of_its_cost(tmp_path: Path) -> None:
    report = run("auto", tmp_path, problem=Seen(), finish_policies=5)
    rows = {row["name"]: row for row in report["rows"]}
    assert rows["auto"]["probe_images"] == 12.5
    assert rows["auto"]["images"] == 7.0 + 12.5 + 100.0 * EPISODES
    assert rows["deep"]["images"] == 7.0 + 100.0
    folder = RunFolder(tmp_path)
    assert curve(folder, report, "auto")["images"] == [12.5 + 100.0 * n for n in range(1, EPISODES + 1)]
    assert curve(folder, report, "uniform")["images"] == [100.0]


def test_ddpg_stopped_and_continued_finishes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Killed(BaseException):
        pass

    append = RunFolder.append

    def stopping(self: RunFolder, episode: Any) -> None:
        append(self, episode)
        if episode.agent == "ddpg" and episode.episode == 3:
            raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(RunFolder, "append", stopping)
        with pytest.raises(Killed):
            run("ddpg", tmp_path)
    assert len(RunFolder(tmp_path).read_episodes()) == 3 + 4
    problem = Problem()
    report = run("ddpg", tmp_path, problem=problem)
    own = [e for e in RunFolder(tmp_path).read_episodes() if e.agent == "ddpg"]
    assert [e.episode for e in own] == list(range(EPISODES))
    scored = next(found for found in report["scored"] if found["name"] == "ddpg")
    assert scored["policies_scored"] == len({tuple(e.counts.values()) for e in own})


def test_an_agent_without_a_policy_within_the_budget_is_an_error(tmp_path: Path) -> None:
    problem = Problem()
    problem.projector.budget_macs = 0
    with pytest.raises(AutopruneError, match=r"'random' proposed no policy within the budget \(1 scored\);"):
        run("random", tmp_path, problem=problem)
