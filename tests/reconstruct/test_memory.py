"""What a step of block descent keeps for its gradients stays below a bound, and the result is the same."""

from __future__ import annotations

import weakref
from collections import Counter

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from autoprune.graph import build_graph
from autoprune.reconstruct import Backend, Descent, Plan, _blocks
from autoprune.select import selections


class Maps(nn.Module):
    """Large maps, a skip connection and two answers, all in few blocks."""

    def __init__(self) -> None:
        super().__init__()
        self.before, self.first = nn.Conv2d(3, 16, 3, padding=1), nn.Conv2d(16, 16, 3, padding=1)
        self.norm, self.deep, self.last = nn.BatchNorm2d(16), nn.Conv2d(16, 16, 3, padding=1), nn.Conv2d(16, 2, 1)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        first = F.relu(self.before(x))
        wide = F.relu(first + self.deep(F.relu(self.norm(self.first(first)))))
        return self.last(wide), wide.mean((2, 3))


class Saved:
    """Counts the bytes of what autograd keeps at a time, the same numbers once."""

    def __init__(self) -> None:
        self.now = self.peak = 0
        self._uses: Counter[int] = Counter()

    def pack(self, tensor: Tensor) -> list[Tensor]:
        """Keep a tensor."""
        held, place, size = _Held([tensor]), tensor.data_ptr(), tensor.numel() * tensor.element_size()
        self.now += 0 if self._uses[place] else size
        self._uses[place] += 1
        self.peak = max(self.peak, self.now)
        weakref.finalize(held, self._drop, place, size)
        return held

    def _drop(self, place: int, size: int) -> None:
        self._uses[place] -= 1
        self.now -= 0 if self._uses[place] else size


class _Held(list[Tensor]):
    """A list that can be referred to weakly."""


def refitted(x: Tensor, *, steps: int = 4) -> tuple[dict[str, Tensor], int]:
    torch.manual_seed(0)
    network = Maps().eval()
    graph = build_graph(network, x[:2])
    decisions = tuple(group for group in graph.groups if group.reason is None)
    made = Backend(
        Plan(graph, network),
        decisions,
        x,
        selection=selections.get("obs")(),
        rows=500,
        descent=Descent(steps=steps, batch=16, rate=0.003),
    )
    saved = Saved()
    with torch.autograd.graph.saved_tensors_hooks(saved.pack, lambda held: held[0]):
        found = made.sequential([max(1, group.size // 2) for group in decisions])
    return found.tensors, saved.peak


def test_stored_values_are_bounded_and_the_result_is_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    x = torch.randn(40, 3, 32, 32, generator=torch.Generator().manual_seed(1))
    whole, without = refitted(x)
    bound = 2**20
    assert without > 2 * bound
    monkeypatch.setattr(_blocks, "MOST_STORED_BYTES", bound)
    parts, peak = refitted(x)
    assert 0 < peak <= bound
    assert parts.keys() == whole.keys()
    for name, tensor in parts.items():
        torch.testing.assert_close(tensor, whole[name], rtol=1e-3, atol=1e-4)
    untrained, _ = refitted(x, steps=1)
    assert any(not torch.allclose(untrained[name], tensor, rtol=1e-3, atol=1e-4) for name, tensor in whole.items())


def test_a_step_whose_values_fit_is_done_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    x = torch.randn(24, 3, 12, 12, generator=torch.Generator().manual_seed(1))
    whole, peak = refitted(x)
    monkeypatch.setattr(_blocks, "MOST_STORED_BYTES", 2**40)
    again, same = refitted(x)
    assert peak == same
    assert all(torch.equal(tensor, again[name]) for name, tensor in whole.items())
