"""What stands between the last layer and the output: an answer about that layer's channels, which are the output's."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from autoprune.graph import PruningGraph, build_graph, prove

from .._sample import pick
from ._nets import Net, buf, conv, par

Tail = Callable[[Net, Tensor], Any]

BEFORE: dict[str, Tail] = {
    "nothing": lambda m, x: x,
    "a temperature": lambda m, x: x / 0.7,
    "a learned temperature": lambda m, x: x * m.t.exp(),
    "a temperature in place": lambda m, x: (x + 0).div_(m.fixed),
    "centred": lambda m, x: x - x.mean(1, keepdim=True),
    "a margin": lambda m, x: torch.where(x > 0, x, x - 1),
}
ANSWERS: dict[str, Tail] = {
    "softmax": lambda m, x: x.softmax(1),
    "softmax of the last dimension": lambda m, x: F.softmax(x, dim=-x.dim() + 1),
    "module": lambda m, x: m.soft(x),
    "log_softmax": lambda m, x: F.log_softmax(x, 1),
    "softmin": lambda m, x: F.softmin(x, 1),
    "sigmoid": lambda m, x: x.sigmoid(),
    "by hand": lambda m, x: (x - x.amax(1, keepdim=True)).exp() / (x - x.amax(1, keepdim=True)).exp().sum(1, True),
    "argmax": lambda m, x: x.argmax(1),
    "max": lambda m, x: tuple(x.max(1)),
    "topk": lambda m, x: tuple(x.topk(2, 1)),
    "best": lambda m, x: x.topk(2, 1)[1],
    "sort": lambda m, x: x.sort(1)[0],
    "median": lambda m, x: x.median(1)[0],
    "unit length": lambda m, x: F.normalize(x, dim=1),
    "one-hot": lambda m, x: F.one_hot(x.argmax(1), 6),
    "confidence": lambda m, x: x.softmax(1).amax(1),
    "entropy": lambda m, x: -(x.softmax(1) * x.log_softmax(1)).sum(1),
    "expectation": lambda m, x: (x.softmax(1).movedim(1, -1) * torch.arange(6)).sum(-1),
}
AFTER: dict[str, Tail] = {
    "nothing": lambda m, x: x,
    "a dict": lambda m, x: {"answers": x, "more": [x]},
    "clamped": lambda m, x: x.clamp(0.1, 0.9) if isinstance(x, Tensor) else x,
    "scaled in place": lambda m, x: x.mul_(2) if isinstance(x, Tensor) else x,
    "turned": lambda m, x: x.flip(1) if isinstance(x, Tensor) and x.dim() > 1 else x,
}


def _net(tail: Tail, dense: bool) -> nn.Module:
    torch.manual_seed(0)
    head: nn.Module = nn.Conv2d(8, 6, 1) if dense else nn.Linear(8, 6)

    def forward(m: Net, x: Tensor) -> Any:
        x = F.relu(m.first(x))
        return tail(m, m.head(x if dense else x.mean((2, 3))))

    members = {"t": par(1), "fixed": buf(1), "soft": nn.Softmax(1)}
    return Net(forward, first=conv(3, 8), head=head, **members).eval()


def _graph(tail: Tail, *, dense: bool, proved: bool = False) -> PruningGraph:
    images = torch.randn(2, 3, 6, 6, generator=torch.Generator().manual_seed(0))
    model = _net(tail, dense)
    graph = build_graph(model, images)
    return prove(model, graph, images) if proved else graph


def _reasons(graph: PruningGraph) -> list[tuple[str, int, str | None]]:
    return [(group.name, group.size, group.reason) for group in graph.groups]


@pytest.mark.parametrize("dense", [False, True], ids=["classes", "dense"])
@pytest.mark.parametrize(
    "names", pick(list(itertools.product(BEFORE, ANSWERS, AFTER)), 10), ids=lambda names: ", ".join(names)
)
def test_reasons_are_those_without_the_tail(names: tuple[str, str, str], dense: bool) -> None:
    before, answer, after = BEFORE[names[0]], ANSWERS[names[1]], AFTER[names[2]]
    graph = _graph(lambda m, x: after(m, answer(m, before(m, x))), dense=dense)
    assert _reasons(graph) == _reasons(_graph(lambda m, x: x, dense=dense))
    assert graph.refusals == ()


@pytest.mark.parametrize("answer", [name for name in ANSWERS if name not in ("best", "argmax", "one-hot")])
def test_what_is_before_the_last_layer_is_proved(answer: str) -> None:
    graph = _graph(ANSWERS[answer], dense=False, proved=True)
    assert [group.name for group in graph.groups if group.reason is None] == ["first"]


@pytest.mark.parametrize(
    ("tail", "reason"),
    [
        (lambda m, x: m.last(x.softmax(1)), "channels are mixed"),
        (lambda m, x: m.last(x.topk(6, 1)[0]), "not known"),
        (lambda m, x: x.softmax(1).chunk(6, 1)[0] * m.other(x), "channels are mixed"),
        (lambda m, x: x.logsumexp(1), "channels are reduced to one number"),
    ],
    ids=["read by a layer", "sorted, then read by a layer", "the share of an expert", "the output is their sum"],
)
def test_what_is_no_answer_keeps_its_reason(tail: Tail, reason: str) -> None:
    torch.manual_seed(0)
    model = Net(
        lambda m, x: tail(m, m.head(F.relu(m.first(x)).mean((2, 3)))),
        first=conv(3, 8),
        head=nn.Linear(8, 6),
        last=nn.Linear(6, 4),
        other=nn.Linear(6, 4),
    ).eval()
    graph = build_graph(model, torch.randn(2, 3, 6, 6))
    assert reason in str(graph.group("head").reason)
    assert any(reason in refusal.reason for refusal in graph.refusals)
