"""Small classifiers that change themselves when they run, each in another way; images (N, 2, 6, 6) in, 3 logits out."""

from __future__ import annotations

import random
import threading
import warnings
from collections import Counter, OrderedDict, defaultdict, deque
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils import spectral_norm, weight_norm


class Base(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a = nn.Conv2d(2, 8, 3, padding=1)
        self.n = nn.BatchNorm2d(8)
        self.b = nn.Conv2d(8, 6, 3, padding=1)
        self.head = nn.Linear(6, 3)

    def before(self, x: Tensor) -> Tensor:
        return x

    def after(self, x: Tensor) -> Tensor:
        return x

    def forward(self, x: Tensor) -> Tensor:
        y = self.after(F.relu(self.n(self.a(self.before(x)))))
        logits: Tensor = self.head(F.relu(self.b(y)).mean((2, 3)))
        return logits


class Lists(Base):
    def __init__(self) -> None:
        super().__init__()
        self.kept: list[Any] = []
        self.deep: dict[str, Any] = {"a": {"b": [1]}, "c": deque([0], maxlen=3)}
        self.names = {"start"}
        self.counts, self.ordered = Counter({"x": 1}), OrderedDict(z=0, y=1)
        self.found: defaultdict[str, list[Any]] = defaultdict(list)

    def after(self, x: Tensor) -> Tensor:
        self.kept.append(x)
        self.deep["a"]["b"].append(x.shape[2])
        self.deep["c"].append(len(self.kept))
        self.names.add(f"run {len(self.kept)}")
        self.counts["x"] += 1
        self.ordered.move_to_end("z")
        self.found["new"].append(x)
        return x


class LazyHooks(Base):
    def __init__(self) -> None:
        super().__init__()
        self.installed = False
        self.store: list[Tensor] | None = None

    def before(self, x: Tensor) -> Tensor:
        if not self.installed:
            self.a.register_forward_hook(lambda module, given, out: out * 0.5)
            self.b.register_forward_pre_hook(lambda module, given: None)
            self.installed = True
        return x


class Caches(Base):
    """Keeps grids by size, as detectors do, and the shape that it saw last."""

    def __init__(self) -> None:
        super().__init__()
        self.grids: dict[tuple[int, int], Tensor] = {}
        self.shape: Any = None
        self.grid = torch.empty(0)

    def after(self, x: Tensor) -> Tensor:
        size = (x.shape[2], x.shape[3])
        if size not in self.grids:
            self.grids[size] = torch.linspace(0, 1, x.shape[3], dtype=x.dtype, device=x.device)
        if self.shape != x.shape:
            self.shape, self.grid = x.shape, torch.ones(x.shape[2], 1, dtype=x.dtype, device=x.device)
        return x + self.grids[size] * self.grid


class Counters(Base):
    def __init__(self) -> None:
        super().__init__()
        self.calls = 0
        self.register_buffer("seen", torch.zeros((), dtype=torch.long))
        self.register_buffer("average", torch.zeros(8), persistent=False)
        self.last: Tensor | None = None

    def after(self, x: Tensor) -> Tensor:
        self.calls += 1
        self.seen += len(x)
        self.average.mul_(0.9).add_(x.detach().mean((0, 2, 3)), alpha=0.1)
        self.last = x
        return x


class Replaces(Base):
    """Puts another module in the place of its own at the first call, and adds one."""

    def before(self, x: Tensor) -> Tensor:
        if isinstance(self.n, nn.BatchNorm2d):
            self.n = nn.Identity()
            self.extra = nn.Identity()
        return x


class Randomness(Base):
    def before(self, x: Tensor) -> Tensor:
        torch.rand(3)
        np.random.rand(3)  # noqa: NPY002
        random.random()
        return F.dropout(x, 0.5, self.training)


class Flags(Base):
    """Freezes a weight, thaws another, and sets the modes of its parts as it likes."""

    def __init__(self) -> None:
        super().__init__()
        self.a.weight.requires_grad_(False)

    def before(self, x: Tensor) -> Tensor:
        self.b.weight.requires_grad_(False)
        self.a.weight.requires_grad_(True)
        self.n.train(False)
        self.head.train()
        return x


class Clamps(Base):
    """Writes to its weights."""

    def before(self, x: Tensor) -> Tensor:
        with torch.no_grad():
            self.a.weight.clamp_(-0.1, 0.1)
            self.head.bias.data.add_(1e-3)
        return x


class Memory:
    def __init__(self) -> None:
        self.items: list[Any] = []
        self.last: Any = None


class Objects(Base):
    """Keeps things in an object of its own code, in modules that it does not register, and a lock."""

    def __init__(self) -> None:
        super().__init__()
        self.memory = Memory()
        self.lock = threading.Lock()
        self.hidden = [nn.BatchNorm2d(2)]

    def before(self, x: Tensor) -> Tensor:
        self.memory.items.append(x.shape[0])
        self.memory.last = x
        self.hidden[0].eval()
        with self.lock:
            return x


def plain() -> nn.Module:
    """In train mode but for a frozen norm; channels-last weights; gradients from a step before."""
    model = Base().to(memory_format=torch.channels_last)
    model(torch.randn(2, 2, 6, 6)).sum().backward()
    model.n.eval()
    model.n.weight.requires_grad_(False)
    return model


def normed() -> nn.Module:
    """Weights that hooks compute."""
    model = Base()
    with warnings.catch_warnings(action="ignore"):  # weight_norm by hooks is old
        model.a = weight_norm(model.a)
    model.b = spectral_norm(model.b)
    return model


def tied() -> nn.Module:
    """One weight under two names, odd strides, and a buffer that is not persistent."""
    model = Base()
    model.other = nn.Conv2d(2, 8, 3, padding=1)
    model.other.weight = model.a.weight
    model.head.weight = nn.Parameter(torch.randn(6, 3).t())
    model.register_buffer("odd", torch.arange(12.0).view(3, 4)[:, ::2], persistent=False)
    return model


def used() -> nn.Module:
    """Run before, so that it holds results with their graph, filled caches and hooks."""
    model = Lists()
    model(torch.randn(2, 2, 6, 6))
    return model


STATEFUL: dict[str, Callable[[], nn.Module]] = {
    kind.__name__.lower(): kind
    for kind in (Lists, LazyHooks, Caches, Counters, Replaces, Randomness, Flags, Clamps, Objects)
}
STATEFUL |= {make.__name__: make for make in (plain, normed, tied, used)}
