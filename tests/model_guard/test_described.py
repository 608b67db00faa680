"""What a network is called with goes into a file and comes back with its nesting, shapes and types."""

from __future__ import annotations

import json
from typing import Any

import pytest
import torch
from torch.utils import _pytree as pytree

from autoprune.errors import UsageError
from autoprune.model_guard import ModelInputs, described, from_description


def test_nesting_shapes_and_types_come_back() -> None:
    nested = {"maps": [torch.rand(3, 2, 4), (torch.ones(3, dtype=torch.int64), None)], "name": "a"}
    inputs = ModelInputs((nested, 2), {"mask": torch.ones(3, 5, dtype=torch.bool), "scale": 0.5})
    found = from_description(json.loads(json.dumps(described(inputs))), 4)

    def form(given: ModelInputs) -> Any:
        leaves, structure = pytree.tree_flatten((given.args, given.kwargs))
        told = [(leaf.shape[1:], leaf.dtype) if isinstance(leaf, torch.Tensor) else leaf for leaf in leaves]
        return told, structure

    assert form(found) == form(inputs)
    assert len(found) == 4


@pytest.mark.parametrize("thing", [object(), {1: torch.rand(2)}, torch.tensor(1.0), float("nan")])
def test_what_json_does_not_tell_is_not_described(thing: Any) -> None:
    assert described(ModelInputs((torch.rand(2, 3), thing))) is None


@pytest.mark.parametrize(
    "content",
    [
        None,
        [],
        {"args": []},
        {"args": [], "kwargs": {}},
        {"args": [{"tensor": [2, -1], "dtype": "float32"}], "kwargs": {}},
        {"args": [{"tensor": [2, "3"], "dtype": "float32"}], "kwargs": {}},
        {"args": [{"tensor": [2**40], "dtype": "float32"}], "kwargs": {}},
        {"args": [{"tensor": [2], "dtype": "object"}], "kwargs": {}},
        {"args": [{"set": []}], "kwargs": {}},
        {"args": [{}], "kwargs": {}},
        {"args": [[1]], "kwargs": {}},
    ],
)
def test_damaged_descriptions_are_refused(content: Any) -> None:
    with pytest.raises(UsageError):
        from_description(content)
