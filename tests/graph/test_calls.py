"""Numbers of channels written into a forward: the calls follow, and the result is right and a model like any other."""

from __future__ import annotations

import copy
import io
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from autoprune.exporting import export_model, load_exported
from autoprune.graph import PruningGraph, build_graph, prove
from autoprune.surgery import Policy, load_pruned, prune_model
from autoprune.testing import check_surgery, randomised

from .._sample import pick
from ._cases import Net, conv
from ._nets_calls import NETS
from ._oracle import prunable, random_kept, zeroed


def _proved(model: nn.Module, side: int = 6) -> tuple[nn.Module, PruningGraph, Tensor]:
    torch.manual_seed(0)
    model = randomised(model).double()
    images = torch.randn(2, 3, side, side, dtype=torch.float64)
    return model, prove(model, build_graph(model, images), images), images


@pytest.mark.parametrize("name", pick(list(NETS), 9))
def test_the_first_layer_loses_channels_and_the_masked_network_agrees(name: str) -> None:
    model, graph, images = _proved(NETS[name]())
    producer = graph.layers[0].name
    refused = {group.name: group.reason for group in graph.groups if group.reason and "output" not in group.reason}
    assert refused == {}
    assert any(producer in group.producers for group in prunable(graph))
    check = check_surgery(model, graph, images, policies=4)
    assert check.distance < 1e-10
    assert (check.macs_wrong, check.params_wrong) == (0, 0)


@pytest.mark.parametrize("name", pick(list(NETS), 3))
def test_pruned_again_it_equals_the_model_pruned_at_once(name: str) -> None:
    model, graph, images = _proved(NETS[name]())
    small = prune_model(model, graph, random_kept(graph, 0))
    again = prove(small, build_graph(small, images), images)
    assert check_surgery(small, again, images, policies=3).distance < 1e-10


def _cut_by_code() -> nn.Module:
    def forward(m: Net, x: Tensor) -> Tensor:
        a, b = F.relu(m.a(x)).split([4, 12], 1)
        x = torch.cat([b, a.sigmoid()], 1).view(-1, 16, 36)[:, torch.arange(15, -1, -1)]
        return m.b(x.view(-1, 16 * 36))

    return Net(forward, a=conv(3, 16), b=nn.Linear(16 * 36, 4))


def test_the_result_is_copied_saved_exported_and_rebuilt(tmp_path: Path) -> None:
    model, graph, images = _proved(_cut_by_code())
    model, images = model.float(), images.float()
    kept = random_kept(graph, 1)
    small = prune_model(model, graph, kept).eval()
    assert type(small) is type(model)
    assert small.state_dict().keys() == model.state_dict().keys()
    with torch.no_grad():
        expected = small(images)
        assert torch.equal(copy.deepcopy(small)(images), expected)
        policy = Policy(groups=Policy.groups_of([graph.group(name) for name in kept], kept))
        policy.save(tmp_path / "policy.json")
        fresh = _cut_by_code().eval()
        loaded = load_pruned(
            fresh, build_graph(fresh, images), Policy.load(tmp_path / "policy.json"), small.state_dict()
        )
        assert torch.equal(loaded(images), expected)
        for suffix in (".pt2", ".onnx"):
            path = tmp_path / f"small{suffix}"
            export_model(small, images, path, format=suffix[1:])
            torch.testing.assert_close(load_exported(path)(images[:1]), expected[:1], rtol=1e-4, atol=1e-5)
        buffer = io.BytesIO()
        torch.save(small.a, buffer)  # its parts are ordinary modules
    small.train()
    small(images).sum().backward()
    assert small.a.weight.grad is not None


def test_compiled_it_computes_the_same() -> None:
    model, graph, images = _proved(nn.Sequential(conv(3, 3), _cut_by_code()))
    small = prune_model(model, graph, random_kept(graph, 1)).eval()
    expected = small(images)
    with torch.no_grad(), warnings.catch_warnings(action="ignore"):  # torch says that it leaves the module uncompiled
        torch.testing.assert_close(torch.compile(small, backend="eager")(images), expected)
        torch.testing.assert_close(torch.jit.trace(small, images)(images), expected)


