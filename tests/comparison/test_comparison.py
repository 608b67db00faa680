"""Comparisons of agents: statistics against scipy, shared scores, a real one that goes on where it was stopped."""

import json
import shutil

import numpy as np
import pytest

from autoprune.budget import Budget
from autoprune.cli import main
from autoprune.comparison import SharedProblem, compare, draw, sentences, summarize, table
from autoprune.errors import UsageError
from autoprune.evaluation import Agents, Difference, Metric
from autoprune.finetuning import finetune_run
from autoprune.runs import RunFolder
from autoprune.support.answers import pack, unpack
from autoprune.support.jsonl import read_jsonl, to_line
from autoprune.support.strict_json import read_json, to_json, write_json_atomic
from autoprune.testing import ToyProblem

from ..page._runs import ACCURACY, make_run

AGENTS = ("auto", "random", "uniform")
ACCURACY_METRIC = Metric().to_dict()


def comparison(values, *, seeds=2, error=0.004, rules=("uniform",)):
    """What `summarize` gives, of mean accuracies by agent."""
    best = max(values, key=values.get)
    gaps = {a: Difference(values[best] - v, error if seeds > 1 else None, 40.0, len(values)) for a, v in values.items()}
    rows = [
        {
            "agent": agent,
            "rule": agent in rules,
            "accuracy": value,
            "merit": value,
            "spread": 0.001,
            "search_accuracy": value,
            "loss": 0.1,
            "behind": None if agent == best else gaps[agent].to_dict(),
            "policies": 5,
            "cost": 5.0,
            "images": 100.0,
        }
        for agent, value in values.items()
    ]
    return {"rows": rows, "best": best, "seeds": list(range(seeds)), "part": "report", "merit": ACCURACY_METRIC}


@pytest.mark.parametrize(
    ("values", "seeds", "first", "also"),
    [
        ((0.92, 0.90, 0.88), 2, "auto wins, 92.00", ["above uniform (p < 0.001: a difference)"]),
        ((0.92, 0.915, 0.88), 2, "auto has the highest accuracy", ["between auto and random.", "no difference shown)"]),
        ((0.92, 0.92, 0.92), 2, "auto has the highest accuracy", ["and random, uniform.", "0.00 ± ", "p = 1.000: no"]),
        ((0.90, 0.90, 0.92), 4, "A simple rule: uniform wins", ["searching did not pay"]),
        ((0.92, 0.90, 0.88), 1, "auto has the highest accuracy", ["give --seeds 4", "4.00 points above uniform."]),
    ],
)
def test_no_more_is_said_than_is_shown(values, seeds, first, also):
    found = comparison(dict(zip(AGENTS, values, strict=True)), seeds=seeds)
    said = " ".join(sentences(found))
    assert said.startswith(first)
    for part in also:
        assert part in said
    assert ("wins" in said) == all(row["behind"]["shown"] for row in found["rows"] if row["behind"])
    assert table(found).count("\n") == 4


def test_answers_by_image_of_all_seeds_are_compared_and_runs_without_them_more_widely(tmp_path):
    rng = np.random.default_rng(0)
    right = {
        (agent, seed): rng.random(500) < value
        for agent, value in (("auto", 0.9), ("uniform", 0.8), ("random", 0.87))
        for seed in range(3)
    }
    widths = []
    for kept in (True, False):
        runs = {}
        for (agent, seed), answers in right.items():
            accuracy = {**ACCURACY, agent: float(answers.mean())}
            path = make_run(tmp_path / f"{kept}-{agent}-{seed}", policies=2, agent=agent, accuracy=accuracy, images=500)
            if kept:
                report = read_json(path / "report.json")
                report["final"]["right"] = pack(answers)
                write_json_atomic(path / "report.json", report)
            runs[agent, seed] = RunFolder(path)
        found = summarize(runs, rules=("uniform",))
        behind = {row["agent"]: row["behind"] for row in found["rows"]}
        stacks = [np.stack([right[agent, seed] for seed in range(3)]) for agent in ("auto", "uniform", "random")]
        tested = Agents([s.mean(1) for s in stacks], stacks if kept else [None] * 3, 500)
        assert behind["auto"] is None
        assert behind["uniform"] == pytest.approx(tested.difference(0, 1).to_dict())
        assert behind["uniform"]["paired"] == kept
        assert ("independent" in sentences(found)[-1]) != kept
        widths.append(behind["uniform"]["half_width"])
        again = json.loads(to_json(found))
        assert sentences(again) == sentences(found)
        assert table(again) == table(found)
    assert widths[0] != widths[1]


