"""What the graph says of small networks whose groups can be written down by hand."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F
import torchvision
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from autoprune.errors import UsageError
from autoprune.graph import build_graph, known_ops

from ._nets import Net, conv

IMAGES = torch.zeros(1, 3, 6, 6)


class OptionA(nn.Module):
    """Two stages of 4 and 8 channels; the shortcut between them is padded with two channels of zeros on each side."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = conv(3, 4)
        self.inner = conv(4, 6)
        self.outer = conv(6, 4)
        self.down = conv(4, 8, stride=2)
        self.head = nn.Linear(8, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.stem(x))
        x = F.relu(x + self.outer(F.relu(self.inner(x))))
        x = F.relu(F.pad(x[:, :, ::2, ::2], (0, 0, 0, 0, 2, 2)) + self.down(x))
        return self.head(x.mean((2, 3)))


def test_zero_padded_shortcut() -> None:
    graph = build_graph(OptionA(), IMAGES)
    assert [(g.name, g.size, g.kind, g.reason is None) for g in graph.groups] == [
        ("stem", 4, "residual", True),
        ("inner", 6, "inner", True),
        ("down", 4, "inner", False),
        ("head", 5, "inner", False),
    ]
    stem, inner, down, _ = graph.groups
    assert "zeros" in str(down.reason)
    assert stem.producers == ("stem", "outer", "down")
    assert stem.consumers == ("inner", "down", "head")
    slices = {(s.tensor, s.dim): s.position.tolist() for s in stem.slices}
    assert slices == {
        ("stem.weight", 0): [0, 1, 2, 3],
        ("stem.bias", 0): [0, 1, 2, 3],
        ("inner.weight", 1): [0, 1, 2, 3],
        ("outer.weight", 0): [0, 1, 2, 3],
        ("outer.bias", 0): [0, 1, 2, 3],
        ("down.weight", 1): [0, 1, 2, 3],
        ("down.weight", 0): [2, 3, 4, 5],
        ("down.bias", 0): [2, 3, 4, 5],
        ("head.weight", 1): [2, 3, 4, 5],
    }
    assert all(s.unit.tolist() == [0, 1, 2, 3] for s in stem.slices)
    assert {s.tensor for s in inner.slices} == {"inner.weight", "inner.bias", "outer.weight"}
    head = graph.layers[-1]
    assert head.in_group.tolist() == [2, 2, 0, 0, 0, 0, 2, 2]
    assert head.in_unit.tolist() == [0, 1, 0, 1, 2, 3, 2, 3]
    assert graph.layers[0].in_group.tolist() == [-1, -1, -1]


def test_flattened_channels_own_their_columns() -> None:
    model = Net(lambda m, x: m.head(m.a(x).flatten(1)), a=conv(3, 4), head=nn.Linear(144, 2))
    graph = build_graph(model, IMAGES)
    columns = next(s for s in graph.group("a").slices if s.tensor == "head.weight")
    assert columns.dim == 1
    assert columns.unit.tolist() == [c for c in range(4) for _ in range(36)]
    assert graph.layers[1].in_unit.tolist() == columns.unit.tolist()


def test_grouped_convolution_keeps_groups_together() -> None:
    model = Net(lambda m, x: m.c(m.b(m.a(x))), a=conv(3, 4), b=conv(4, 8, groups=2), c=conv(8, 2))
    group = build_graph(model, IMAGES).group("a")
    units = {(s.tensor, s.dim): s.unit.tolist() for s in group.slices}
    assert group.size == 2
    assert units["a.weight", 0] == [0, 0, 1, 1]
    assert units["b.weight", 0] == [0, 0, 0, 0, 1, 1, 1, 1]
    assert ("b.weight", 1) not in units


def test_gate_does_not_make_a_group_residual() -> None:
    model = Net(lambda m, x: m.c(m.a(x) * torch.sigmoid(m.b(x))), a=conv(3, 4), b=conv(3, 4), c=conv(4, 2))
    assert build_graph(model, IMAGES).group("a").kind == "inner"


