"""The closed form against torch's own counter and the parameters of the pruned network."""

from __future__ import annotations

import dataclasses
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from autoprune.cost import CostModel
from autoprune.errors import AutopruneError
from autoprune.groups import PruningGraph
from autoprune.surgery import prune_model

from ..surgery._networks import chain, cut, group, mixed, norm_cuts, shapes_of

CASES = {"mixed": mixed(), "chain": chain(), "single": chain((1, 7))}


def measured(model: torch.nn.Module, image: torch.Tensor) -> tuple[int, int]:
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        model(image[:1])
    return counter.get_total_flops() // 2, sum(parameter.numel() for parameter in model.parameters())


@pytest.mark.parametrize("name", CASES)
@settings(max_examples=15, deadline=None)
@given(data=st.data())
def test_equals_the_oracle_for_any_policy(name: str, data: st.DataObject) -> None:
    model, graph, image = CASES[name]
    decisions = [group for group in graph.groups if group.reason is None]
    cost = CostModel(graph, decisions, shapes=shapes_of(model))
    counts = [data.draw(st.integers(1, group.size), label=group.name) for group in decisions]
    small = prune_model(model, graph, {g.name: np.arange(g.size)[-k:] for g, k in zip(decisions, counts, strict=True)})
    macs, params = measured(small, image)
    assert (cost.macs(counts), cost.params(counts)) == (macs, params)
    assert sum(cost.layer_macs(counts)) == macs
    assert cost.macs_form.many([counts, cost.sizes]).tolist() == [macs, cost.dense_macs]
    assert (cost.dense_macs, cost.dense_params) == measured(model, image)


def test_undecided_groups_stay_whole_and_the_order_is_the_callers() -> None:
    model, graph, image = CASES["mixed"]
    decisions = [graph.group("up"), graph.group("stem")]
    cost = CostModel(graph, decisions, shapes=shapes_of(model))
    assert cost.sizes == (4, 6)
    small = prune_model(model, graph, {"up": np.arange(3), "stem": np.arange(2)})
    assert (cost.macs([3, 2]), cost.params([3, 2])) == measured(small, image)


def test_counts_are_exact_far_beyond_float_precision() -> None:
    model, graph, _ = chain((4, 6, 5))
    cost = CostModel(graph, graph.groups, shapes=shapes_of(model))
    form = cost.macs_form.form
    form.matrix *= 10**14
    k = [3, 5, 4]
    assert form(k) == form.constant + sum(
        int(form.linear[i]) * k[i] + sum(int(form.matrix[i, j]) * k[i] * k[j] for j in range(3)) for i in range(3)
    )


def test_wrong_number_of_counts_is_an_error() -> None:
    model, graph, _ = CASES["chain"]
    cost = CostModel(graph, graph.groups, shapes=shapes_of(model))
    for method in (cost.macs, cost.params, cost.layer_macs):
        with pytest.raises(ValueError, match="expected 3 counts"):
            method([1, 2])


def test_inconsistent_layers_are_reported() -> None:
    model, graph, _ = CASES["chain"]
    wrong = dataclasses.replace(graph.layers[0], macs=graph.layers[0].macs + 1)
    broken = dataclasses.replace(graph, layers=(wrong, *graph.layers[1:]))
    with pytest.raises(AutopruneError, match="bug in autoprune"):
        CostModel(broken, broken.groups, shapes=shapes_of(model))


def test_parameters_are_read_from_the_program_and_tied_ones_count_once() -> None:
    model = nn.Sequential(nn.Linear(3, 6), nn.Linear(3, 6), nn.BatchNorm1d(6))
    model[1].weight = model[0].weight
    slices = [cut(name, 0, 6) for name in ("0.weight", "0.bias", "1.bias")] + list(norm_cuts("2", 6))
    program = SimpleNamespace(state_dict=model.state_dict(keep_vars=True))
    graph = PruningGraph(cast(Any, program), (), (group(0, "0", 6, *slices),))
    cost = CostModel(graph, graph.groups)
    assert cost.dense_params == 18 + 4 * 6
    for count in range(1, 7):
        small = prune_model(model, graph, {"0": np.arange(count)})
        assert cost.params([count]) == sum(parameter.numel() for parameter in small.parameters())


def test_parameters_cut_along_three_dimensions() -> None:
    model = nn.Module()
    model.cube = nn.Parameter(torch.zeros(4, 6, 5, 2))
    groups = (
        group(0, "a", 4, cut("cube", 0, 4)),
        group(1, "b", 2, cut("cube", 1, 2, repeat=2), cut("cube", 2, 2, start=1)),
    )
    graph = PruningGraph(cast(Any, None), (), groups)
    cost = CostModel(graph, groups, shapes=shapes_of(model))
    assert cost.dense_params == 4 * 6 * 5 * 2
    small = prune_model(model, graph, {"a": np.array([0, 2, 3]), "b": np.array([1])})
    assert small.get_parameter("cube").shape == (3, 4, 4, 2)
    assert cost.params([3, 1]) == 3 * 4 * 4 * 2
