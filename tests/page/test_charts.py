"""The charts: axes hold what they show, curves are the search's, the network's picture adds up to the exact cost."""

from __future__ import annotations

import json
from itertools import accumulate
from pathlib import Path

import pytest
import torch
from torch import nn

from autoprune.graph import build_graph
from autoprune.inspection import Network, describe
from autoprune.page import read_run
from autoprune.page._axes import floor_of, make_axis, ticks
from autoprune.page._policy import channels, costs
from autoprune.page._search import against_size, learning_curve
from autoprune.page._svg_chart import axes_of
from autoprune.support.strict_json import read_json, write_json_atomic

from ._runs import make_run


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [(0, 1, (0, 0.2, 0.4, 0.6, 0.8, 1)), (71, 93, (75, 80, 85, 90)), (0, 0.004, (0, 0.001, 0.002, 0.003, 0.004))],
)
def test_ticks_are_round(low: float, high: float, expected: tuple[float, ...]) -> None:
    assert ticks(low, high) == pytest.approx(expected)


def test_ticks_of_whole_numbers_are_whole() -> None:
    assert ticks(0, 2.1, whole=True) == (0, 1, 2)


def test_axis_maps_linearly_and_clips() -> None:
    axis = make_axis([0, 10], 100, 0, zero=True)
    assert axis.at(axis.low) == 100
    assert axis.at(axis.high) == 0
    assert axis.at((axis.low + axis.high) / 2) == pytest.approx(50)
    assert axis.at(1e9) == 0
    assert make_axis([5.0, float("nan")], 0, 1).low < 5 < make_axis([5.0], 0, 1).high
    assert make_axis([], 0, 1).low <= 0 < 1 <= make_axis([], 0, 1).high
    assert make_axis([0, 0.0021], 0, 1, zero=True).label(0.0005) == "0.0005"
    assert make_axis([-2000, 0], 0, 1).label(-1000) == "−1,000"


def test_a_few_very_bad_values_do_not_flatten_the_rest() -> None:
    good = [0.8 + 0.001 * n for n in range(100)]
    assert floor_of([0.1, *good], keep=[0.85]) > 0.7
    assert floor_of(good, keep=[0.5]) == 0.5
    assert floor_of(good, keep=[]) == 0.8


def test_learning_curve_is_the_running_maximum(tmp_path: Path) -> None:
    folder = make_run(tmp_path / "run", policies=30)
    lines = [json.loads(line) for line in (folder / "episodes.jsonl").read_text(encoding="utf-8").splitlines()]
    own = [100 * line["accuracy"] for line in lines if line["agent"] == "tpe"]
    best = list(accumulate(own, max))
    for cost in (False, True):
        chart = learning_curve(read_run(folder), "", cost=cost)
        curve = next(series for series in chart.series if series.name == "tpe, best so far")
        for point in curve.points:
            number = round(point.x / 1.25) if cost else round(point.x)
            assert point.y == pytest.approx(best[number - 1])
        assert curve.points[-1].x == pytest.approx(30 * 1.25 if cost else 30)
        x, y = axes_of(chart)
        assert all(x.low <= p.x <= x.high and y.low <= p.y <= y.high for p in curve.points)
        assert {level.name.split(",")[0] for level in chart.levels} == {"dense", "uniform", "shallow", "deep"}


def test_every_policy_scored_is_on_the_chart_of_sizes(tmp_path: Path) -> None:
    run = read_run(make_run(tmp_path / "run", policies=20))
    chart = against_size(run, "", params=False)
    shown = sorted((p.x, p.y) for s in chart.series if s.faint for p in s.points)
    assert shown == sorted((e.score.macs / 1e6, 100 * e.score.accuracy) for e in run.episodes)


class Pair(nn.Module):
    """Two convolutions and an addition: 5 channels inside, 3 that cross the join."""

    def __init__(self) -> None:
        super().__init__()
        self.one = nn.Conv2d(3, 5, 3, padding=1)
        self.two = nn.Conv2d(5, 3, 3, padding=1)
        self.head = nn.Linear(3, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.two(self.one(x).relu()) + x
        return self.head(y.mean((2, 3)))


def test_network_has_the_exact_costs_of_a_policy() -> None:
    network = describe(build_graph(Pair().eval(), torch.zeros(2, 3, 8, 8)))
    assert [stage.name for stage in network.stages] == ["one", "two", "head"]
    ratios = {"one": (2, 5)}
    assert [stage.kept(ratios) for stage in network.stages] == [2, 3, 2]
    assert [stage.kept_macs(ratios) for stage in network.stages] == [64 * 9 * 3 * 2, 64 * 9 * 2 * 3, 3 * 2]
    assert [stage.macs for stage in network.stages] == [64 * 9 * 3 * 5, 64 * 9 * 5 * 3, 3 * 2]
    assert Network.from_dict(json.loads(json.dumps(network.to_dict()))) == network


def test_picture_of_the_network_needs_costs_that_add_up(tmp_path: Path) -> None:
    network = describe(build_graph(Pair().eval(), torch.zeros(2, 3, 8, 8)))
    folder = make_run(tmp_path / "run", sizes={"one": 5})
    write_json_atomic(folder / "network.json", network.to_dict())
    report = read_json(folder / "report.json")
    kept = report["final"]["counts"]["one"]
    run = read_run(folder)
    assert costs(run, "") is None  # the made-up 499 multiply-adds are not this network's
    picture = channels(run, "")
    assert picture is not None
    assert [(bar.name, bar.before, bar.after) for bar in picture.bars] == [
        ("one", 5, kept),
        ("two", 3, 3),
        ("head", 2, 2),
    ]
    right = 64 * 9 * 6 * kept + 6
    for row in (report["final"], next(row for row in report["rows"] if row["name"] == "tpe")):
        row["macs"] = right
    write_json_atomic(folder / "report.json", report)
    exact = costs(read_run(folder), "")
    assert exact is not None
    assert sum(bar.after for bar in exact.bars) * 1e6 == pytest.approx(right)