def test_layers_of_resnet18() -> None:
    model = torchvision.models.resnet18(weights=None)
    model.layer1.eval()
    modes = [module.training for module in model.modules()]
    images = torch.randn(1, 3, 64, 64)
    graph = build_graph(model, images)
    assert [module.training for module in model.modules()] == modes
    assert graph.dynamic_batch
    assert not graph.proved
    assert graph.program.state_dict["conv1.weight"].data_ptr() == model.conv1.weight.data_ptr()
    first, last = graph.layers[0], graph.layers[-1]
    assert (first.name, first.op, first.kernel, first.stride, first.padding, first.groups) == (
        "conv1",
        "conv",
        (7, 7),
        (2, 2),
        (3, 3),
        1,
    )
    assert (first.norm, first.bias, first.out_shape) == ("bn1", None, (2, 64, 32, 32))
    assert (last.name, last.op, last.bias, last.norm, last.kernel) == ("fc", "linear", "fc.bias", None, ())
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        model.eval()(images)
    assert sum(layer.macs for layer in graph.layers) * 2 == counter.get_total_flops()
    assert [g.name for g in graph.groups if g.kind == "residual"] == [
        "conv1",
        "layer2.0.conv2",
        "layer3.0.conv2",
        "layer4.0.conv2",
    ]


@pytest.mark.parametrize(
    ("layer", "shape"),
    [
        (nn.ConvTranspose2d(3, 4, 3, stride=2, groups=1), (1, 3, 6, 6)),
        (nn.Conv2d(3, 6, 3, groups=3), (1, 3, 6, 6)),
        (nn.Conv1d(3, 4, 3, dilation=2), (1, 3, 9)),
        (nn.Conv3d(3, 4, 2), (1, 3, 4, 4, 4)),
        (nn.Linear(5, 7), (1, 3, 5)),
    ],
)
def test_macs_equal_the_flop_counter(layer: nn.Module, shape: tuple[int, ...]) -> None:
    images = torch.zeros(shape)
    (found,) = build_graph(layer, images).layers
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        layer(images)
    assert 2 * found.macs == counter.get_total_flops()


def test_shared_layer_is_named_once_per_call() -> None:
    model = Net(lambda m, x: m.b(m.a(F.relu(m.a(x)))), a=conv(3, 3), b=conv(3, 2))
    assert [layer.name for layer in build_graph(model, IMAGES).layers] == ["a", "a#2", "b"]


def test_fixed_batch_is_traced_as_it_is() -> None:
    model = Net(lambda m, x: m.b(m.a(x).view(4, 4, 6, 6)), a=conv(3, 4), b=conv(4, 2))
    graph = build_graph(model, torch.zeros(4, 3, 6, 6))
    assert not graph.dynamic_batch
    assert graph.layers[0].in_shape == (4, 3, 6, 6)


def test_unknown_operator_is_named_with_its_line() -> None:
    model = Net(lambda m, x: m.b(torch.linalg.matrix_exp(m.a(x))), a=conv(3, 4), b=conv(4, 2))
    graph = build_graph(model, IMAGES)
    reason = str(graph.group("a").reason)
    assert "aten.linalg_matrix_exp" in reason
    assert "_cases.py:" in reason
    assert [refusal.reason for refusal in graph.refusals] == [reason]
    assert "aten.linalg_matrix_exp" not in known_ops()


def test_frozen_groups_say_why_and_the_rest_goes_on() -> None:
    model = Net(lambda m, x: m.c(F.relu(m.b(m.a(x).softmax(1)))), a=conv(3, 4), b=conv(4, 6), c=conv(6, 2))
    graph = build_graph(model, IMAGES)
    assert "channels are mixed" in str(graph.group("a").reason)
    assert graph.group("b").reason is None
    assert graph.layers[1].in_group.tolist() == [-1] * 4  # what comes out of the operator is nobody's
    assert np.unique(graph.layers[2].in_group).tolist() == [1]


def test_forward_that_keeps_an_activation_leaves_none_behind() -> None:
    def forward(m: Net, x: Tensor) -> Tensor:
        m.seen = m.a(x)
        return m.b(m.seen)

    model = Net(forward, a=conv(3, 4), b=conv(4, 2))
    build_graph(model, IMAGES)
    assert not hasattr(model, "seen")


def test_input_that_does_not_fit() -> None:
    with pytest.raises(UsageError, match=r"does not run on an input of shape \(1, 4, 6, 6\)"):
        build_graph(conv(3, 4), torch.zeros(1, 4, 6, 6))


def test_empty_example_is_refused() -> None:
    with pytest.raises(UsageError, match="at least one image"):
        build_graph(conv(3, 4), torch.zeros(0, 3, 6, 6))