def test_no_policy_is_scored_twice_and_all_are_kept(tmp_path):
    first = SharedProblem(ToyProblem(3), tmp_path / "scores.jsonl")
    counts = first.projector.project([0.5] * 3)
    score = first.score(counts)
    assert first.score(list(counts)) == score
    again = SharedProblem(ToyProblem(3), tmp_path / "scores.jsonl")
    assert again.score(counts).accuracy == score.accuracy
    assert again.score(counts).reward == score.reward
    assert len((tmp_path / "scores.jsonl").read_text().splitlines()) == 1


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"macs": 1}, "multiply-adds"),
        ({"params": 1}, "multiply-adds"),
        ({"counts": [1, 1]}, "it has 2 groups, not 3"),
        ({"counts": [10**6] * 3}, "cannot keep"),
        ({"counts": ["a", 1, 1]}, "cannot keep"),
        ({"counts": 3}, "not iterable"),
        ({"accuracy": "good"}, "'accuracy' is 'good'"),
        ({"share": 0}, "the share is"),
        ({"costs": None}, "the costs None"),
        ({}, "its policy stood before"),
    ],
)
def test_scores_that_are_not_of_this_problem_are_refused_though_their_checksums_are_right(tmp_path, change, says):
    path = tmp_path / "scores.jsonl"
    first = SharedProblem(ToyProblem(3), path)
    for place in (0, -1):
        first.score([levels[place] for levels in first.levels])
    lines = read_jsonl(path)
    path.write_text("".join(map(to_line, [lines[0], (lines[1] if change else lines[0]) | change])))
    with pytest.raises(
        UsageError, match=rf"Line 2 of the scores '.*scores.jsonl' is damaged \(.*{says}.*; remove the file"
    ):
        SharedProblem(ToyProblem(3), path)


def test_agents_are_compared_on_the_digits_and_not_twice(tmp_path):
    asked = {"budget": Budget(0.5), "episodes": 2}
    found = compare(asked, tmp_path, agents=["random", "uniform"])
    assert json.loads((tmp_path / "comparison.json").read_text())["best"] == found["best"]
    rows = {row["agent"]: row for row in found["rows"]}
    assert rows["random"]["policies"] == 2
    assert rows["uniform"]["policies"] == 1
    report = json.loads((tmp_path / "uniform-s0" / "report.json").read_text())
    assert rows["uniform"]["accuracy"] == report["final"]["accuracy"]
    for row in (report["dense"], report["final"], *report["rows"]):
        assert unpack(row["right"]).mean() == row["accuracy"]
    for row in rows.values():
        for curve in row["curves"]:
            assert (np.diff(curve["reward"]) >= 0).all()
            assert (np.diff(curve["cost"]) > 0).all()
    assert "random" in table(found)
    assert found["best"] in sentences(found)[0]
    if found["best"] == "uniform":
        assert "simple rule" in sentences(found)[0]
    scored = (tmp_path / "scores-s0.jsonl").read_text()
    before = (tmp_path / "random-s0" / "episodes.jsonl").read_text()
    assert compare(asked, tmp_path, agents=["random", "uniform"])["rows"] == found["rows"]
    assert (tmp_path / "scores-s0.jsonl").read_text() == scored
    assert (tmp_path / "random-s0" / "episodes.jsonl").read_text() == before
    draw(found, tmp_path / "curves.png")
    assert (tmp_path / "curves.png").stat().st_size > 5000
    with pytest.raises(UsageError, match="differ"):
        compare({**asked, "episodes": 3}, tmp_path, agents=["random", "uniform"])


def test_with_workers_a_comparison_is_the_same_and_no_policy_is_scored_twice(tmp_path):
    asked, agents = {"budget": Budget(0.5), "episodes": 3, "finish_steps": 0}, ["random", "evolution"]
    alone, together = (compare(asked, tmp_path / str(count), agents=agents, workers=count) for count in (1, 2))
    assert [row["accuracy"] for row in alone["rows"]] == [row["accuracy"] for row in together["rows"]]
    for agent in agents:
        one, other = (
            [
                (episode.agent, episode.counts, episode.score.reward, episode.reused)
                for episode in RunFolder(tmp_path / name / f"{agent}-s0").read_episodes()
            ]
            for name in ("1", "2")
        )
        assert sorted(one, key=lambda line: line[0]) == sorted(
            other, key=lambda line: line[0]
        )  # each agent's in its order
    scored = [
        [tuple(line["counts"]) for line in read_jsonl(tmp_path / name / "scores-s0.jsonl")] for name in ("1", "2")
    ]
    assert sorted(scored[0]) == sorted(set(scored[1])) == sorted(scored[1])


