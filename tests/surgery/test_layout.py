"""Images and weights that are channels-last for speed, before code that never saw them so."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

import autoprune
from autoprune.evaluation import Evaluator
from autoprune.surgery import fast_layout, lay_out, run_in_layout, strides_kept

from .._sample import pick

CPU = torch.device("cpu")
LAST = torch.channels_last


class Viewed(nn.Module):
    """The commonest line of classifiers: ``x.view(x.size(0), -1)`` straight after a convolution."""

    def __init__(self, channels: int = 3) -> None:
        super().__init__()
        self.a = nn.Conv2d(channels, 8, 3, padding=1)
        self.b = nn.Conv2d(8, 6, 1, stride=2)
        self.c = nn.Conv2d(6, 8, 3, padding=1)
        self.head = nn.Linear(8 * 16, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.c(F.relu(self.b(F.relu(self.a(x))))))
        out: Tensor = self.head(x.view(x.size(0), -1))
        return out


class Kept(Viewed):
    """The same, written so that any layout will do."""

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.c(F.relu(self.b(F.relu(self.a(x))))))
        out: Tensor = self.head(x.flatten(1))
        return out


def twins(channels: int = 3) -> tuple[nn.Module, nn.Module]:
    torch.manual_seed(0)
    viewed, kept = Viewed(channels).eval(), Kept(channels).eval()
    kept.load_state_dict(viewed.state_dict())
    return viewed, kept


def images(count: int, channels: int = 3, seed: int = 0) -> TensorDataset:
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(count, channels, 8, 8, generator=generator)
    return TensorDataset(x, torch.randint(4, (count,), generator=generator))


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("part", [images, lambda *given: DataLoader(images(*given), batch_size=16)])
def test_code_with_view_scores_as_code_without(channels: int, part: Callable[..., TensorDataset]) -> None:
    results = [Evaluator(part(48, channels), name="search", device=CPU)(network) for network in twins(channels)]
    assert results[0] == pytest.approx(results[1], abs=1e-6)


def test_a_network_that_can_be_is_run_channels_last_and_another_falls_back() -> None:
    (x, _), (viewed, kept) = images(4).tensors, twins()
    fast = fast_layout(x, CPU)
    assert fast.stride() == x.contiguous(memory_format=LAST).stride()
    assert run_in_layout(kept, fast)[1] is False
    found, plain = run_in_layout(viewed, fast)
    assert plain
    torch.testing.assert_close(found, viewed(x))


def test_an_error_that_no_layout_causes_is_the_networks_own() -> None:
    (x, _), (viewed, _) = images(4, 2).tensors, twins()
    with pytest.raises(RuntimeError, match="to have 3 channels"):
        run_in_layout(viewed, fast_layout(x, CPU))


def test_weights_are_laid_out_only_where_all_networks_run_so_and_put_back() -> None:
    (x, _), (viewed, kept) = images(4).tensors, twins()
    before = {name: value.stride() for name, value in kept.named_parameters()}
    assert not lay_out([kept, viewed], x, CPU)
    with strides_kept(kept):
        assert lay_out([kept], x, CPU)
        assert kept.c.weight.is_contiguous(memory_format=LAST)
        with torch.no_grad():
            kept.c.weight.mul_(2)
    assert {name: value.stride() for name, value in kept.named_parameters()} == before
    assert torch.equal(kept.c.weight, 2 * viewed.c.weight)


@pytest.mark.parametrize("channels", pick([1, 3], 1))
def test_a_search_and_a_training_of_code_with_view_end_as_without(channels: int) -> None:
    """What comes out takes plain images again, and its weights lie in memory as the user's do."""
    found = []
    for network in twins(channels):
        pruned = autoprune.search(
            network,
            torch.zeros(2, channels, 8, 8),
            calibration=images(32, channels, 1).tensors[0],
            evaluate=images(48, channels, 2),
            budget=0.6,
            agent="uniform",
            episodes=1,
            finish_steps=2,
        ).model
        recipe = autoprune.Recipe(epochs=1, batch_size=16, ema=0, precision="fp32")
        data = images(32, channels, 3)
        tuned = autoprune.finetune(pruned, teacher=network, train=data, evaluate=data, recipe=recipe).model
        for model in (pruned, tuned):
            assert all(value.stride() == torch.empty(value.shape).stride() for value in model.parameters())
        with torch.no_grad():
            assert torch.isfinite(tuned(data.tensors[0])).all()
            found.append(pruned(data.tensors[0]))
    torch.testing.assert_close(*found, rtol=1e-2, atol=1e-3)
