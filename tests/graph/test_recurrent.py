"""Layers before recurrent ones: what goes into an LSTM or GRU can be removed, hidden units stay."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import TensorDataset

import autoprune
from autoprune.graph import PruningGraph, build_graph, prove
from autoprune.graph._rules_recurrent import HIDDEN
from autoprune.surgery import prune_model
from autoprune.testing import check_surgery

from .._sample import pick

KINDS: dict[str, Callable[..., Any]] = {
    "lstm": nn.LSTM,
    "gru": nn.GRU,
    "tanh": nn.RNN,
    "relu": partial(nn.RNN, nonlinearity="relu"),
}


class _Sequence(nn.Module):
    def __init__(self, kind: str, *, layers: int, both: bool, batch_first: bool, bias: bool) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.batch_first = batch_first
        self.conv = nn.Conv1d(2, 8, 3)
        self.project = nn.Linear(8, 12)
        self.rnn = KINDS[kind](12, 6, layers, bidirectional=both, batch_first=batch_first, bias=bias)
        self.inner = nn.Linear(12 if both else 6, 10)
        self.head = nn.Linear(10, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv(x).relu().permute(*((0, 2, 1) if self.batch_first else (2, 0, 1)))
        x, _ = self.rnn(self.project(x).relu())
        y: Tensor = self.head(self.inner(x[:, -1] if self.batch_first else x[-1]).relu())
        return y


class _Recogniser(nn.Module):
    """The usual reader of text: columns of a feature map, height and channels together, into a bidirectional LSTM."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(2, 8, 3, stride=2)
        self.rnn = nn.LSTM(8 * 3, 5, num_layers=2, bidirectional=True)
        self.head = nn.Linear(10, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv(x).relu().permute(3, 0, 1, 2).flatten(2)
        y: Tensor = self.head(self.rnn(x)[0])
        return y


class _Steps(nn.Module):
    """A cell called once for each step."""

    def __init__(self, kind: type[nn.LSTMCell | nn.GRUCell | nn.RNNCell]) -> None:
        super().__init__()
        self.conv = nn.Conv1d(2, 8, 3)
        self.cell = kind(8, 5)
        self.head = nn.Linear(5, 3)

    def forward(self, x: Tensor) -> Tensor:
        x, state = self.conv(x).relu(), None
        for step in range(3):
            state = self.cell(x[:, :, step], state)
        y: Tensor = self.head(state[0] if isinstance(state, tuple) else state)
        return y


def _proved(model: nn.Module, shape: tuple[int, ...]) -> tuple[PruningGraph, Tensor]:
    images = torch.randn(2, *shape, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    return prove(model, build_graph(model, images), images), images


def _free(graph: PruningGraph) -> list[tuple[str, int]]:
    return [(group.name, group.size) for group in graph.groups if group.reason is None]


def _checked(model: nn.Module, shape: tuple[int, ...], expected: list[tuple[str, int]]) -> None:
    model = model.double().eval()
    graph, images = _proved(model, shape)
    assert _free(graph) == expected
    check = check_surgery(model, graph, images, policies=5)
    assert check.distance < 1e-11
    assert check.effect > 1e-6 or len(expected) == 1  # one group may be drawn whole
    assert (check.macs_wrong, check.params_wrong) == (0, 0)


FORMS = [
    (layers, both, first, bias)
    for layers in (1, 3)
    for both in (False, True)
    for first in (False, True)
    for bias in (False, True)
]
CASES = [(kind, *form) for kind in KINDS for form in FORMS]


@pytest.mark.parametrize(("kind", "layers", "both", "first", "bias"), pick(CASES, 6))
def test_inputs_of_recurrent_layers_go(kind: str, layers: int, both: bool, first: bool, bias: bool) -> None:
    model = _Sequence(kind, layers=layers, both=both, batch_first=first, bias=bias)
    _checked(model, (2, 9), [("conv", 8), ("project", 12), ("inner", 10)])


@pytest.mark.parametrize("model", [_Recogniser(), _Steps(nn.LSTMCell), _Steps(nn.GRUCell), _Steps(nn.RNNCell)])
def test_columns_of_a_map_and_single_steps(model: nn.Module) -> None:
    _checked(model, (2, 8, 8) if isinstance(model, _Recogniser) else (2, 9), [("conv", 8)])


def test_what_is_left_is_a_part_of_the_dense_weights_and_says_its_size() -> None:
    model = _Sequence("lstm", layers=2, both=True, batch_first=True, bias=True).eval()
    graph, images = _proved(model.double(), (2, 9))
    kept = np.array([0, 3, 4, 11])
    small = prune_model(model, graph, {"project": kept})
    assert small.rnn.input_size == 4
    for name, value in model.rnn.named_parameters():
        expected = value[:, kept] if name.startswith("weight_ih_l0") else value
        assert torch.equal(small.rnn.get_parameter(name), expected)
    small.double().float()  # the weights that it runs with follow
    assert small(images.float()).dtype == torch.float32


class _FromTheImage(nn.Module):
    """The first hidden state is made of features."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv1d(2, 8, 3)
        self.start = nn.Linear(8, 5)
        self.rnn = nn.GRU(8, 5, batch_first=True)
        self.head = nn.Linear(5, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv(x).relu()
        _, state = self.rnn(x.transpose(1, 2), self.start(x.mean(2))[None])
        y: Tensor = self.head(state[0])
        return y


class _Residual(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv1d(2, 8, 3)
        self.rnn = nn.LSTM(8, 8, batch_first=True)
        self.head = nn.Linear(8, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv(x).relu().transpose(1, 2)
        y: Tensor = self.head((x + self.rnn(x)[0]).mean(1))
        return y


class _Projected(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv1d(2, 8, 3)
        self.rnn = nn.LSTM(8, 6, proj_size=4, batch_first=True)
        self.head = nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.head(self.rnn(self.conv(x).transpose(1, 2))[0][:, -1])
        return y


@pytest.mark.parametrize(
    ("model", "group", "reason"),
    [
        (_FromTheImage(), "start", HIDDEN),
        (_Residual(), "conv", HIDDEN),
        (_Projected(), "conv", "a recurrent layer with a projection is not understood"),
    ],
)
def test_hidden_units_stay_with_their_reason(model: nn.Module, group: str, reason: str) -> None:
    graph, _ = _proved(model.double().eval(), (2, 9))
    assert str(graph.group(group).reason).startswith(reason)


def test_a_whole_search_before_an_lstm() -> None:
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(60, 2, 9, generator=generator)
    parts = [TensorDataset(x[a:b], (x[a:b, 0, 0] > 0).long()) for a, b in ((0, 30), (30, 50), (50, 60))]
    model = _Sequence("lstm", layers=1, both=False, batch_first=True, bias=True)
    found = autoprune.search(
        model, x[:2], calibration=parts[0], evaluate=parts[1], report=parts[2], budget=0.7, agent="uniform"
    )
    assert found.model.rnn.input_size < 12
    assert found.report["final"]["macs"] <= 0.7 * found.report["dense"]["macs"]
