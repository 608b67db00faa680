from __future__ import annotations

import math
from pathlib import Path

import pytest

from autoprune.page import compare, read_run, verdict
from autoprune.page._headline import lead

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
    assert any("paired test" in sentence for sentence in sentences)


def test_the_error_of_a_difference_is_that_of_independent_measurements(tmp_path: Path) -> None:
    run = read_run(make_run(tmp_path / "run", images=400))
    final, dense = run.final, run.dense
    assert final is not None
    assert dense is not None
    variance = sum(p * (1 - p) / 400 for p in (ACCURACY["tpe"], ACCURACY["dense"]))
    found = compare(final, dense)
    assert found.error == pytest.approx(math.sqrt(variance))
    assert found.value == pytest.approx(ACCURACY["tpe"] - ACCURACY["dense"])


def test_without_a_number_of_images_nothing_is_sure(tmp_path: Path) -> None:
    accuracy = {**ACCURACY, "tpe": 0.99}
    found, sentences = verdict(read_run(make_run(tmp_path / "run", accuracy=accuracy, images=None)))
    assert found == "open"
    assert "the noise is not either" in sentences[0]


def test_lead_has_the_numbers(tmp_path: Path) -> None:
    text = lead(read_run(make_run(tmp_path / "run")))
    for part in ("49.9 % of its multiply-adds", "57.0 % of its parameters", "88.15\xa0±\xa00.59", "92.01\xa0±\xa00.50"):
        assert part in text
