"""The peak of the activations' memory in closed form equals that of a run whose storages are watched."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, fx, nn
from torch.multiprocessing.reductions import StorageWeakRef
from torch.utils import _pytree as pytree
from torch.utils._python_dispatch import TorchDispatchMode
from torchvision.models import get_model
from torchvision.ops import SqueezeExcitation

from autoprune.cost import MemoryCost
from autoprune.errors import UsageError
from autoprune.graph import build_graph, prove
from autoprune.surgery import prune_model

from ..graph._nets import Net, conv
from ..graph._oracle import prunable, random_kept


class _Watched(TorchDispatchMode):
    """Keeps a weak reference to every storage that an operator returns."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: dict[StorageWeakRef, int] = {}

    def add(self, value: Any) -> None:
        for tensor in pytree.tree_leaves(value):
            if isinstance(tensor, Tensor):
                storage = tensor.untyped_storage()
                self.seen.setdefault(StorageWeakRef(storage), storage.nbytes())

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        self.add(result)
        return result

    def alive(self, but: set[StorageWeakRef]) -> int:
        return sum(size for ref, size in self.seen.items() if not ref.expired() and ref not in but)


class _Run(fx.Interpreter):
    """Runs a program, frees what is no longer read, and notes the most bytes that were there between two operators."""

    def __init__(self, program: torch.export.ExportedProgram) -> None:
        super().__init__(program.graph_module)
        self.watched = _Watched()
        self.own: set[StorageWeakRef] = set()
        self.peak = 0

    def run_node(self, n: fx.Node) -> Any:
        result = super().run_node(n)
        self.peak = max(self.peak, self.watched.alive(self.own))
        return result if n.users or n.op != "call_function" else None

    def measure(self, program: torch.export.ExportedProgram, images: Tensor) -> int:
        values: list[Any] = []
        for spec in program.graph_signature.input_specs:
            own = program.state_dict if spec.target in program.state_dict else program.constants
            values.append(images if spec.kind.name == "USER_INPUT" else own[spec.target or ""])
        self.own = {StorageWeakRef(value.untyped_storage()) for value in values if value is not images}
        self.watched.add(images)
        with torch.no_grad(), self.watched:
            self.run(*values)
        return self.peak


def oracle(model: nn.Module, images: Tensor) -> int:
    """Return the peak of a model's own exported program, in bytes."""
    with torch.no_grad():
        program = torch.export.export(model, (images,), strict=False)
    return _Run(program).measure(program, images)


class Standardised(nn.Conv2d):
    """Weights of mean 0 and variance 1."""

    def forward(self, x: Tensor) -> Tensor:
        mean, variance = self.weight.mean((1, 2, 3), keepdim=True), self.weight.var((1, 2, 3), keepdim=True)
        return self._conv_forward(x, (self.weight - mean) / (variance + 1e-3).sqrt(), self.bias)


def _excited() -> nn.Module:
    return Net(
        lambda m, x: m.c(m.s(F.hardswish(m.b(F.relu(m.a(x)))))),
        a=conv(3, 8),
        b=conv(8, 8, groups=8),
        s=SqueezeExcitation(8, 4),
        c=conv(8, 4),
    )


NETS: dict[str, Callable[[], nn.Module]] = {
    "residual": lambda: Net(
        lambda m, x: m.c((y := F.relu(m.a(x))) + m.n(m.b(y))),
        a=conv(3, 8),
        b=conv(8, 8),
        n=nn.BatchNorm2d(8),
        c=conv(8, 4),
    ),
    "concat": lambda: Net(
        lambda m, x: m.c(torch.cat([y := m.a(x), F.max_pool2d(m.b(y), 3, 1, 1), x], 1)),
        a=conv(3, 8),
        b=conv(8, 6),
        c=conv(17, 4),
    ),
    "depthwise, squeeze and excitation": _excited,
    "dict of outputs": lambda: Net(
        lambda m, x: {"out": m.b(y := F.relu(m.a(x))), "aux": m.c(y).mean((2, 3))},
        a=conv(3, 8),
        b=conv(8, 4),
        c=conv(8, 2),
    ),
    "in place, views and cuts": lambda: Net(
        lambda m, x: m.b(torch.cat([y.relu_() for y in m.a(x).chunk(2, 1)[::-1]], 1).flatten(1)),
        a=conv(3, 8),
        b=nn.Linear(288, 4),
    ),
    "tokens": lambda: Net(
        lambda m, x: m.b(F.gelu(m.f(m.n(m.a(x).flatten(2).transpose(1, 2)))).transpose(1, 2).unflatten(2, (6, 6))),
        a=conv(3, 8),
        n=nn.LayerNorm(8),
        f=nn.Linear(8, 10),
        b=conv(10, 4),
    ),
    "weights computed in the forward": lambda: Net(
        lambda m, x: m.c(F.relu(m.b(F.relu(m.a(x))))),
        a=Standardised(3, 16, 3),
        b=Standardised(16, 16, 3),
        c=conv(16, 2, 1),
    ),
    "mobilenet": lambda: get_model("mobilenet_v3_small", weights=None),
}


@pytest.mark.parametrize("name", NETS)
def test_equals_what_is_there(name: str) -> None:
    torch.manual_seed(0)
    model = NETS[name]().eval()
    side = 32 if name == "mobilenet" else 6
    images = torch.randn(2, 3, side, side)
    graph = prove(model, build_graph(model, images), images)
    decisions = prunable(graph)
    cost = MemoryCost(graph, decisions)
    pair = MemoryCost(graph, decisions, batch=2)
    assert cost.dense == oracle(model, images[:1].clone())
    assert pair.dense == oracle(model, images)
    rows = []
    for seed in range(1 if name == "mobilenet" else 3):
        kept = random_kept(graph, seed)
        counts = [len(kept[group.name]) for group in decisions]
        small = prune_model(model, graph, kept)
        assert pair(counts) == oracle(small, images)
        rows.append(counts)
    assert cost.many(np.array(rows)).tolist() == [cost(row) for row in rows]


def test_a_chain_by_hand() -> None:
    model = Net(lambda m, x: m.b(F.relu(m.a(x))), a=conv(3, 8), b=conv(8, 4)).half().eval()
    graph = build_graph(model, torch.randn(2, 3, 6, 6).half())
    cost = MemoryCost(graph, prunable(graph), batch=5)
    image, pixel = 3 * 36 * 2 * 5, 36 * 2 * 5
    assert cost([8]) == image + 2 * 8 * pixel  # the image, what the first layer made and its rectified copy
    assert cost([3]) == image + (3 + 4) * pixel  # the copy and the output
    with pytest.raises(UsageError):
        MemoryCost(graph, prunable(graph), batch=0)
