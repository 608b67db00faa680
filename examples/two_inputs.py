"""A network of two inputs: a picture, and numbers beside it. It is called by name, and pruned without targets and with them.

The task is to add the digit that is on the picture and a number that is given beside it.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from sklearn.datasets import load_digits
from torch import Tensor, nn
from torch.utils.data import Dataset

import autoprune

STEPS = 300


class Net(nn.Module):
    """Convolutions over the picture, two layers over the number, both joined; (N, 1, 8, 8) and (N, 1) to (N, 1)."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Sequential(nn.Conv2d(1, 16, 3, padding=1), nn.BatchNorm2d(16), nn.ReLU())
        self.second = nn.Sequential(nn.Conv2d(16, 24, 3, stride=2, padding=1), nn.BatchNorm2d(24), nn.ReLU())
        self.beside = nn.Sequential(nn.Linear(1, 32), nn.ReLU(), nn.Linear(32, 32), nn.ReLU())
        self.joined = nn.Sequential(nn.Linear(24 * 16 + 32, 48), nn.ReLU(), nn.Linear(48, 1))

    def forward(self, picture: Tensor, number: Tensor) -> Tensor:
        """Return the sums, shape (N, 1)."""
        seen = self.second(self.first(picture)).flatten(1)
        total: Tensor = self.joined(torch.cat([seen, self.beside(number)], dim=1))
        return total


class Sums(Dataset[tuple[dict[str, Tensor], Tensor]]):
    """Pictures of digits with a number from 0 to 9 each, and the sum of both."""

    def __init__(self, first: int, last: int) -> None:
        images, digits = load_digits(return_X_y=True)
        self.pictures = torch.tensor(images[first:last] / 8 - 1, dtype=torch.float32).reshape(-1, 1, 8, 8)
        self.digits = torch.tensor(digits[first:last], dtype=torch.float32)[:, None]
        self.numbers = torch.randint(10, self.digits.shape, generator=torch.Generator().manual_seed(first)).float()

    def __len__(self) -> int:
        return len(self.digits)

    def __getitem__(self, index: int) -> tuple[dict[str, Tensor], Tensor]:
        """Return the inputs by name, and the target, shape (1,)."""
        inputs = {"picture": self.pictures[index], "number": self.numbers[index]}
        return inputs, self.digits[index] + self.numbers[index]


def batch(data: Sums) -> tuple[dict[str, Tensor], Tensor]:
    """Return all of a data set at once."""
    inputs, targets = torch.utils.data.default_collate([data[index] for index in range(len(data))])
    return inputs, targets


def main() -> None:
    """Train for seconds, search twice, and compare on pictures that neither search has seen."""
    torch.manual_seed(0)
    calibration, search, unseen = Sums(0, 1000), Sums(1000, 1300), Sums(1300, 1797)
    net, (inputs, targets) = Net().train(), batch(calibration)
    optimiser = torch.optim.AdamW(net.parameters(), lr=3e-3)
    for _ in range(STEPS):
        chosen = torch.randint(len(targets), (64,))
        optimiser.zero_grad()
        F.mse_loss(net(inputs["picture"][chosen], inputs["number"][chosen]), targets[chosen]).backward()
        optimiser.step()
    net.eval()
    settings: dict[str, Any] = {"calibration": calibration, "evaluate": search, "budget": 0.5, "episodes": 2}
    settings |= {"baselines": ["uniform"], "finish_policies": 1, "finish_steps": 5}
    example = {name: tensor[:2] for name, tensor in inputs.items()}  # a dict is passed by name, a tuple by position
    label_free = autoprune.search(net, example, labels=False, **settings)
    print(label_free.table)
    measured = autoprune.search(net, example, minimize_metric="mae", **settings)
    print(measured.table)
    inputs, targets = batch(unseen)
    with torch.no_grad():
        errors = [F.l1_loss(each(**inputs), targets).item() for each in (net, label_free.model, measured.model)]
    print(
        f"Mean error: dense {errors[0]:.2f}, half the MACs {errors[1]:.2f} without targets, {errors[2]:.2f} with them."
    )


if __name__ == "__main__":
    main()
