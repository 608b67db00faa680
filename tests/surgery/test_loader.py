"""``load.py``: run in a process that cannot import autoprune, it gives the pruned network's outputs, or says why it cannot."""

from __future__ import annotations

import ast
import importlib.util
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from autoprune.graph import PruningGraph, proved_graph
from autoprune.model_guard import as_inputs
from autoprune.support.tensors import save_safetensors_atomic
from autoprune.surgery import LOADER, loader_text, prune_model

from .._sample import pick

NETS = '''
import torch
from torch import nn
import torch.nn.functional as F


class Plain(nn.Module):
    def __init__(self):
        super().__init__()
        self.first = nn.Conv2d(3, 8, 3, padding=1)
        self.second = nn.Conv2d(8, 10, 3, padding=1)
        self.hidden = nn.Linear(10 * 8 * 8, 12)
        self.head = nn.Linear(12, 5)

    def forward(self, x):
        y = F.max_pool2d(F.relu(self.second(F.relu(self.first(x)))), 2)
        return self.head(F.relu(self.hidden(y.view(y.shape[0], -1))))


class Residual(nn.Module):
    def __init__(self):
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(8)
        self.wide = nn.Conv2d(8, 16, 1)
        self.depth = nn.Conv2d(16, 16, 3, padding=1, groups=16)
        self.group = nn.GroupNorm(4, 16)
        self.back = nn.Conv2d(16, 8, 1)
        self.act = nn.PReLU(8)
        self.layer = nn.LayerNorm(8)
        self.head = nn.Linear(8, 5)

    def forward(self, x):
        x = self.act(self.norm(self.stem(x)))
        x = x + self.back(F.relu(self.group(self.depth(self.wide(x)))))
        return self.head(self.layer(x.mean((2, 3))))


class Tied(nn.Module):
    """A module under two names, tied weights, a recurrent layer, three numbers of its own that the forward cuts by."""

    def __init__(self):
        super().__init__()
        self.first = nn.Conv2d(3, 12, 3, padding=1)
        self.inner = nn.Conv2d(12, 12, 1)
        self.again = self.inner
        self.other = nn.Conv2d(12, 12, 1)
        self.other.weight = self.inner.weight
        self.lstm = nn.LSTM(12, 6, batch_first=True)
        self.head = nn.Linear(6, 5)

    def forward(self, x):
        x = F.relu(self.first(x))
        x = F.relu(self.inner(x)) + F.relu(self.other(x))
        return self.head(self.lstm(F.avg_pool2d(x, 8).flatten(2).transpose(1, 2))[0][:, -1])


class Cut(nn.Module):
    """Cuts channels by attributes of its own."""

    def __init__(self):
        super().__init__()
        self.sizes = (6, 10)
        self.both = nn.Conv2d(3, 16, 3, padding=1)
        self.left = nn.Conv2d(6, 4, 1)
        self.right = nn.Conv2d(10, 4, 1)
        self.head = nn.Linear(8, 5)

    def forward(self, x):
        a, b = torch.split(F.relu(self.both(x)), self.sizes, 1)
        return self.head(torch.cat([self.left(a), self.right(b)], 1).mean((2, 3)))


def model(name):
    torch.manual_seed(0)
    if name in globals():
        return globals()[name]().eval()
    import torchvision

    return torchvision.models.get_model(name, weights=None, num_classes=7).eval()
'''
RUN = """
import importlib.util, sys
from pathlib import Path

class Blocked:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] == "autoprune":
            raise ModuleNotFoundError(name)

sys.meta_path.insert(0, Blocked())
import torch
from safetensors.torch import load_file, save_file
from nets import model

try:
    import autoprune
except ModuleNotFoundError:
    pass
else:
    raise SystemExit("autoprune is there")
images = load_file("images.safetensors")
found = {}
for name in sys.argv[1:]:
    spec = importlib.util.spec_from_file_location(f"load_{name}", Path(name) / "load.py")
    loader = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(loader)
    torch.manual_seed(99)
    network = loader.load(model(name)).double()
    assert not network.training
    with torch.no_grad():
        found[name] = network(images[name])
    found[f"{name}.trains"] = torch.tensor(all(p.requires_grad for p in network.parameters()))
assert "autoprune" not in sys.modules
save_file(found, "outputs.safetensors")
"""
TORCHVISION = ["resnet18", "mobilenet_v2", "shufflenet_v2_x0_5"]


