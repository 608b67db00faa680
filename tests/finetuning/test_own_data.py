"""Fine-tuning on data sets and networks with habits of their own."""

from __future__ import annotations

import random
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset, SubsetRandomSampler, TensorDataset

import autoprune
from autoprune import UsageError
from autoprune.finetuning._images import TrainingImages


class Drawing(Dataset[Any]):
    """Draws from torch, ``random`` and NumPy for every item."""

    def __init__(self) -> None:
        self.seen: set[int] = set()

    def __len__(self) -> int:
        return 12

    def __getitem__(self, index: int) -> Any:
        self.seen.add(int(index))
        drawn = torch.rand(()).item(), random.random(), np.random.rand()  # noqa: NPY002
        return {"image": torch.tensor(drawn).view(1, 1, 3) + index, "label": float(index % 3)}


def test_an_epoch_is_the_same_wherever_training_was_stopped() -> None:
    def batches(number: int) -> list[Tensor]:
        images = TrainingImages(Drawing(), kind="none", batch_size=4, seed=0)
        return [torch.cat([x.flatten(), y.float()]) for x, y in images.epoch(number)]

    one, two = batches(1), batches(2)
    random.seed(5)
    np.random.seed(5)  # noqa: NPY002
    torch.manual_seed(5)
    for before, now in ((one, batches(1)), (two, batches(2))):
        assert all(torch.equal(a, b) for a, b in zip(before, now, strict=True))
    fractions = [torch.cat(epoch).remainder(1) for epoch in (one, two)]
    assert not torch.equal(fractions[0].sort().values, fractions[1].sort().values)


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a, self.norm, self.b, self.head = nn.Conv2d(1, 4, 1), nn.BatchNorm2d(4), nn.BatchNorm2d(4), nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.head(self.b(self.norm(self.a(x))).relu().mean((2, 3)))
        return y


def part(count: int) -> TensorDataset:
    generator = torch.Generator().manual_seed(count)
    return TensorDataset(torch.randn(count, 1, 1, 3, generator=generator), torch.arange(count) % 3)


def tuned(net: nn.Module, train: Any) -> nn.Module:
    recipe = autoprune.Recipe.from_dict({"batch_size": 4, "precision": "fp32"})
    return autoprune.finetune(net, train=train, evaluate=part(6), recipe=recipe, epochs=2).model


@pytest.mark.parametrize("freeze", [False, True])
def test_batch_norm_that_is_frozen_in_a_network_in_train_mode_stays_so(freeze: bool) -> None:
    torch.manual_seed(0)
    net = Net()
    if freeze:
        net.norm.eval()
    before = net.norm.running_mean.clone()
    found = tuned(net, part(12))
    assert isinstance(found, Net)
    assert torch.equal(found.norm.running_mean, before) == freeze
    assert not torch.equal(found.b.running_mean, before)
    assert [net.training, net.norm.training] == [True, not freeze]


def test_a_training_loaders_sampler_says_what_is_trained_on() -> None:
    torch.manual_seed(0)
    data = Drawing()
    tuned(Net(), DataLoader(data, batch_size=3, sampler=SubsetRandomSampler([1, 4, 5, 7, 8, 11])))
    assert data.seen == {1, 4, 5, 7, 8, 11}
    with pytest.raises(UsageError, match="The train part is images without labels"):
        tuned(Net(), torch.zeros(8, 1, 1, 3))
