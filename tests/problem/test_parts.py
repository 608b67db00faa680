"""The parts of a problem, each made alone."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils.data import TensorDataset

from autoprune.errors import UsageError
from autoprune.evaluation import Evaluator
from autoprune.graph import captured
from autoprune.problem import Problem, Pruner, Scorer, make_problem, trace, under_budget

from ..reconstruct._networks import Residual, images, trained


def test_a_budget_needs_no_data() -> None:
    network = trained(Residual())
    before = {name: value.clone() for name, value in network.state_dict().items()}
    traced = trace(network, images(2))
    half, less = (under_budget(traced, budget) for budget in ("macs=0.5", "macs=0.3,params=0.6"))
    for found, share in ((half, 0.5), (less, 0.3)):
        counts = found.decided.projector.project([1.0] * len(found.decided.decisions))
        assert found.decided.cost.macs(counts) <= share * found.decided.cost.macs(found.sizes)
        assert found.decided.projector.is_full(counts)
    assert half.traced is less.traced
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())


def test_parts_put_together_by_hand_are_the_problem_that_is_made_at_once() -> None:
    network, pictures = trained(Residual()), images(60, 11)
    with torch.no_grad():
        labelled = TensorDataset(pictures, network(pictures).argmax(dim=1))
    whole = make_problem(network, images(2), calibration=pictures, evaluate=labelled, rows=500, seed=3)
    budgeted = under_budget(trace(network, images(2)), 0.5)
    drawn = pictures[torch.randperm(60, generator=torch.Generator().manual_seed(3))]
    pruner = Pruner(budgeted, drawn, rows=500, seed=3)
    scorer = Scorer(budgeted, Evaluator(labelled, name="search", device=torch.device("cpu")))
    parts = Problem(budgeted, pruner, scorer)
    counts = whole.projector.project([0.5] * len(whole.decisions))
    small = pruner.prune(counts)
    for name, value in whole.prune(counts).state_dict().items():
        torch.testing.assert_close(small.state_dict()[name], value, rtol=1e-3, atol=1e-4)
    assert abs(parts.score(counts).loss - whole.score(counts).loss) < 1e-3
    assert parts.setup_images > 0


def test_a_problem_is_a_game() -> None:
    network, pictures = trained(Residual()), images(60, 11)
    with torch.no_grad():
        labelled = TensorDataset(pictures, network(pictures).argmax(dim=1))
    found = make_problem(network, images(2), calibration=pictures, evaluate=labelled, rows=500)
    env = found.env()
    env.reset(seed=0)
    for _ in found.decisions:
        _, reward, over, _, info = env.step(np.array([0.0], dtype=np.float32))
    assert over
    assert reward == found.score(info["counts"]).reward
    with pytest.raises(UsageError, match=r"ChannelPrunning-v0.*Did you mean 'ChannelPruning-v0'"):
        found.env("ChannelPrunning-v0")


def test_the_user_is_told_where_not_all_that_a_part_gets_is_held(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(captured.__kwdefaults__, "most", 1)
    network, pictures = nn.Sequential(trained(Residual())), images(40, 11)
    made = make_problem(
        network, images(2), calibration=pictures, evaluate=pictures, part=["0"], batch_size=16, rows=200
    )
    assert any(note.startswith("Only 1 of 3 batches of calibration images are used") for note in made.notes)