def of_file(path: Path, name: str) -> Any:
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def pruned(model: nn.Module, images: Tensor) -> tuple[nn.Module, PruningGraph]:
    graph = proved_graph(model, images)
    rng = np.random.default_rng(3)
    kept = {}
    for group in graph.groups:
        if group.reason is None:
            count = max(1, round(group.size * rng.uniform(0.3, 0.8)))
            kept[group.name] = np.sort(rng.permutation(group.size)[:count])
    assert kept
    small = prune_model(model, graph, kept)
    with torch.no_grad():  # refitted weights are not slices
        for parameter in small.parameters():
            parameter.add_(0.01 * torch.randn_like(parameter))
    return small.eval(), graph


def test_a_process_without_autoprune_computes_what_the_pruned_network_computes(tmp_path: Path) -> None:
    (tmp_path / "nets.py").write_text(NETS)
    nets = of_file(tmp_path / "nets.py", "nets_of_the_loader_test")
    names = ["Plain", "Residual", "Tied", "Cut", *pick(TORCHVISION, 1)]
    images, wanted = {}, {}
    for name in names:
        side = 32 if name in TORCHVISION else 16
        images[name] = torch.randn(2, 3, side, side, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
        model = nets.model(name)
        small, graph = pruned(model, images[name].float())
        save_safetensors_atomic(tmp_path / name / "model.safetensors", small.state_dict())
        (tmp_path / name / LOADER).write_text(loader_text(model, small, graph))
        with torch.no_grad():
            wanted[name] = small.double()(images[name])
            assert not torch.allclose(wanted[name], model.double()(images[name]))
    save_safetensors_atomic(tmp_path / "images.safetensors", images)
    command = [sys.executable, "-c", RUN, *names]
    done = subprocess.run(command, cwd=tmp_path, env={"PATH": ""}, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    from safetensors.torch import load_file

    found = load_file(tmp_path / "outputs.safetensors")
    for name in names:
        torch.testing.assert_close(found[name], wanted[name], rtol=1e-9, atol=1e-9)
        assert found[f"{name}.trains"]


@pytest.fixture
def plain(tmp_path: Path) -> tuple[Any, nn.Module]:
    """The loader of a pruned network, and the nets."""
    (tmp_path / "nets.py").write_text(NETS)
    nets = of_file(tmp_path / "nets.py", "nets_of_the_loader_test")
    model = nets.model("Plain")
    small, graph = pruned(model, torch.randn(2, 3, 16, 16))
    save_safetensors_atomic(tmp_path / "model.safetensors", small.state_dict())
    (tmp_path / LOADER).write_text(loader_text(model, small, graph))
    return of_file(tmp_path / LOADER, "load_of_the_loader_test"), nets


def test_another_network_is_refused_in_a_sentence(plain: tuple[Any, Any], tmp_path: Path) -> None:
    loader, nets = plain
    with pytest.raises(ValueError, match=r"is not in both model and .*; make the network that was pruned"):
        loader.load(nets.model("Residual"))
    narrow = nets.model("Plain")
    narrow.first = nn.Conv2d(3, 1, 3)
    with pytest.raises(ValueError, match=r"'first\.weight' of .* does not fit this model"):
        loader.load(narrow)
    longer = nets.model("Plain")
    longer.more = nn.Linear(2, 2)
    with pytest.raises(ValueError, match=r"'more\.(weight|bias)' is not in both"):
        loader.load(longer)


def test_frozen_weights_other_types_and_another_file(plain: tuple[Any, Any], tmp_path: Path) -> None:
    loader, nets = plain
    network = nets.model("Plain").double()
    network.head.weight.requires_grad_(False)
    moved = (tmp_path / "model.safetensors").rename(tmp_path / "elsewhere.safetensors")
    loaded = loader.load(network, moved)
    assert loaded is network
    assert loaded.head.weight.dtype == torch.float64
    assert not loaded.head.weight.requires_grad
    assert loaded.first.out_channels == loaded.first.weight.shape[0] == loaded.second.in_channels < 8


class Coded(nn.Module):
    """Names numbers of channels in its code."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, 8, 3, padding=1)
        self.head = nn.Linear(8, 5)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.head(self.first(x).relu().view(len(x), 8, 256).mean(2))
        return y


class Hidden(nn.Module):
    """Keeps channels in a tensor that is not saved."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, 8, 3, padding=1)
        self.register_buffer("scale", torch.rand(1, 8, 1, 1) + 0.5, persistent=False)
        self.head = nn.Linear(8, 5)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.head((self.first(x).relu() * self.scale).mean((2, 3)))
        return y


class Spectral(Coded):
    def __init__(self) -> None:
        super().__init__()
        self.first = torch.nn.utils.parametrizations.spectral_norm(self.first)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.head(self.first(x).relu().mean((2, 3)))
        return y


def test_numbers_in_code_that_stay_right_are_no_hindrance(tmp_path: Path) -> None:
    class Two(Coded):
        def __init__(self) -> None:
            super().__init__()
            self.second = nn.Conv2d(3, 8, 3, padding=1)
            self.third = nn.Conv2d(8, 3, 3, padding=1)

        def forward(self, x: Tensor) -> Tensor:
            return super().forward(self.third(self.second(x).relu()))

    torch.manual_seed(0)
    model, images = Two().eval(), torch.randn(2, 3, 16, 16)
    graph = proved_graph(model, images)
    assert graph.calls
    for kept, refused in (({"second": np.arange(5)}, False), ({"first": np.arange(5)}, True)):
        small = prune_model(model, graph, kept).eval()
        save_safetensors_atomic(tmp_path / "model.safetensors", small.state_dict())
        (tmp_path / LOADER).write_text(loader_text(model, small, graph, inputs=as_inputs(images)))
        loader = of_file(tmp_path / LOADER, "load_of_the_loader_test")
        assert bool(loader.REFUSED) == refused
        if not refused:
            assert torch.equal(loader.load(Two())(images), small(images))


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        (Coded, "The code of '' names numbers of channels in its calls"),
        (Hidden, "The tensor 'scale' was pruned and is not among the saved weights"),
        (Spectral, r"computes 'first\.weight' \(spectral norm\)"),
    ],
)
def test_what_weights_and_numbers_do_not_make_is_refused_with_what_to_do(
    kind: type[nn.Module], words: str, tmp_path: Path
) -> None:
    torch.manual_seed(0)
    model = kind().eval()
    small, graph = pruned(model, torch.randn(2, 3, 16, 16))
    (tmp_path / LOADER).write_text(loader_text(model, small, graph))
    with pytest.raises(NotImplementedError, match=f"{words}.*Rebuild the network with autoprune.load_pruned"):
        of_file(tmp_path / LOADER, "load_of_the_loader_test").load(kind())


