"""Comparisons of agents: statistics against scipy, shared scores, a real one that goes on where it was stopped."""

import json

import numpy as np
import pytest
from scipy import stats

from autoprune.budget import Budget
from autoprune.comparison import SharedProblem, compare
from autoprune.comparison_table import difference, draw, sentences, table
from autoprune.errors import UsageError
from autoprune.testing import ToyProblem


def test_differences_are_those_of_the_paired_test():
    rng = np.random.default_rng(0)
    ours, theirs = rng.normal(0.9, 0.02, 5).tolist(), rng.normal(0.88, 0.02, 5).tolist()
    expected = stats.ttest_rel(ours, theirs)
    low, high = expected.confidence_interval(0.95)
    gap = difference(ours, theirs)
    assert gap["p"] == pytest.approx(expected.pvalue)
    assert gap["mean"] - gap["half_width"] == pytest.approx(low)
    assert gap["mean"] + gap["half_width"] == pytest.approx(high)
    assert difference([0.5], [0.25]) == {"mean": 0.25, "half_width": None, "p": None}


def test_no_policy_is_scored_twice_and_all_are_kept(tmp_path):
    first = SharedProblem(ToyProblem(3), tmp_path / "scores.jsonl")
    counts = first.projector.project([0.5] * 3)
    score = first.score(counts)
    assert first.score(list(counts)) == score
    again = SharedProblem(ToyProblem(3), tmp_path / "scores.jsonl")
    assert again.score(counts).accuracy == score.accuracy
    assert again.score(counts).reward == score.reward
    assert len((tmp_path / "scores.jsonl").read_text().splitlines()) == 1


def test_agents_are_compared_on_the_digits_and_not_twice(tmp_path):
    asked = {"budget": Budget(0.5), "episodes": 2}
    found = compare(asked, tmp_path, agents=["random", "uniform"])
    assert json.loads((tmp_path / "comparison.json").read_text())["best"] == found["best"]
    rows = {row["agent"]: row for row in found["rows"]}
    assert rows["random"]["policies"] == 2
    assert rows["uniform"]["policies"] == 1
    report = json.loads((tmp_path / "uniform-s0" / "report.json").read_text())
    assert rows["uniform"]["accuracy"] == report["final"]["accuracy"]
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


@pytest.mark.parametrize(
    ("agents", "budget", "word"),
    [(["auto"], Budget(0.5), "two"), (["auto", "auto"], Budget(0.5), "once"), (["auto", "tpee"], Budget(0.5), "tpe")],
)
def test_what_cannot_be_compared_is_told(tmp_path, agents, budget, word):
    with pytest.raises(UsageError, match=word):
        compare({"budget": budget}, tmp_path, agents=agents)
