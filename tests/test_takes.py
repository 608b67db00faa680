"""What is no network of one tensor of images, or no such tensor, is refused in one sentence with the true reason."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.data import TensorDataset

from autoprune import UsageError, build_graph, search
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
    "dict": ({"image": IMAGES}, "is a dict with the keys image"),
    "tuple": ((IMAGES, IMAGES), "is a tuple of 2"),
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
        "search": lambda: search(model, example, calibration=IMAGES, evaluate=data, episodes=1),
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
