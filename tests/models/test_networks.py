import numpy as np
import pytest
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from autoprune.graph import build_graph, prove
from autoprune.models import BUILT_IN, CifarResNet, CifarVgg, DigitsNet
from autoprune.models._resnet import PaddedShortcut
from autoprune.surgery import prune_model


def _macs(model: nn.Module, shape: tuple[int, ...]) -> int:
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        model.eval()(torch.zeros(1, *shape))
    return counter.get_total_flops() // 2


def _resnet_sizes(blocks: int) -> tuple[int, int]:
    """MACs and parameters of the CIFAR ResNet, added up from He et al. 2015, section 4.2."""
    macs = 32 * 32 * 9 * 3 * 16 + 64 * 10
    params = 9 * 3 * 16 + 2 * 16 + 64 * 10 + 10
    for before, width, side in ((16, 16, 32), (16, 32, 16), (32, 64, 8)):
        weights = 9 * before * width + (2 * blocks - 1) * 9 * width * width
        macs += side * side * weights
        params += weights + 2 * blocks * 2 * width
    return macs, params


@pytest.mark.parametrize(("name", "blocks"), [("cifar-resnet20", 3), ("cifar-resnet56", 9), ("cifar-plain20", 3)])
def test_resnet_has_the_papers_size(name: str, blocks: int) -> None:
    model = BUILT_IN[name](10)
    assert (_macs(model, (3, 32, 32)), sum(p.numel() for p in model.parameters())) == _resnet_sizes(blocks)


def test_resnet20_has_the_published_number_of_parameters() -> None:
    # 269,722 and 853,018: the table of the published weights' repository (0.27M and 0.85M in the paper's table 6)
    assert _resnet_sizes(3)[1] == 269_722
    assert _resnet_sizes(9)[1] == 853_018


@pytest.mark.parametrize(("depth", "blocks"), [(20, 3), (32, 5), (44, 7), (56, 9), (110, 18)])
def test_resnet_keys_are_those_of_the_published_weights(depth: int, blocks: int) -> None:
    norm = ("weight", "bias", "running_mean", "running_var", "num_batches_tracked")
    expected = {"conv1.weight", "linear.weight", "linear.bias", *(f"bn1.{name}" for name in norm)}
    for stage in (1, 2, 3):
        for block in range(blocks):
            for n in (1, 2):
                expected.add(f"layer{stage}.{block}.conv{n}.weight")
                expected.update(f"layer{stage}.{block}.bn{n}.{name}" for name in norm)
    assert set(BUILT_IN[f"cifar-resnet{depth}"](10).state_dict()) == expected


def test_plain20_is_resnet20_without_what_the_shortcuts_add() -> None:
    plain, residual = CifarResNet(3, residual=False).eval(), CifarResNet(3).eval()
    plain.load_state_dict(residual.state_dict())
    x = torch.randn(2, 3, 32, 32)
    assert not torch.allclose(plain(x), residual(x))
    for block in residual.modules():
        if hasattr(block, "shortcut"):
            block.shortcut = None
    torch.testing.assert_close(plain(x), residual(x))


def test_padded_shortcut_subsamples_and_puts_zeros_on_both_sides() -> None:
    x = torch.randn(2, 4, 6, 6)
    out = PaddedShortcut(4)(x)
    assert out.shape == (2, 8, 3, 3)
    assert torch.equal(out[:, 2:6], torch.nn.functional.avg_pool2d(x, 1, stride=2))
    assert not out[:, :2].any()
    assert not out[:, 6:].any()


def test_vgg16_has_the_published_size() -> None:
    model = CifarVgg()
    widths = [3, 64, 64, 128, 128, 256, 256, 256, 512, 512, 512, 512, 512, 512]
    sides = [32, 32, 16, 16, 8, 8, 8, 4, 4, 4, 2, 2, 2]
    convs = list(zip(widths[:-1], widths[1:], sides, strict=True))
    macs = sum(side * side * 9 * a * b for a, b, side in convs) + 2 * 512 * 512 + 512 * 10
    params = sum(9 * a * b + b + 2 * b for a, b, _ in convs) + 2 * (512 * 512 + 512) + 5130
    assert _macs(model, (3, 32, 32)) == macs
    assert sum(p.numel() for p in model.parameters()) == params
    assert {"features.0.weight", "features.41.running_var", "classifier.6.bias"} <= set(model.state_dict())


def test_digits_network_has_both_kinds_of_shortcut_and_few_macs() -> None:
    model = DigitsNet()
    assert [isinstance(block.shortcut, nn.Identity) for block in model.blocks] == [True, False, True, False]
    assert 200_000 < _macs(model, (1, 8, 8)) < 1_000_000


@pytest.mark.parametrize("name", sorted(BUILT_IN))
def test_every_network_gives_the_asked_number_of_logits_and_gradients(name: str) -> None:
    if name == "cifar-resnet110":
        pytest.skip("the same class as the other ResNets, slow")
    model = BUILT_IN[name](7)
    shape = {"digits": (1, 8, 8), "cluttered-digits": (1, 32, 32)}.get(name, (3, 32, 32))
    logits = model(torch.randn(2, *shape))
    assert logits.shape == (2, 7)
    logits.sum().backward()
    assert all(parameter.grad is not None for parameter in model.parameters())


def test_every_channel_of_a_cifar_resnet_but_the_logits_can_be_pruned() -> None:
    """The padded zeros go with the channels that they are added to."""
    torch.manual_seed(0)
    model = CifarResNet(2).eval()
    images = torch.randn(2, 3, 32, 32)
    graph = prove(model, build_graph(model, images), images)
    assert [group.name for group in graph.groups if group.reason is not None] == ["linear"]
    for layer in graph.layers[:-1]:
        assert (layer.out_group >= 0).all(), layer.name
    shares = {"layer2.0.conv2": 3, "layer2.0.conv2#2": 2}  # of 8 padded zeros in front and behind
    kept = {name: np.arange(count) for name, count in shares.items()}
    small = prune_model(model, graph, kept)
    assert small.layer2[0].conv2.out_channels == 32 - 5 - 6
    assert small.layer2[0].shortcut.front.shape == (1, 3, 1, 1)
    assert small.layer2[0].shortcut.behind.shape == (1, 2, 1, 1)
    assert small.state_dict().keys() == model.state_dict().keys()
    assert small(images).shape == (2, 10)