def test_an_error_in_the_forward_leaves_nothing_behind() -> None:
    model, graph, images = _proved(_cut_by_code())
    small = prune_model(model, graph, random_kept(graph, 1))
    with pytest.raises(RuntimeError):
        small(images[:, :2])
    x = torch.zeros(1, 16, 2, 2)
    assert [part.shape[1] for part in x.split([4, 12], 1)] == [4, 12]
    assert small(images).shape == (2, 4)


def test_code_that_follows_by_itself_is_left_alone() -> None:
    def forward(m: Net, x: Tensor) -> Tensor:
        x = F.relu(m.a(x))
        n, c, h, w = x.shape
        x = x.view(n, 2, c // 2, h, w).transpose(1, 2).reshape(n, c, h, w)
        return m.b(torch.cat([x[:, : c // 2], x[:, c // 2 :].sigmoid()], 1))

    model, graph, _ = _proved(Net(forward, a=conv(3, 16), b=conv(16, 4)))
    small = prune_model(model, graph, random_kept(graph, 0))
    assert graph.calls == ()
    assert len(small._forward_pre_hooks) == 0


def _middle(m: Net, x: Tensor) -> Tensor:
    x = m.a(x)
    return m.b(torch.cat([x[:, 5:12].relu(), x.sigmoid()], 1))


def test_numbers_say_what_is_left() -> None:
    model, graph, _ = _proved(Net(_middle, a=conv(3, 16), b=conv(23, 4)))
    sizes = {group.size: group.name for group in graph.groups if group.producers == ("a",)}
    assert set(sizes) == {5, 7, 4}
    kept = {sizes[5]: np.array([0, 2]), sizes[7]: np.array([1, 2, 6]), sizes[4]: np.array([3])}
    with torch.no_grad():
        small = prune_model(model, graph, kept)
        hooks = next(iter(small._forward_pre_hooks.values())).__self__
        (found,) = hooks.changes.values()
        assert {path[-1]: value for path, value in found.items()} == {"start": 2, "stop": 5}
    stays = [6, 7, 11]
    assert torch.equal(small.b.weight, model.b.weight[:, [1, 2, 6, *(7 + c for c in (0, 2, *stays, 15))]])


@pytest.mark.parametrize("width", [2, 3, 8])
@pytest.mark.parametrize("group", ["a", "b"])
def test_a_size_may_be_that_of_other_channels(group: str, width: int) -> None:
    def forward(m: Net, x: Tensor) -> Tensor:
        x = F.relu(m.a(x))
        n, c, h, w = x.shape
        return m.c(m.b(x).flatten(2).view(n, c, h, w)) + m.d(x)

    model, graph, images = _proved(
        Net(forward, a=conv(3, width), b=conv(width, width), c=conv(width, 4), d=conv(width, 4))
    )
    kept = {group: np.arange(1, width, 2)}
    with torch.no_grad():
        torch.testing.assert_close(
            prune_model(model, graph, kept)(images), zeroed(model, graph, kept)(images), rtol=1e-9, atol=1e-9
        )


def test_a_picked_channel_stays() -> None:
    model, graph, images = _proved(
        Net(lambda m, x: m.b(m.a(x) * m.a(x)[:, 3].unsqueeze(1).sigmoid()), a=conv(3, 8), b=conv(8, 4))
    )
    reasons = [group.reason for group in graph.groups if group.producers[0] == "a"]
    assert sum(reason is None for reason in reasons) >= 1
    assert any("picked by its number" in str(reason) for reason in reasons)
    assert check_surgery(model, graph, images, policies=4).distance < 1e-10


def test_an_unsupported_use_is_refused_with_its_reason() -> None:
    _, graph, _ = _proved(
        Net(lambda m, x: m.b(m.a(x)[:, m.a(x).mean((0, 2, 3)).argsort()]), a=conv(3, 8), b=conv(8, 4))
    )
    assert all(group.reason for group in graph.groups)
