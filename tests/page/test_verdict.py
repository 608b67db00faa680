from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from autoprune.errors import UsageError
from autoprune.page import compare, read_run, verdict
from autoprune.page._compare import _lead
from autoprune.page._headline import lead
from autoprune.report import Row
from autoprune.support.answers import pack
from autoprune.support.strict_json import read_json, write_json_atomic

from ._runs import ACCURACY, make_run


@pytest.mark.parametrize(
    ("agent", "rule", "outcome", "said"),
    [
        (0.900, 0.800, "for", "beats the best simple rule, shallow, by 10.00"),
        (0.805, 0.800, "open", "is ahead of the best simple rule, shallow"),
        (0.800, 0.800, "open", "are level"),
        (0.795, 0.800, "open", "A simple rule, shallow"),
        (0.700, 0.800, "against", "A simple rule wins: shallow"),
    ],
)
def test_verdict(tmp_path: Path, agent: float, rule: float, outcome: str, said: str) -> None:
    accuracy = {**ACCURACY, "tpe": agent, "shallow": rule, "uniform": rule - 0.1}
    found, sentences = verdict(read_run(make_run(tmp_path / "run", accuracy=accuracy, images=1000)))
    assert found == outcome
    assert said in sentences[0]
    assert any("as of independent images" in sentence for sentence in sentences)


def answered(path: Path, wrong: dict[str, int], images: int = 1000) -> Path:
    """A run whose networks got right all images but the first so many."""
    accuracy = {**dict.fromkeys(ACCURACY, 0.5), **{name: 1 - count / images for name, count in wrong.items()}}
    run = make_run(path, accuracy=accuracy, images=images)
    report = read_json(run / "report.json")
    for row in (*report["rows"], report["final"], report["dense"]):
        right = np.arange(images) >= round((1 - row["accuracy"]) * images)
        row |= {"right": pack(right), "accuracy": float(right.mean())}
    write_json_atomic(run / "report.json", report)
    return run


def test_the_verdict_changes_exactly_where_the_difference_by_image_is_more_than_chance(tmp_path: Path) -> None:
    """Five pruned networks: the range of five normal numbers is above 3.858 in one of twenty cases (Pearson and Hartley)."""
    needed = 3.858 / np.sqrt(2)
    outcomes = {}
    for ahead in (6, 7, 8, 9, 10, 12):
        share = ahead / 1000
        errors = share / np.sqrt(share * (1 - share) / 999 + 2 / 1000**2)
        run = read_run(answered(tmp_path / str(ahead), {"tpe": 10, "shallow": 10 + ahead, "uniform": 300}))
        outcomes[ahead], said = verdict(run)
        assert outcomes[ahead] == ("for" if errors > needed else "open"), ahead
        assert any("image by image" in sentence for sentence in said)
        back = read_run(answered(tmp_path / f"-{ahead}", {"shallow": 10, "tpe": 10 + ahead, "uniform": 300}))
        assert verdict(back)[0] == ("against" if errors > needed else "open")
    assert set(outcomes.values()) == {"for", "open"}


def test_the_error_of_a_difference_without_answers_is_that_of_independent_measurements(tmp_path: Path) -> None:
    run = read_run(make_run(tmp_path / "run", images=400))
    final, dense = run.final, run.dense
    assert final is not None
    assert dense is not None
    variance = sum(p * (1 - p) / 400 for p in (ACCURACY["tpe"], ACCURACY["dense"]))
    found = compare([final, dense], 0, 1)
    assert found.error == pytest.approx(np.sqrt(variance), rel=0.02)
    assert found.half_width == pytest.approx(stats.norm.ppf(0.975) * np.sqrt(variance), rel=0.02)
    assert found.value == pytest.approx(ACCURACY["tpe"] - ACCURACY["dense"])


def test_runs_are_compared_by_image(tmp_path: Path) -> None:
    runs = [read_run(answered(tmp_path / str(wrong), {"tpe": wrong}), str(wrong)) for wrong in (10, 16, 11)]
    assert "11 is 0.10\xa0±\xa0" in _lead(runs)
    assert "no difference is shown" in _lead(runs)
    assert "more than chance" in _lead([runs[0], read_run(answered(tmp_path / "30", {"tpe": 30}))])


def test_answers_that_do_not_fit_the_accuracy_are_refused(tmp_path: Path) -> None:
    run = answered(tmp_path / "run", {"tpe": 10})
    report = read_json(run / "report.json")
    assert Row.from_dict(report["final"]).answers is not None
    report["rows"][-1]["accuracy"] = 0.9
    write_json_atomic(run / "report.json", report)
    with pytest.raises(UsageError, match="damaged"):
        read_run(run)


def test_without_a_number_of_images_nothing_is_sure(tmp_path: Path) -> None:
    accuracy = {**ACCURACY, "tpe": 0.99}
    found, sentences = verdict(read_run(make_run(tmp_path / "run", accuracy=accuracy, images=None)))
    assert found == "open"
    assert "nothing is known of chance" in sentences[0]


def test_lead_has_the_numbers(tmp_path: Path) -> None:
    text = lead(read_run(make_run(tmp_path / "run")))
    for part in ("49.9 % of its multiply-adds", "57.0 % of its parameters", "88.15\xa0±\xa00.59", "92.01\xa0±\xa00.50"):
        assert part in text
