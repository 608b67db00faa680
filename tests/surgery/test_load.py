from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from autoprune.errors import UsageError
from autoprune.support.tensors import load_safetensors, save_safetensors_atomic
from autoprune.surgery import Policy, PolicyGroup, load_pruned, prune_model

from ._networks import chain, cut, mixed
from .test_copy import graph_of

KEPT = {"stem": np.array([1, 4]), "mix": np.array([0, 3, 7]), "up": np.array([2, 3])}


def test_policy_and_weights_rebuild_the_model(tmp_path: Path) -> None:
    model, graph, image = mixed()
    small = prune_model(model, graph, KEPT, tensors={"mix.bias": torch.randn(3)})
    Policy(groups=Policy.groups_of(graph.groups, KEPT)).save(tmp_path / "policy.json")
    save_safetensors_atomic(tmp_path / "model.safetensors", small.state_dict())

    fresh = type(model)().eval()  # Other weights: only the constructor is needed.
    policy = Policy.load(tmp_path / "policy.json")
    loaded = load_pruned(fresh, graph, policy, load_safetensors(tmp_path / "model.safetensors"))
    assert torch.equal(loaded(image), small(image))
    assert loaded.state_dict().keys() == small.state_dict().keys()


def test_tied_weights_are_saved_once_and_load(tmp_path: Path) -> None:
    model: Any = nn.Sequential(nn.Linear(3, 4), nn.Linear(3, 4))
    model[1].weight = model[0].weight
    graph = graph_of(cut("0.weight", 0, 4), cut("0.bias", 0, 4), cut("1.bias", 0, 4))
    small: Any = prune_model(model, graph, {"a": np.array([1, 3])})
    save_safetensors_atomic(tmp_path / "m.safetensors", small.state_dict())
    state = load_safetensors(tmp_path / "m.safetensors")
    assert "1.weight" not in state
    loaded: Any = load_pruned(model, graph, Policy(groups=(PolicyGroup("a", 4, 2, (1, 3)),)), state)
    assert loaded[1].weight is loaded[0].weight
    assert torch.equal(loaded[1].weight, small[1].weight)


def test_what_does_not_belong_together_is_refused() -> None:
    model, graph, _ = chain()
    policy = Policy(groups=(PolicyGroup("0", 4, 2, (0, 1)),))
    state = prune_model(model, graph, policy.kept()).state_dict()
    less = {key: value for key, value in state.items() if key != "3.weight"}
    with pytest.raises(UsageError, match=r"lack '3\.weight'\."):
        load_pruned(model, graph, policy, less)
    with pytest.raises(UsageError, match=r"lack '3\.weight' and also hold 'extra'\."):
        load_pruned(model, graph, policy, {**less, "extra": torch.zeros(1)})
    with pytest.raises(UsageError, match=r"lack .*and \d+ more\."):
        load_pruned(model, graph, policy, {})
    with pytest.raises(UsageError, match=r"'0\.weight' has shape \(4, 3, 3, 3\) in the weights but \(2, 3, 3, 3\)"):
        load_pruned(model, graph, policy, model.state_dict())
    with pytest.raises(UsageError, match="group 'x' does not exist"):
        load_pruned(model, graph, Policy(groups=(PolicyGroup("x", 4, 1, (0,)),)), state)
    with pytest.raises(UsageError, match="has 8 channels but this model's has 4"):
        load_pruned(model, graph, Policy(groups=(PolicyGroup("0", 8, 1, (0,)),)), state)
