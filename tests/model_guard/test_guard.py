"""Nothing of a user's module differs after any call of ours."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import TensorDataset

import autoprune
from autoprune.cost import counted_macs
from autoprune.errors import AutopruneError, UsageError
from autoprune.exporting import export_model
from autoprune.graph import build_graph, prove
from autoprune.inspection import inspect_model
from autoprune.model_guard import eval_mode, unchanged
from autoprune.runs import check_output
from autoprune.testing import check_surgery
from autoprune.timing import time_networks

from .._pictures import picture
from .._sample import FULL, pick
from .._stateful import STATEFUL
from ..graph._nets import CASES

IMAGES = torch.randn(4, 2, 6, 6, generator=torch.Generator().manual_seed(1))
DATA = TensorDataset(torch.randn(12, 2, 6, 6, generator=torch.Generator().manual_seed(2)), torch.arange(12) % 3)


def _proved(model: nn.Module, images: Tensor, folder: Path) -> None:
    prove(model, build_graph(model, images), images)


def _checked(model: nn.Module, images: Tensor, folder: Path) -> None:
    check_surgery(model, prove(model, build_graph(model, images), images), images, policies=1)


def _search(model: nn.Module, images: Tensor, folder: Path) -> None:
    autoprune.search(
        model,
        images,
        calibration=DATA,
        evaluate=DATA,
        budget=0.5,
        agent="uniform",
        episodes=1,
        finish_steps=2,
        include_residual=True,
    )


def _problem(model: nn.Module, images: Tensor, folder: Path) -> None:
    problem = autoprune.make_problem(model, images, calibration=DATA, evaluate=DATA, report=DATA, finish_steps=2)
    counts = [max(1, group.size // 2) for group in problem.decisions]
    problem.race_against([counts])
    problem.score(counts)
    problem.run(problem.prune(counts))
    problem.run(model)
    problem.sensitivities()
    problem.finish_kept(problem.finish(counts).kept)


def _evaluated(model: nn.Module, images: Tensor, folder: Path) -> None:
    def evaluate(network: nn.Module) -> dict[str, float]:
        with torch.no_grad():
            return {"accuracy": 0.5, "loss": float(network.train()(DATA.tensors[0]).square().mean())}

    autoprune.search(
        model, images, calibration=DATA, evaluate=evaluate, budget=0.5, agent="uniform", episodes=1, finish_steps=0
    )


CALLS: dict[str, Callable[[nn.Module, Tensor, Path], object]] = {
    "build and prove": _proved,
    "inspect": lambda model, images, folder: inspect_model(model, images),
    "macs": lambda model, images, folder: counted_macs(model, images),
    "output": lambda model, images, folder: check_output(model, images),
    "pt2": lambda model, images, folder: export_model(model, images, folder / "a.pt2", format="pt2"),
    "safetensors": lambda model, images, folder: export_model(
        model, images, folder / "a.safetensors", format="safetensors"
    ),
    "time": lambda model, images, folder: time_networks(
        {"dense": model, "same": model}, images, batches=(2,), targets=("eager",), budget_s=0.0
    ),
    "check": _checked,
    "search": _search,
    "search with a function": _evaluated,
    "problem": _problem,
    "finetune": lambda model, images, folder: autoprune.finetune(
        model, train=DATA, evaluate=DATA, teacher=model, epochs=1
    ),
}
PAIRS = [(call, name) for call in CALLS for name in STATEFUL]


def _check(model: nn.Module, call: Callable[[], object]) -> bool:
    """Return whether a call succeeded, and see that it either did or says why, and left no trace."""
    before = picture(model)
    done = False
    with warnings.catch_warnings(), suppress(AutopruneError):
        warnings.simplefilter("ignore")  # what torch says of models as odd as these
        call()
        done = True
    after = picture(model)
    assert after == before, [pair for pair in zip(before, after, strict=False) if pair[0] != pair[1]][:3]
    return done


@pytest.mark.parametrize(("call", "name"), pick(PAIRS, 12))
def test_stateful_model_is_as_it_was(call: str, name: str, tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = STATEFUL[name]()
    _check(model, lambda: CALLS[call](model, IMAGES, tmp_path))


@pytest.mark.parametrize("name", pick(sorted(CASES), 3))
def test_network_of_the_table_is_as_it_was(name: str, tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = CASES[name][0]().train()
    next(iter(model.modules())).eval()
    images = torch.randn(2, 3, 6, 6)
    for call in ("build and prove", "macs", "pt2", "check"):
        _check(model, lambda call=call: CALLS[call](model, images, tmp_path))  # type: ignore[misc]


class Detector(nn.Module):
    """Keeps the places and strides of its outputs until images of another shape come, as YOLO's heads do."""

    def __init__(self, *, per_image: bool) -> None:
        super().__init__()
        self.per_image = per_image
        self.shape: torch.Size | None = None
        self.places, self.strides = torch.empty(0), torch.empty(0)
        self.stem = nn.Conv2d(2, 8, 3, padding=1)
        self.down = nn.Conv2d(8, 8, 3, stride=2, padding=1)
        self.heads = nn.ModuleList(nn.Sequential(nn.Conv2d(8, 8, 3), nn.ReLU(), nn.Conv2d(8, 3, 1)) for _ in range(2))

    def forward(self, x: Tensor) -> Tensor:
        fine = self.stem(x).relu()
        outs = [head(y) for head, y in zip(self.heads, (fine, self.down(fine).relu()), strict=True)]
        if self.shape != x.shape:
            sizes = [out.shape[2] * out.shape[3] for out in outs]
            self.places = torch.cat([torch.linspace(0, 1, size) for size in sizes])
            self.strides = torch.cat([torch.full((size,), 2.0**i) for i, size in enumerate(sizes)])
            if self.per_image:
                self.places = self.places.expand(x.shape[0], 1, -1).clone()
            self.shape = x.shape
        logits: Tensor = (torch.cat([out.flatten(2) for out in outs], 2) * (1 + self.places) * self.strides).mean(2)
        return logits


