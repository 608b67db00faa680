"""Channels cut at places that a module's attributes say: the attributes follow, and the masked dense network agrees."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from autoprune.graph import PruningGraph, build_graph, prove
from autoprune.surgery import prune_model
from autoprune.testing import check_surgery, randomised


class _Cut(nn.Module):
    """A convolution whose 12 channels are cut, each piece convolved by itself."""

    def __init__(self, *pieces: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, sum(pieces), 3, padding=1)
        self.parts = nn.ModuleList([nn.Conv2d(size, 4, 1) for size in pieces])
        self.head = nn.Linear(4 * len(pieces), 5)
        self.splits = list(pieces)
        self.width = pieces[0]
        self.rest = pieces[-1]
        self.whole = sum(pieces)


class _Listed(_Cut):
    def forward(self, x: Tensor) -> Tensor:
        pieces = torch.split(F.relu(self.first(x)), self.splits, 1)
        outs = [F.relu(part(piece)) for part, piece in zip(self.parts, pieces, strict=True)]
        return self.head(torch.cat(outs, 1).mean((2, 3)))


class _Sliced(_Cut):
    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.first(x))
        a = x[:, : self.width]
        b = x[:, self.width :]
        outs = [F.relu(part(piece)) for part, piece in zip(self.parts, (a, b), strict=True)]
        return self.head(torch.cat(outs, 1).mean((2, 3)))


class _Numbered(_Cut):
    def forward(self, x: Tensor) -> Tensor:
        pieces = torch.split(
            F.relu(self.first(x)),
            [self.width, self.rest],
            dim=1,
        )
        outs = [F.relu(part(piece)) for part, piece in zip(self.parts, pieces, strict=True)]
        return self.head(torch.cat(outs, 1).mean((2, 3)))


class _Fraction(_Cut):
    def forward(self, x: Tensor) -> Tensor:
        pieces = torch.split(F.relu(self.first(x)), self.whole // 3, 1)
        outs = [F.relu(part(piece)) for part, piece in zip(self.parts, pieces, strict=True)]
        return self.head(torch.cat(outs, 1).mean((2, 3)))


class _Helper(_Cut):
    def _pieces(self, x: Tensor) -> list[Tensor]:
        return list(torch.split(x, self.splits, 1))

    def forward(self, x: Tensor) -> Tensor:
        outs = [F.relu(part(piece)) for part, piece in zip(self.parts, self._pieces(self.first(x)), strict=True)]
        return self.head(torch.cat(outs, 1).mean((2, 3)))


class _FixedCut(_Cut):
    def forward(self, x: Tensor) -> Tensor:
        pieces = torch.split(F.relu(self.first(x)), [4, 8], 1)
        outs = [F.relu(part(piece)) for part, piece in zip(self.parts, pieces, strict=True)]
        return self.head(torch.cat(outs, 1).mean((2, 3)))


class _Shared(nn.Module):
    """The same attribute cuts two tensors: both must keep equally many."""

    def __init__(self) -> None:
        super().__init__()
        self.one, self.two = nn.Conv2d(3, 12, 1), nn.Conv2d(3, 12, 1)
        self.a, self.b = nn.Conv2d(5, 6, 1), nn.Conv2d(7, 6, 1)
        self.c, self.d = nn.Conv2d(5, 6, 1), nn.Conv2d(7, 6, 1)
        self.head = nn.Linear(6, 5)
        self.width = 5

    def forward(self, x: Tensor) -> Tensor:
        one, two = F.relu(self.one(x)), F.relu(self.two(x))
        a = self.a(one[:, : self.width])
        b = self.b(one[:, self.width :])
        c = self.c(two[:, : self.width])
        d = self.d(two[:, self.width :])
        return self.head(F.relu(a + b + c + d).mean((2, 3)))


def _proved(model: nn.Module) -> tuple[nn.Module, PruningGraph, Tensor]:
    torch.manual_seed(0)
    model = randomised(model).double()
    images = torch.randn(2, 3, 6, 6, dtype=torch.float64)
    return model, prove(model, build_graph(model, images), images), images


@pytest.mark.parametrize(
    ("model", "attributes"),
    [
        (_Listed(4, 8), {"splits"}),
        (_Listed(3, 4, 5), {"splits"}),
        (_Listed(6, 6), {"splits"}),
        (_Sliced(4, 8), {"width"}),
        (_Sliced(6, 6), {"width"}),
        (_Numbered(4, 8), {"width", "rest"}),
        (_Fraction(4, 4, 4), {"whole"}),
        (_Helper(4, 8), {"splits"}),
        (_Shared(), {"width"}),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, nn.Module) else "",
)
def test_attributes_follow_the_channels(model: nn.Module, attributes: set[str]) -> None:
    model, graph, images = _proved(model)
    assert {size.attribute for size in graph.sizes} == attributes
    refused = {group.name for group in graph.groups if group.reason is not None}
    assert refused == {"head"}
    check = check_surgery(model, graph, images, policies=8)
    assert check.distance < 1e-10
    assert (check.macs_wrong, check.params_wrong) == (0, 0)


def test_pieces_are_pruned_apart_and_the_original_keeps_its_numbers() -> None:
    model, graph, images = _proved(_Listed(4, 8))
    sizes = {group.name: group.size for group in graph.groups if group.producers == ("first",)}
    assert sorted(sizes.values()) == [4, 8]
    short = next(name for name, size in sizes.items() if size == 4)
    small = prune_model(model, graph, {short: np.array([1])})
    assert small.splits == [1, 8]
    assert model.splits == [4, 8]
    assert small.first.out_channels == 9
    again = prove(small, build_graph(small, images), images)
    assert {group.size for group in again.groups if group.producers == ("first",)} == {1, 8}


def test_a_cut_that_is_fixed_in_the_code_follows_without_an_attribute() -> None:
    model, graph, images = _proved(_FixedCut(4, 8))
    assert graph.sizes == ()
    assert {group.size for group in graph.groups if group.producers == ("first",)} == {4, 8}
    assert [group.name for group in graph.groups if group.reason is not None] == ["head"]
    assert check_surgery(model, graph, images, policies=8).distance < 1e-10
