"""What ``inspect`` says to people: the tree, the letters, names put together, reasons."""

from __future__ import annotations

import io
from typing import Any

import pytest
import torch
from rich.console import Console
from torch import nn

from autoprune.inspection import inspect_model, inspection_text, inspection_view, letters, together, tree_rows
from autoprune.models import load_model


@pytest.fixture(scope="module")
def found() -> dict[str, Any]:
    model = load_model("cifar-resnet20").model
    return {"model": "cifar-resnet20", "input_shape": [3, 32, 32], **inspect_model(model, torch.zeros(2, 3, 32, 32))}


def test_letters_are_those_of_a_spreadsheet() -> None:
    assert [letters(i) for i in (0, 1, 25, 26, 51, 52, 701, 702)] == ["A", "B", "Z", "AA", "AZ", "BA", "ZZ", "AAA"]


def test_names_that_differ_in_numbers_only_are_put_together() -> None:
    names = ["conv1", "layer1.0.conv2", "layer1.1.conv2", "layer1.2.conv2", "fc"]
    assert together(names) == "conv1, layer1.*.conv2 (3), fc"
    assert together(["layer1.0.conv1", "layer2.0.conv1"]) == "layer*.0.conv1 (2)"
    assert together([]) == ""


def test_tree_of_names() -> None:
    rows = tree_rows(["stem", "body.0.a", "body.0.b", "body.1.branch.a", "head", "head.extra"])
    assert [before + name for before, name, _ in rows] == [
        "stem",
        "body",
        "├─ 0",
        "│  ├─ a",
        "│  └─ b",
        "└─ 1.branch.a",
        "head",
        "└─ extra",
    ]
    assert [number for *_, number in rows] == [0, None, None, 1, 2, 3, 4, 5]


def test_every_layer_and_group_and_reason_is_there(found: dict[str, Any]) -> None:
    text = inspection_text(found)
    lines = text.splitlines()
    assert lines[0].startswith("cifar-resnet20 on 3x32x32: ")
    assert "40,551,040 MACs, 269,722 parameters, 20 layers" in lines[0]
    assert sum(" → " in line for line in lines) == 20
    assert any(line.startswith("conv1 ") and "image → A" in line for line in lines)
    assert any("layer1.0.conv1" in line and "yes" in line for line in lines)
    for group in found["groups"]:
        assert group["reason"] is None or group["reason"] in text
        assert any(line.split()[:2] == [group["letter"], group["name"]] for line in lines)
    assert "it crosses a residual join; add --include-residual" in text
    assert not any(line.endswith(" ") for line in lines)


def test_layers_name_the_groups_they_read_and_make(found: dict[str, Any]) -> None:
    layers = {layer["name"]: layer for layer in found["layers"]}
    assert layers["conv1"]["in_groups"] == []
    assert layers["layer1.1.conv1"]["in_groups"] == layers["layer1.0.conv2"]["out_groups"] == ["conv1"]
    assert layers["layer1.1.conv1"]["out_groups"] == ["layer1.1.conv1"]


def test_colours_in_a_terminal_and_none_in_a_file(found: dict[str, Any]) -> None:
    console = Console(file=io.StringIO(), force_terminal=True, color_system="truecolor", width=100)
    with console.capture() as capture:
        console.print(inspection_view(found))
    assert "\x1b[" in capture.get()
    assert "\x1b" not in inspection_text(found)


def test_at_80_columns_nothing_is_cut_and_the_layers_fit(found: dict[str, Any]) -> None:
    lines = inspection_text(found, width=80).splitlines()
    assert not any("…" in line for line in lines)
    layers = lines[: lines.index("", 2)]
    assert max(map(len, layers)) <= 80
    for layer in found["layers"]:
        assert any(line.endswith(f" {layer['params']:,}") for line in layers)
    for group in found["groups"]:
        row = next(line.split() for line in lines if line.split()[:2] == [group["letter"], group["name"]])
        assert row[2] == str(group["channels"])
        assert row[-1] == ("yes" if group["decided"] else "--include-residual" if group["prunable"] else "no")


def test_a_network_with_nothing_to_prune_and_an_unknown_op() -> None:
    class Odd(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first = nn.Conv2d(3, 4, 1)
            self.last = nn.Linear(4, 2)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            out: torch.Tensor = self.last(self.first(x).mean((2, 3)).cumsum(1))
            return out

    text = inspection_text(inspect_model(Odd(), torch.randn(2, 3, 4, 4)))
    assert "No group can be pruned, so only the budget 1 can be met." in text
    assert "cumsum" in text
    assert "they are channels of the network's output" in text
