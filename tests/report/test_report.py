from __future__ import annotations

import math
from typing import Any

import pytest

from autoprune.budget import Budget
from autoprune.evaluation import Score, standard_error
from autoprune.report import Row, build_report, make_row, scored_row, sentences, table
from autoprune.runs import Episode, RunConfig

CONFIG = RunConfig(
    model="net", model_fingerprint="m", data="data", data_fingerprint="d", budget=Budget(0.5), agent="tpe", seed=4
)


def episode(agent: str, number: int, cost: float, *, reused: bool = False) -> Episode:
    score = Score(0.9, 0.3, 500, 50, reward=-0.1, seconds=cost / 10, cost=0.0 if reused else cost)
    return Episode(agent, number, {"a": 5 + number}, score, feasible=True, reused=reused, elapsed_s=0.0)


EPISODES = [episode("tpe", n, cost) for n, cost in enumerate([1.0, 2.0, 9.0])] + [
    episode("uniform", 0, 4.0, reused=True)
]


def row(name: str, accuracy: float, *, macs: int = 500, reward: float | None = None) -> Row:
    search = Score(accuracy, 0.3, macs, 50, reward=accuracy - 1 if reward is None else reward)
    report = Score(accuracy - 0.05, 0.4, macs, 50)
    own = [e for e in EPISODES if e.agent == name]
    return make_row(name, search=search, report=report, images=400, episodes=own, counts={"a": 5})


def report(*rows: Row, held_out: bool = True, **more: Any) -> dict[str, object]:
    return build_report(CONFIG, rows, episodes=EPISODES, held_out=held_out, wall_s=12.3, version="1", **more)


def test_standard_error_is_that_of_a_share() -> None:
    images = [1] * 30 + [0] * 70
    mean = sum(images) / 100
    assert standard_error(0.3, 100) == pytest.approx(math.sqrt(sum((x - mean) ** 2 for x in images) / 100 / 100))
    assert standard_error(0.3, None) is None


def test_row_shows_the_report_part_and_the_median_cost_of_what_was_really_scored() -> None:
    made = row("tpe", 0.9)
    assert (made.accuracy, made.search_accuracy, made.loss) == (pytest.approx(0.85), 0.9, 0.4)
    assert made.score_cost == 2.0
    assert made.policies_scored == 3
    assert row("uniform", 0.9).score_cost is None  # all of it is of equal policies before
    assert Row.from_dict(made.to_dict()) == made


def test_without_a_report_part_the_search_part_is_shown() -> None:
    search = Score(0.9, math.inf, 500, 50)
    made = make_row("tpe", search=search, report=None, images=None, episodes=(), counts={})
    assert (made.accuracy, made.accuracy_se, made.loss, made.search_reward) == (0.9, None, None, None)


def test_report_has_every_field() -> None:
    rows = (row("dense", 0.95, macs=1000), row("uniform", 0.8), row("tpe", 0.9))
    made = report(*rows)
    assert made["budget"] == {"limits": [{"kind": "macs", "value": 0.5, "unit": "ratio"}], "mode": "exact"}
    assert (made["agent"], made["seed"], made["policies_scored"], made["score_cost"]) == ("tpe", 4, 3, 2.0)
    assert (made["total_cost"], made["policies_scored_in_all"], made["wall_s"]) == (12.0, 3, 12.3)
    assert made["rows"] == [r.to_dict() for r in rows]
    assert (made["dense"], made["final"], made["macs_ratio"]) == (rows[0].to_dict(), rows[2].to_dict(), 0.5)


def test_table_is_aligned() -> None:
    lines = table(report(row("dense", 0.95, macs=1000), row("uniform", 0.8), row("tpe", 0.9))).splitlines()
    assert [line.split()[0] for line in lines[2:]] == ["dense", "uniform", "tpe"]
    assert lines[4].startswith("tpe best *")
    assert lines[4].split()[3:5] == ["500", "0.500"]
    ends = {
        line.index(word) + len(word)
        for line, word in zip((lines[0], *lines[2:]), ("MACs", "1,000", "500", "500"), strict=True)
    }
    assert len(ends) == 1
    assert "85.00 ± 1.79" in lines[4]


def test_what_was_scored_only_has_a_line_and_the_way_to_finish_it() -> None:
    scored = [scored_row(name, EPISODES[at], [EPISODES[at]]) for name, at in (("uniform", 3), ("tpe", 0))]
    made = report(row("dense", 0.95, macs=1000), row("tpe", 0.9), scored=scored)
    lines = table(made).splitlines()
    assert [line.split()[0] for line in lines[2:]] == ["dense", "uniform", "tpe"]
    assert lines[3].split()[1:9] == ["500", "0.500", "50", "1.000", "90.00", "-", "-", "-"]
    assert lines[4].split()[7:9] == ["90.00", "90.00"]
    said = " ".join(sentences(made))
    assert "uniform is not among the best; --row uniform finishes it" in said
    assert "did better" not in said


def test_a_rule_that_wins_is_named_with_the_way_to_its_network() -> None:
    dense = row("dense", 0.95, macs=1000)
    said = " ".join(sentences(report(dense, row("uniform", 0.92), row("tpe", 0.9))))
    assert "uniform did better than tpe on the search part (92.00 against 90.00)" in said
    assert "--row uniform" in said
    assert "did better" not in " ".join(sentences(report(dense, row("uniform", 0.9), row("tpe", 0.9))))
    result = report(dense, row("uniform", 0.92), row("tpe", 0.9), exported="uniform")
    assert "uniform did better than tpe on the search part (92.00 against 90.00), so its" in " ".join(sentences(result))
    by_reward = report(dense, row("uniform", 0.92, reward=-3.0), row("tpe", 0.9, reward=-1.0))
    assert "did better" not in " ".join(sentences(by_reward))
    by_reward = report(dense, row("uniform", 0.88, reward=-0.5), row("tpe", 0.9, reward=-1.0)) | {"reward": "my:fn"}
    assert "uniform did better than tpe on the search part (reward -0.5 against -1)" in " ".join(sentences(by_reward))


def test_what_speaks_against_the_numbers_is_said() -> None:
    said = sentences(report(row("dense", 0.95, macs=1000), row("tpe", 0.9), held_out=False))
    assert any("flatter" in sentence for sentence in said)