def test_networks_are_fine_tuned_as_alone_and_compared_again(tmp_path):
    asked, agents = {"budget": Budget(0.5), "episodes": 2, "finish_steps": 0}, ["random", "uniform"]
    recipe = {"epochs": 1, "distill": 0.0, "feature_weight": 0.0}
    found = compare(asked, tmp_path / "all", agents=agents, recipe=recipe)
    assert json.loads(to_json(found)) == read_json(tmp_path / "all" / "comparison.json")
    before = compare(asked, tmp_path / "all", agents=agents)
    assert before == {key: value for key, value in found.items() if key != "finetuned"}
    shutil.copytree(tmp_path / "all" / "uniform-s0", tmp_path / "alone")
    shutil.rmtree(tmp_path / "alone" / "finetune")
    alone = finetune_run(RunFolder(tmp_path / "alone"), recipe)
    tuned = {row["agent"]: row for row in found["finetuned"]["rows"]}
    assert tuned["uniform"]["merits"] == [alone["accuracy"]]
    best = found["finetuned"]["best"]
    assert tuned[best]["merit"] == max(row["merit"] for row in tuned.values())
    other = next(row for name, row in tuned.items() if name != best)
    assert other["behind"]["mean"] == pytest.approx(tuned[best]["merit"] - other["merit"])
    assert "fine-tuned" in table(found).splitlines()[0]
    assert "fine-tuned" not in table(before)
    said = " ".join(sentences(found))
    assert (
        f"After fine-tuning (plain, 1 epochs) {best} has the highest accuracy, {100 * tuned[best]['merit']:.2f}" in said
    )
    assert compare(asked, tmp_path / "all", agents=agents, recipe=recipe) == found


@pytest.mark.parametrize("goal", [{"max_drop": 3.0}, {"pareto": True, "minimize": "params"}])
def test_agents_are_compared_by_what_is_saved_within_a_drop_and_by_their_fronts(tmp_path, goal):
    asked, agents = {**goal, "episodes": 4, "finish_steps": 0}, ["random", "uniform"]
    found = compare(asked, tmp_path, agents=agents, seeds=[0, 1])
    reports = {agent: [RunFolder(tmp_path / f"{agent}-s{seed}").read_report() for seed in (0, 1)] for agent in agents}
    for row in found["rows"]:
        own = reports[row["agent"]]
        if "pareto" in goal:
            assert row["merits"] == [report["front"]["areas"][row["agent"]] for report in own]
        else:
            assert row["merits"] == [1 - report["final"]["macs"] / report["dense"]["macs"] for report in own]
            assert all(report["exported"] == row["agent"] for report in own)
            assert all([line["name"] for line in report["rows"]] == ["dense", row["agent"]] for report in own)
    best = max(found["rows"], key=lambda row: row["merit"])
    assert found["best"] == best["agent"]
    other = next(row for row in found["rows"] if row is not best)
    tested = Agents([row["merits"] for row in (best, other)], [None, None], 10**12)  # other images change none of it
    assert other["behind"]["p"] == pytest.approx(tested.difference(0, 1).p)
    name = "area below the front" if "pareto" in goal else "MACs saved"
    assert name in table(found).splitlines()[0]
    assert name in sentences(found)[0] or "wins" in sentences(found)[0]
    with pytest.raises(UsageError, match="different sizes do not compare after fine-tuning"):
        compare(asked, tmp_path, agents=agents, recipe={"epochs": 1})


def test_each_agent_has_its_own_options(tmp_path):
    asked, agents = {"budget": Budget(0.5), "episodes": 1, "finish_steps": 0}, ["evolution", "uniform"]
    compare(asked, tmp_path, agents=agents, agent_options={"evolution": {"population": 7}})
    recorded = {agent: RunFolder(tmp_path / f"{agent}-s0").read_config().agent_options for agent in agents}
    assert recorded == {"evolution": {"population": 7}, "uniform": {}}
    with pytest.raises(UsageError, match="'tpe', but the agents compared are evolution, uniform"):
        compare(asked, tmp_path, agents=agents, agent_options={"tpe": {}})


@pytest.mark.parametrize("pair", ["population=7", "tpe.population=7", "evolution.population"])
def test_an_option_says_whose_it_is(pair, tmp_path, capsys):
    command = ["compare", "--budget", "0.5", "--agents", "evolution,uniform", "--out", str(tmp_path / "out")]
    assert main([*command, "--agent-option", pair]) == 2
    assert "--agent-option is" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("agents", "budget", "word"),
    [
        (["auto"], Budget(0.5), "two"),
        (["auto", "auto"], Budget(0.5), "once"),
        (["auto", "tpee"], Budget(0.5), "tpe"),
    ],
)
def test_what_cannot_be_compared_is_told(tmp_path, agents, budget, word):
    with pytest.raises(UsageError, match=word):
        compare({"budget": budget}, tmp_path, agents=agents)
