"""Probes: one group pruned alone, against the small network run whole."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from autoprune.evaluation import PROBE_TEMPERATURE, answers_divergence
from autoprune.reconstruct import Backend
from autoprune.reconstruct._probes import ERROR
from autoprune.select import selections
from autoprune.surgery import prune_model

from ._networks import Grouped, Plain, Residual, images, planned, trained


def backend_of(make: Callable[[], nn.Module]) -> tuple[nn.Module, Backend]:
    network = trained(make())
    graph, plan = planned(network)
    groups = [group for group in graph.groups if group.reason is None]
    return network, Backend(plan, groups, images(100, 3), selection=selections.get("obs")(), rows=2000)


def divergence(dense: Tensor, found: Tensor) -> float:
    """Kullback-Leibler divergence of softened answers, written out."""
    p, q = (torch.softmax(value.double() / PROBE_TEMPERATURE, dim=1) for value in (dense, found))
    return float((p * (p.log() - q.log())).sum(dim=1).mean())


@pytest.mark.parametrize("make", [Residual, Plain, Grouped])
def test_distances_are_those_of_the_small_networks(make: Callable[[], nn.Module]) -> None:
    network, backend = backend_of(make)
    x = images(70, 5)
    probed = backend.probe(x, most=1e9)
    assert probed is not None
    errors, seen = probed
    for place, group in enumerate(backend.decisions):
        curve = backend.errors(group)
        count = int(np.abs(curve[1 : group.size] - ERROR).argmin()) + 1
        assert errors[place] == curve[count]
        counts = [count if other is group else other.size for other in backend.decisions]
        refit = backend.cached(counts)
        small = prune_model(network, backend.graph, refit.kept, tensors=refit.tensors)
        with torch.no_grad():
            expected = divergence(network(x), small(x))
        assert seen.divergences[place] == pytest.approx(expected, rel=1e-3, abs=1e-7)
    assert (seen.divergences > 0).any()


def test_no_more_is_computed_than_is_said_and_than_is_allowed() -> None:
    network, backend = backend_of(Residual)
    with FlopCounterMode(display=False) as dense:
        network(images(1))
    backend.probe(images(1, 5), most=1.0)  # what is remembered of the program is computed
    _, again = backend_of(Residual)
    again._plan = backend._plan
    with FlopCounterMode(display=False) as counter:
        probed = again.probe(images(64, 5), most=100.0)
    assert probed is not None
    computed = counter.get_total_flops() / dense.get_total_flops()
    assert probed[1].images <= 100.0
    assert 0.5 * probed[1].images < computed <= 1.001 * probed[1].images + _refits(again, dense.get_total_flops())


def _refits(backend: Backend, dense: float) -> float:
    """Multiply-adds of the consumers' least squares, generously, in dense images."""
    widths = [len(m.mean) for m in backend.statistics.moments.values()]
    return sum(20 * width**3 for width in widths) / dense


def test_a_network_that_cannot_be_cut_is_not_probed(monkeypatch: pytest.MonkeyPatch) -> None:
    _, backend = backend_of(Residual)
    monkeypatch.setattr(backend._plan, "blocks", (), raising=False)
    assert backend.probe(images(8), most=100.0) is None


def test_answers_that_are_no_classes_are_compared_by_their_variance() -> None:
    generator = torch.Generator().manual_seed(0)
    dense = torch.randn(5, 3, 4, 4, generator=generator)
    found = dense + 0.1
    assert float(answers_divergence(found, dense)) == pytest.approx(0.01 / float(dense.var(unbiased=False)), rel=1e-4)