def test_names_that_look_like_code_stay_names(tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = nn.Sequential()
    model.add_module("a'\n\" = {}", nn.Conv2d(3, 8, 3))
    model.add_module("b", nn.Conv2d(8, 4, 3))
    small, graph = pruned(model.eval(), torch.randn(2, 3, 16, 16))
    save_safetensors_atomic(tmp_path / "model.safetensors", small.state_dict())
    (tmp_path / LOADER).write_text(loader_text(model, small, graph))
    loaded = of_file(tmp_path / LOADER, "load_of_the_loader_test").load(model)
    images = torch.randn(2, 3, 16, 16)
    assert torch.equal(loaded(images), small(images))


@pytest.mark.parametrize("name", ['say "so"', "it's", "\\", "\u6f22\U0001f600"])
def test_names_of_any_characters_are_code(name: str, tmp_path: Path) -> None:
    model = nn.Sequential(nn.Conv2d(3, 6, 3), nn.ReLU(), nn.Conv2d(6, 4, 3))
    wrapped = nn.Module()
    wrapped.add_module(name, model)
    graph = proved_graph(model, torch.zeros(2, 3, 8, 8))
    small = prune_model(model, graph, {graph.groups[0].name: np.array([0, 2, 5])})
    smaller = nn.Module()
    smaller.add_module(name, small)
    tree = ast.parse(loader_text(wrapped, smaller, graph))
    assigned = [node.value for node in tree.body if isinstance(node, ast.Assign | ast.AnnAssign)]
    tables = [ast.literal_eval(value) for value in assigned if value is not None]
    assert {f"{name}.0": {"out_channels": 3}, f"{name}.2": {"in_channels": 3}} in tables
