"""A whole search with finishing over any small network: what it must end with."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import TensorDataset

import autoprune
from autoprune.errors import AutopruneError, UsageError
from autoprune.graph._record import output_tensors

IMAGES, CALIBRATION = 40, 24
BUDGETS = (0.5, 0.75, 0.9)
"""Shares of the MACs, tried in turn until one can be met."""


class Classified(nn.Module):
    """A network of any output as a classifier: means over positions, and with a single one its opposite."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, x: Tensor) -> Tensor:
        out = output_tensors(self.network(x))[0]
        out = out.flatten(2).mean(2) if out.dim() > 2 else out
        out = out[:, None] if out.dim() == 1 else out
        return out if out.shape[1] > 1 else torch.cat([out, -out], 1)


def parts(shape: tuple[int, ...], classes: int) -> tuple[Tensor, TensorDataset]:
    """Return calibration images and labelled ones."""
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(IMAGES, *shape, generator=generator)
    labels = torch.randint(classes, (IMAGES - CALIBRATION,), generator=generator)
    return x[:CALIBRATION], TensorDataset(x[CALIBRATION:], labels)


SETTINGS: tuple[dict[str, Any], ...] = (
    {"agent": "uniform"},
    {"agent": "auto"},
    {"agent": "uniform", "score": "cached", "select": "magnitude"},
    {"agent": "uniform", "select": "lasso", "include_residual": True},
    {"agent": "uniform", "select": "thinet"},
)
"""How to search, each network in one of these ways."""


def whole_search(
    make: Callable[[], nn.Module], shape: tuple[int, ...], settings: Mapping[str, Any], *, tune: bool
) -> str:
    """Search, fine-tune for an epoch if asked, and return how it ended: "pruned", or the sentence with which it was refused.

    Raises:
        AssertionError: if the network found is not what it has to be.
    """
    torch.manual_seed(0)
    model = make().eval()
    with torch.no_grad():
        wrapped = model if _classifies(model, shape) else Classified(model)
        classes = wrapped.eval()(torch.zeros(2, *shape)).shape[1]
    calibration, labelled = parts(shape, classes)
    refused = ""
    for budget in BUDGETS:
        try:
            found = autoprune.search(
                wrapped,
                calibration[:2],
                calibration=calibration,
                evaluate=labelled,
                budget=budget,
                episodes=1,
                finish_steps=2,
                **settings,
            )
        except (UsageError, AutopruneError) as error:
            refused = str(error)
            if "budget" in refused.lower():
                continue
            break
        assert type(found.model) is type(wrapped)
        with torch.no_grad():
            out = found.model(labelled.tensors[0])
        assert out.shape == (IMAGES - CALIBRATION, classes)
        assert torch.isfinite(out).all()
        dense, macs = (found.report[key]["macs"] for key in ("dense", "final"))
        assert macs <= budget * dense
        if tune:
            recipe = autoprune.Recipe(epochs=1, batch_size=8, precision="fp32")
            tuned = autoprune.finetune(found.model, teacher=wrapped, train=labelled, evaluate=labelled, recipe=recipe)
            with torch.no_grad():
                assert torch.isfinite(tuned.model(labelled.tensors[0])).all()
        return "pruned"
    assert refused.strip().endswith(".")
    assert "\n" not in refused
    return refused


def _classifies(model: nn.Module, shape: tuple[int, ...]) -> bool:
    out = model(torch.zeros(2, *shape))
    return isinstance(out, Tensor) and out.dim() == 2 and out.shape[1] > 1
