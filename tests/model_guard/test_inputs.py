"""A network is called with any nesting of tensors; a batch of it is cut, joined and moved as one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from autoprune.errors import UsageError
from autoprune.model_guard import ModelInputs, as_inputs


class _Named(nn.Module):
    def forward(self, left: Tensor, right: Tensor | None = None) -> Any:
        return left if right is None else left - right


class _Open(nn.Module):
    def forward(self, x: Any, **others: Any) -> Any:
        return x, others


@dataclass
class Pair:
    left: Tensor
    right: Tensor


class _OfPair(nn.Module):
    def forward(self, pair: Pair) -> Tensor:
        return pair.left - pair.right


X, Y = torch.arange(12.0).reshape(4, 3), torch.ones(4, 3)


def test_each_form_is_called_as_python_would():
    model = _Named()
    assert torch.equal(as_inputs(X, model).call(model), X)
    assert torch.equal(as_inputs((X, Y), model).call(model), X - Y)
    assert torch.equal(as_inputs({"right": Y, "left": X}, model).call(model), X - Y)
    inputs = ModelInputs((X,), {"right": Y})
    assert as_inputs(inputs) is inputs
    assert torch.equal(inputs.call(model), X - Y)


def test_a_dict_whose_keys_the_forward_does_not_take_is_one_argument():
    image = {"image": X}
    for model in (_Open(), nn.Identity()):
        assert as_inputs(image, model).args == (image,)
    assert as_inputs({"x": X, "more": Y}, _Open()).kwargs.keys() == {"x", "more"}
    assert as_inputs({"left": X}).args == ({"left": X},)  # no model to ask


def test_a_list_is_one_argument():
    assert as_inputs([X, Y]).args == ([X, Y],)


def test_items_are_cut_joined_and_moved_in_every_tensor():
    scale, flag = torch.tensor(2.0), "up"
    inputs = ModelInputs(({"a": [X, Y]}, scale), {"mode": flag, "ids": torch.arange(4)})
    assert len(inputs) == 4
    assert len(inputs.tensors) == 4
    for chosen in (slice(1, 3), torch.tensor([2, 0]), [3, 3]):
        some = inputs[chosen]
        assert torch.equal(some.args[0]["a"][0], X[chosen])
        assert torch.equal(some.kwargs["ids"], torch.arange(4)[chosen])
        assert some.args[1] is scale
        assert some.kwargs["mode"] == flag
    back = ModelInputs.join([inputs[:1], inputs[1:]])
    assert all(torch.equal(a, b) for a, b in zip(back.tensors, inputs.tensors, strict=True))
    moved = inputs.to("meta")
    assert moved.device.type == "meta"
    assert moved.kwargs["ids"].dtype == torch.int64


def test_a_data_class_of_the_users_own_is_looked_into():
    inputs = as_inputs(Pair(X, Y))
    assert len(inputs.tensors) == 2
    assert torch.equal(inputs[1:].call(_OfPair()), (X - Y)[1:])


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ((X, Y[:2]), r"shapes \(4, 3\), \(2, 3\) disagree"),
        (torch.tensor(1.0), "no tensor with a batch dimension"),
        ({"path": "a.png"}, "no tensor with a batch dimension"),
    ],
)
def test_what_has_no_batch_is_refused(given, says):
    with pytest.raises(UsageError, match=says):
        as_inputs(given)


@pytest.mark.parametrize(
    ("parts", "says"),
    [
        ([ModelInputs((X,)), ModelInputs((X, Y))], "nested differently"),
        ([ModelInputs((X,)), ModelInputs((X[:, :2],))], r"\(2,\), \(3,\)"),
        ([ModelInputs((X, "up")), ModelInputs((X, "down"))], "'up', then 'down'"),
    ],
)
def test_what_does_not_join_is_refused(parts, says):
    with pytest.raises(UsageError, match=says):
        ModelInputs.join(parts)
