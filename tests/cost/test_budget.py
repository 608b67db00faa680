"""Budgets as they are written, and costs other than multiply-adds."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from autoprune import Budget, UsageError, prune_model
from autoprune.budget import UNITS, Limit, amount
from autoprune.cost import Cost, CostModel, OwnCost, check_cost, costs, on_network, size_cost
from autoprune.graph import build_graph
from autoprune.problem import decide


@pytest.mark.parametrize(
    ("text", "limits"),
    [
        ("0.5", [Limit("macs", 0.5)]),
        ("macs=60M", [Limit("macs", 60e6, "absolute")]),
        ("params = 0.6", [Limit("params", 0.6)]),
        ("params=500", [Limit("params", 500, "absolute")]),
        ("latency=12ms", [Limit("latency", 0.012, "absolute")]),
        ("latency=800 us,size=4MB", [Limit("latency", 0.0008, "absolute"), Limit("size", 4e6, "absolute")]),
        ("memory=1.5MiB", [Limit("memory", 1.5 * 2**20, "absolute")]),
        ("json:dumps=3", [Limit("json:dumps", 3, "absolute")]),
        ("json:dumps=0.3", [Limit("json:dumps", 0.3)]),
    ],
)
def test_what_is_written_is_what_is_meant(text: str, limits: list[Limit]) -> None:
    found = Budget(text).limits
    assert [(limit.kind, limit.unit) for limit in found] == [(limit.kind, limit.unit) for limit in limits]
    assert [limit.value for limit in found] == pytest.approx([limit.value for limit in limits], rel=1e-12)


kinds = st.sampled_from([*UNITS, "module:function"])
ratios = st.floats(1e-6, 1.0)


@given(
    given_=st.dictionaries(kinds, st.one_of(ratios, st.integers(2, 10**6)), min_size=1),
    mode=st.sampled_from(["exact", "at-most"]),
)
def test_a_budget_survives_its_text_and_json(given_: dict[str, float], mode: Any) -> None:
    limits = [Limit(kind, v) if v <= 1 else Limit(kind, v, "absolute") for kind, v in given_.items()]
    budget = Budget(limits, mode)
    assert Budget.from_dict(json.loads(json.dumps(budget.to_dict()))) == budget
    for again, limit in zip(Budget(str(budget), mode).limits, limits, strict=True):
        assert (again.kind, again.unit) == (limit.kind, limit.unit)
        assert again.value == pytest.approx(limit.value, rel=1e-9)


def test_words() -> None:
    assert Budget("macs=0.5,latency=12ms").words == "0.5 of the MACs and 12 ms of latency"
    assert Budget(size="4MB", mode="at-most").words == "4 MB of weights at most"
    assert (amount("macs", 1234567), amount("memory", 2500), amount("latency", 2e-5)) == (
        "1,234,567",
        "2.5 kB",
        "20 µs",
    )


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.one, self.norm, self.two = nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.Conv2d(8, 6, 1, bias=False)
        self.out = nn.Linear(6, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = torch.relu(self.norm(self.one(x)))
        out: torch.Tensor = self.out(torch.relu(self.two(x)).mean((2, 3)))
        return out


@pytest.fixture(scope="module")
def net() -> tuple[nn.Module, Any]:
    model = Net().eval()
    return model, build_graph(model, torch.randn(2, 3, 9, 9))


@pytest.mark.parametrize("counts", [(8, 6), (3, 5), (1, 1)])
def test_size_is_the_bytes_of_the_state_after_surgery(net: tuple[nn.Module, Any], counts: tuple[int, int]) -> None:
    model, graph = net
    decisions = graph.groups[:2]
    cost = size_cost(CostModel(graph, decisions), model.state_dict())
    pruned = prune_model(model, graph, {g.name: np.arange(k) for g, k in zip(decisions, counts, strict=True)})
    nbytes = sum(t.numel() * t.element_size() for t in pruned.state_dict().values())
    assert cost(counts) == nbytes
    assert cost.many(np.array([counts])).tolist() == [nbytes]


def test_costs_of_ones_own_see_counts_or_the_network(net: tuple[nn.Module, Any]) -> None:
    model, graph = net

    def widest(kept: dict[str, int]) -> float:
        return float(max(kept.values()))

    def weights(network: nn.Module) -> float:
        return float(sum(p.numel() for p in network.parameters()))

    for name, function in (("test-widest", widest), ("test-weights", on_network(weights))):
        if name not in costs.names():
            costs.register(name)(function)
    decided = decide(
        model,
        graph,
        Budget("test-widest=5,test-weights=0.7"),
        include_residual=False,
        min_keep=0.1,
        round_to=1,
    )
    counts = decided.projector.project([1.0, 1.0])
    assert decided.projector.is_full(counts)
    assert max(counts) <= 5
    assert decided.cost.params(counts) <= 0.7 * decided.cost.dense_params
    assert decided.costs["test-weights"](counts) == decided.cost.params(counts)


@pytest.mark.parametrize("value", [float("nan"), -1.0, None])
def test_a_cost_of_ones_own_that_is_none_is_refused(net: tuple[nn.Module, Any], value: float) -> None:
    model, graph = net
    name = f"test-broken-{value}"
    if name not in costs.names():
        costs.register(name)(lambda _: value)
    with pytest.raises(UsageError, match=name):
        OwnCost(name, model, graph, graph.groups[:2])((4, 4))


def test_a_cost_that_pruning_does_not_lower_is_refused() -> None:
    class Constant:
        def __call__(self, counts: Any) -> float:
            return 3.0

        def many(self, counts: Any) -> Any:
            return np.full(len(counts), 3.0)

    constant: Cost = Constant()
    with pytest.raises(UsageError, match="does not lower it"):
        check_cost("energy", constant, (1,), (8,))


def test_several_limits_name_the_one_that_cannot_be_met(net: tuple[nn.Module, Any]) -> None:
    model, graph = net
    with pytest.raises(UsageError, match=r"smallest network has 172 B \(0\.\d+ of the bytes of weights\)"):
        decide(model, graph, Budget("macs=0.5,size=10B"), include_residual=False, min_keep=0.1, round_to=1)