@pytest.mark.parametrize("first", [0, 1, 2, 3, 5] if FULL else [1, 2])
@pytest.mark.parametrize("per_image", [False, True] if FULL else [True])
def test_shapes_that_a_run_before_left_behind_do_not_end_refitting(per_image: bool, first: int) -> None:
    torch.manual_seed(0)
    model = Detector(per_image=per_image)
    if first:
        model(IMAGES.repeat(2, 1, 1, 1)[:first])
    before = picture(model)
    found = autoprune.search(
        model,
        IMAGES[:2],
        calibration=DATA,
        evaluate=DATA,
        budget=0.6,
        agent="uniform",
        episodes=1,
        finish_steps=0,
    )
    assert not any("refitted" in note for note in found.report["notes"])
    assert picture(model) == before
    assert build_graph(model, IMAGES[:1]).dynamic_batch
    assert picture(model) == before


def test_memory_flags_gradients_and_order_come_back() -> None:
    model = STATEFUL["plain"]()
    model.hooks = [model.register_forward_hook(lambda *_: None) for _ in range(3)]
    old = model.b.weight.grad
    before = picture(model)
    with unchanged(model) as back:
        for _ in range(2):
            model.double().to(memory_format=torch.contiguous_format).requires_grad_(True).train()
            model(DATA.tensors[0].double()).square().sum().backward()
            model.hooks.pop(0).remove()
            del model.b
            model.added = nn.Linear(1, 1)
            model.a.weight = nn.Parameter(torch.zeros(1))
            back()
            assert picture(model) == before
        assert model.b.weight.grad is old
        model.zero_grad()
        torch.manual_seed(5)
    assert picture(model) == before


def test_everything_comes_back_after_an_error() -> None:
    model = STATEFUL["lists"]()
    before = picture(model)

    def fail() -> None:
        with unchanged(model):
            model(IMAGES)
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert picture(model) == before


def test_a_graph_made_before_can_be_walked_back_after() -> None:
    model = STATEFUL["clamps"]().eval()
    loss = model.b(model.a(IMAGES)).sum()
    build_graph(model, IMAGES)
    loss.backward()


def test_every_module_gets_its_own_mode_back() -> None:
    model = STATEFUL["plain"]()
    with eval_mode(model):
        assert not any(module.training for module in model.modules())
    assert [name for name, module in model.named_modules() if not module.training] == ["n"]


def test_lazy_module_without_weights_is_named() -> None:
    model = nn.Sequential(nn.LazyConv2d(4, 3), nn.Conv2d(4, 2, 1))
    for call in ("build and prove", "inspect", "macs", "output", "time"):
        with pytest.raises(UsageError, match=r"'0' \(LazyConv2d\) has no weights yet"):
            CALLS[call](model, IMAGES, Path())
    model(IMAGES)
    assert prove(model, build_graph(model, IMAGES), IMAGES).group("0").reason is None


def test_module_that_is_replaced_at_the_first_call_is_named() -> None:
    model = STATEFUL["replaces"]().eval()
    with pytest.raises(UsageError, match="replaces or adds the module 'n'"):
        build_graph(model, IMAGES)
    model(IMAGES)
    build_graph(model, IMAGES)
