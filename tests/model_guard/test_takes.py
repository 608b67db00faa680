"""What is no network of one tensor of images, or no such tensor, is refused in one sentence with the true reason."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.data import TensorDataset

from autoprune import UsageError, search
from autoprune.graph import PruningGraph, build_graph, proved_graph
from autoprune.inspection import inspect_model

IMAGES = torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(0))


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.head = nn.Conv2d(3, 8, 3), nn.Conv2d(8, 8, 3), nn.Linear(8, 4)

    def logits(self, x: Tensor) -> Tensor:
        return self.head(F.relu(self.b(F.relu(self.a(x)))).mean((2, 3)))  # type: ignore[no-any-return]

    def forward(self, x: Tensor) -> Tensor:
        return self.logits(x)


def net(forward: Callable[..., Any]) -> nn.Module:
    """Return a network whose class has this forward."""
    return type("Made", (Net,), {"forward": forward})()  # type: ignore[no-any-return]


FORWARDS: dict[str, tuple[Callable[..., Any], str]] = {
    "two": (lambda self, x, y: self.logits(x + y), r"needs 2 inputs \(x, y\)"),
    "three, one with a default": (lambda self, x, y=0, *, z: self.logits(x + y + z), r"needs 2 inputs \(x, z\)"),
    "by keyword": (lambda self, *, x: self.logits(x), r"by keyword only \(x\)"),
    "any keywords": (lambda self, **images: self.logits(images["x"]), r"by keyword only \(images\)"),
    "none": (lambda self: self.logits(IMAGES), "takes no input"),
    "a dict": (lambda self, batch: self.logits(batch["pixels"]), "asks its input for 'pixels' as if it were a dict"),
    "a dict's method": (lambda self, batch: self.logits(batch.get("x")), "has no attribute 'get'"),
    "a list": (lambda self, batch: self.logits(batch[0]), r"does not run on an input of shape \(2, 3, 8, 8\)"),
    "fails": (lambda self, x: {}[x.shape[1]], "KeyError: 3"),
}
"""Forwards, and what is said of each."""

EXAMPLES: dict[str, tuple[Any, str]] = {
    "dict": ({"image": IMAGES}, r"is a dict with the keys image|does not run on an input of shape \(2, 3, 8, 8\)"),
    "tuple": ((IMAGES, IMAGES), r"is a tuple of 2|takes x, but it is called with 2 inputs by position"),
    "empty tuple": ((), "is a tuple of 0|no tensor with a batch dimension"),
    "too few": ((IMAGES, IMAGES[:1]), r"is a tuple of 2|shapes \(2, 3, 8, 8\), \(1, 3, 8, 8\) disagree"),
    "array": (IMAGES.numpy(), "of type numpy.ndarray"),
    "nothing": (None, "of type NoneType"),
    "sparse": (IMAGES.to_sparse(), "torch.sparse_coo"),
    "complex": (IMAGES + 1j, "torch.complex64"),
    "whole numbers": (IMAGES.to(torch.uint8), "type torch.uint8"),
    "double": (IMAGES.double(), "type torch.float64"),
    "a number": (torch.tensor(1.0), r"shape \(\)"),
}
"""Example inputs, and what is said of each."""


def doors(model: nn.Module, example: Any) -> dict[str, Callable[[], Any]]:
    data = TensorDataset(IMAGES, torch.tensor([0, 1]))
    return {
        "graph": lambda: build_graph(model, example),
        "inspect": lambda: inspect_model(model, example),
        "search": lambda: search(model, example, calibration=IMAGES, evaluate=data, budget=0.5, episodes=1),
    }


@pytest.mark.parametrize("door", ["graph", "inspect", "search"])
@pytest.mark.parametrize("name", FORWARDS)
def test_a_network_that_takes_no_tensor_of_images_is_refused(name: str, door: str) -> None:
    forward, said = FORWARDS[name]
    with pytest.raises(UsageError, match=said) as refused:
        doors(net(forward), IMAGES)[door]()
    assert "\n" not in str(refused.value)
    assert "export" not in str(refused.value)


@pytest.mark.parametrize("door", ["graph", "inspect", "search"])
@pytest.mark.parametrize("name", EXAMPLES)
def test_an_example_that_is_no_tensor_of_images_is_refused(name: str, door: str) -> None:
    example, said = EXAMPLES[name]
    with pytest.raises(UsageError, match=said):
        doors(Net(), example)[door]()


def test_further_inputs_with_defaults_are_left_alone() -> None:
    graph = proved(net(lambda self, x, mask=None, *, scale=1.0: self.logits(x * scale)), IMAGES)
    assert [group.reason is None for group in graph.groups] == [True, True, False]


def proved(model: nn.Module, example: Tensor) -> PruningGraph:
    model.eval()
    return proved_graph(model, example)


def test_whole_numbers_as_the_input_are_proved_and_searched() -> None:
    class Tokens(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.table, self.hidden, self.head = nn.Embedding(10, 8), nn.Linear(8, 12), nn.Linear(12, 4)

        def forward(self, tokens: Tensor) -> Tensor:
            return self.head(F.relu(self.hidden(self.table(tokens))).mean(1))  # type: ignore[no-any-return]

    model, tokens = Tokens(), torch.randint(0, 10, (24, 5))
    reasons = {group.name: group.reason for group in proved(model, tokens[:2]).groups}
    assert reasons["hidden"] is None
    data = TensorDataset(tokens, torch.arange(24) % 4)
    found = search(
        model, tokens[:2], calibration=tokens, evaluate=data, budget=0.7, agent="uniform", episodes=1, finish_steps=0
    )
    assert found.model(tokens).shape == (24, 4)
    assert found.model.get_submodule("hidden").out_features < 12


def test_networks_without_groups_or_layers_are_shown() -> None:
    for layers in ([nn.ReLU()], [nn.GroupNorm(1, 3)], [nn.MaxPool2d(2), nn.BatchNorm2d(3)]):
        found = inspect_model(nn.Sequential(*layers), IMAGES)
        assert (found["macs"], found["groups"]) == (0, [])


@pytest.mark.parametrize("kind", ["mask", "weight norm", "hooked spectral norm"])
def test_recurrent_layers_with_computed_weights_are_copied(kind: str) -> None:
    class Recurrent(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv, self.lstm, self.head = nn.Conv2d(3, 8, 3), nn.LSTM(8, 8, batch_first=True), nn.Linear(8, 4)

        def forward(self, x: Tensor) -> Tensor:
            return self.head(self.lstm(self.conv(x).flatten(2).transpose(1, 2))[0].mean(1))  # type: ignore[no-any-return]

    model = Recurrent()
    if kind == "mask":
        nn.utils.prune.random_unstructured(model.lstm, "weight_ih_l0", 0.5)
    elif kind == "weight norm":
        with pytest.warns(FutureWarning):
            nn.utils.weight_norm(model.lstm, "weight_hh_l0")
    else:
        nn.utils.spectral_norm(model.lstm, "weight_hh_l0")
    graph = proved(model, IMAGES)
    assert {group.name for group in graph.groups} == {"conv", "head"}
