"""Costs that are measured: the fit, what is remembered, and their units in budgets."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from autoprune.budget import Budget, Limit, amount, noun
from autoprune.cost import CostModel, MeasuredCost, costs, counted_macs, measured
from autoprune.errors import AutopruneError, UsageError
from autoprune.graph import Group, build_graph
from autoprune.groups import allowed_counts
from autoprune.problem import decide


def network() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(3, 24, 3, padding=1, bias=False), nn.ReLU(), nn.Conv2d(24, 16, 3), nn.ReLU(), nn.Conv2d(16, 5, 1)
    ).eval()


@pytest.fixture
def cost() -> Iterator[Callable[..., tuple[MeasuredCost, CostModel, list[Group]]]]:
    """Register a function as a measured cost and make it for the network above."""

    def make(function: Callable[[nn.Module], float], path: Path | None = None, unit: str = "J") -> Any:
        costs._items.pop("meter", None)
        costs.register("meter")(measured(unit=unit, noun="joules")(function))
        model = network()
        graph = build_graph(model, torch.randn(2, 3, 8, 8))
        groups = [group for group in graph.groups if group.reason is None]
        form = CostModel(graph, groups)
        levels = [allowed_counts(group.size, min_keep=0.1, round_to=1) for group in groups]
        return MeasuredCost("meter", model, graph, groups, levels, form, path=path), form, groups

    yield make
    costs._items.pop("meter", None)


def joules(model: nn.Module) -> float:
    """A law that a meter could have: a start, so much a multiply-add, so much a weight."""
    macs = counted_macs(model, torch.randn(1, 3, 8, 8))
    return 0.5 + 3e-6 * macs + 2e-5 * sum(weight.numel() for weight in model.parameters())


def test_a_law_of_macs_and_parameters_is_found(cost: Any) -> None:
    found, form, groups = cost(joules)
    for counts in ([24, 16], [3, 2], [11, 7], [24, 2]):
        expected = 0.5 + 3e-6 * form.macs(counts) + 2e-5 * form.params(counts)
        assert found(counts) == pytest.approx(expected, rel=1e-6)
    assert found.note == "The cost 'meter' is predicted from 8 networks that were measured, to about 0.0 %."
    assert [group.size for group in groups] == [24, 16]


def test_noise_is_averaged_and_no_count_makes_it_cheaper(cost: Any) -> None:
    rng = np.random.default_rng(0)
    found, form, _ = cost(lambda model: joules(model) * rng.lognormal(0.0, 0.05))
    every = np.array([[a, b] for a in range(1, 25) for b in range(1, 17)])
    values = found.many(every).reshape(24, 16)
    assert (np.diff(values, axis=0) >= 0).all()
    assert (np.diff(values, axis=1) >= 0).all()
    expected = 0.5 + 3e-6 * form.macs_form.many(every) + 2e-5 * form.params_form.many(every)
    assert np.abs(values.ravel() / expected - 1).max() < 0.15
    assert found([5, 5]) == found([5, 5])


def test_what_was_measured_is_not_measured_again(cost: Any, tmp_path: Path) -> None:
    rng, calls, path = np.random.default_rng(0), [], tmp_path / "costs.json"

    def noisy(model: nn.Module) -> float:
        calls.append(model)
        return joules(model) * rng.lognormal(0.0, 0.2)

    first, second = cost(noisy, path)[0], cost(noisy, path)[0]
    assert len(calls) == 3 * 8
    assert first([7, 9]) == second([7, 9])
    assert first.note == second.note
    content = json.loads(path.read_text())
    path.write_text(json.dumps(content).replace('"value":', '"worth":'))
    with pytest.raises(AutopruneError, match=r"costs\.json"):
        cost(noisy, path)


def test_a_function_that_fails_says_so(cost: Any) -> None:
    with pytest.raises(UsageError, match=r"^The cost 'meter' returned nan for .* it must be a number above 0\.$"):
        cost(lambda model: float("nan"))
    with pytest.raises(UsageError, match=r"^The cost 'meter' raised OSError: no meter; it must return a number"):
        cost(lambda model: (_ for _ in ()).throw(OSError("no meter")))


def test_its_unit_is_that_of_limits_and_tables(cost: Any) -> None:
    cost(joules)
    assert Limit.parse("meter", "250mJ") == Limit("meter", 0.25, "absolute")
    assert Limit.parse("meter", "0.5") == Limit("meter", 0.5)
    limit = Limit.parse("meter", "1.5J")
    assert Limit.parse("meter", str(limit).partition("=")[2]) == limit
    assert [amount("meter", value) for value in (2500.0, 1.5, 0.0023, 4e-6, 5e-10)] == [
        "2.5 kJ",
        "1.5 J",
        "2.3 mJ",
        "4 µJ",
        "0.5 nJ",
    ]
    assert noun("meter") == "joules"
    with pytest.raises(UsageError, match=r"^The budget of joules is '3W', whose unit is none of "):
        Limit.parse("meter", "3W")
    with pytest.raises(UsageError, match=r"The budget is '7', but must be a ratio"):
        Limit.parse("meter", "7")


def test_a_budget_of_it_is_met(cost: Any, tmp_path: Path) -> None:
    cost(joules)
    model = network()
    graph = build_graph(model, torch.randn(2, 3, 8, 8))
    decided = decide(
        model,
        graph,
        Budget(meter=0.8),
        include_residual=False,
        min_keep=0.1,
        round_to=1,
        measurements=tmp_path / "costs.json",
    )
    policy = decided.projector.project([0.5, 0.5])
    found = decided.costs["meter"]
    assert isinstance(found, MeasuredCost)
    assert found(policy) <= 0.8 * found([24, 16])
    assert decided.projector.is_full(policy)
    assert decided.notes == (found.note,)
    assert (tmp_path / "costs.json").exists()


def test_what_pruning_does_not_lower_is_refused(cost: Any) -> None:
    cost(lambda model: 1.0)
    model = network()
    graph = build_graph(model, torch.randn(2, 3, 8, 8))
    with pytest.raises(UsageError, match="joules"):
        decide(model, graph, Budget(meter=0.8), include_residual=False, min_keep=0.1, round_to=1)
