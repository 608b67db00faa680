"""A reward may use whatever is documented of a score: whole searches, one per field, led by nothing else."""

from __future__ import annotations

import math
from dataclasses import fields
from typing import Any

import pytest
import torch
from torch import nn
from torch.utils.data import TensorDataset

import autoprune
from autoprune.budget import Budget
from autoprune.evaluation import Score

from .._sample import pick

LIMITS = Budget("macs=0.7,size=0.9,memory=0.97", "at-most")
FIELDS = [field.name for field in fields(Score) if field.name not in ("reward", "costs", "metric")]
KINDS = ["size", "memory"]


def part(count: int, seed: int) -> TensorDataset:
    generator = torch.Generator().manual_seed(seed)
    images = torch.randn(count, 2, 6, 6, generator=generator)
    return TensorDataset(images, torch.randint(3, (count,), generator=generator))


PARTS = {"calibration": part(40, 1), "evaluate": part(30, 2), "report": part(20, 3)}


def network() -> nn.Module:
    torch.manual_seed(0)
    features = [nn.Conv2d(2, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.Conv2d(8, 6, 3), nn.ReLU()]
    return nn.Sequential(*features, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(6, 3)).eval()


def of(score: Score, name: str) -> float:
    return score.of(name) if name in KINDS else float(getattr(score, name))


@pytest.mark.parametrize("evaluated", ["images", "function"])
@pytest.mark.parametrize("name", pick([*FIELDS, *KINDS], 2))
def test_a_search_is_led_by_any_field(name: str, evaluated: str) -> None:
    asked: list[Score] = []

    def reward(score: Score, dense: Score, budget: Budget) -> float:
        asked.append(score)
        values = of(score, name), of(dense, name) if asked[1:] else 0.0  # of the dense network itself, first of all
        unknown = [value for value in values if math.isnan(value)]
        assert not unknown or (evaluated == "function" and name in ("distance", "drop_se", "images"))
        return -sum(value for value in values if not math.isnan(value))

    def evaluate(model: nn.Module) -> dict[str, float]:
        with torch.no_grad():
            right = model(PARTS["evaluate"].tensors[0]).argmax(1) == PARTS["evaluate"].tensors[1]
        return {"accuracy": float(right.double().mean()), "loss": 1.0}

    parts: dict[str, Any] = PARTS if evaluated == "images" else {**PARTS, "evaluate": evaluate, "report": evaluate}
    options: dict[str, Any] = {"agent": "random", "episodes": 3, "finish_steps": 2, "reward": reward}
    found = autoprune.search(network(), torch.zeros(2, 2, 6, 6), budget=LIMITS, **parts, **options)
    assert len(asked) > 3
    assert all(score.accuracy <= 1.0 and score.macs > 0 and score.costs.keys() == set(KINDS) for score in asked)
    final = found.report["final"]
    if name in ("accuracy", "macs", "params"):
        own = final["search_accuracy"] if name == "accuracy" else final[name]
        dense = found.report["dense"]["search_accuracy" if name == "accuracy" else name]
        assert final["search_reward"] == pytest.approx(-(own + dense))
    assert math.isfinite(final["accuracy"])


def test_a_finished_network_knows_every_field_on_the_search_part_and_what_scores_say_on_the_report_part() -> None:
    problem = autoprune.make_problem(network(), torch.zeros(2, 2, 6, 6), budget=LIMITS, finish_steps=0, **PARTS)
    counts = problem.projector.project([0.5] * len(problem.decisions))
    finished = problem.finish(counts)
    assert finished.report is not None
    assert problem.dense_report is not None
    for score in (problem.dense, problem.score(counts), finished.search):
        assert all(math.isfinite(of(score, name)) for name in [*FIELDS, *KINDS, "reward"])
    for score in (problem.dense_report, finished.report):
        assert [name for name in [*FIELDS, *KINDS, "reward"] if math.isnan(of(score, name))] == ["images", "reward"]
