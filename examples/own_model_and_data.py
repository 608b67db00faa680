"""One's own network and one's own images: nothing here knows autoprune until the search.

The same from the command line:
    autoprune search --budget 0.4 --model examples/own_model_and_data.py:trained_net \
        --data examples/own_model_and_data.py:data --agent tpe --episodes 20
"""

from __future__ import annotations

from functools import cache

import torch
import torch.nn.functional as F
from sklearn.datasets import load_digits
from torch import Tensor, nn
from torch.utils.data import TensorDataset

import autoprune


class Net(nn.Module):
    """A plain network with a depthwise convolution and a concatenation, for images of shape (B, 1, 8, 8)."""

    def __init__(self) -> None:
        super().__init__()
        self.input_shape = (1, 8, 8)  # lets the command line know without being told
        self.stem = nn.Sequential(nn.Conv2d(1, 16, 3, padding=1), nn.BatchNorm2d(16), nn.ReLU())
        self.depthwise = nn.Sequential(nn.Conv2d(16, 16, 3, padding=1, groups=16), nn.BatchNorm2d(16), nn.ReLU())
        self.left = nn.Sequential(nn.Conv2d(16, 24, 3, stride=2, padding=1), nn.BatchNorm2d(24), nn.ReLU())
        self.right = nn.Sequential(nn.Conv2d(16, 24, 1, stride=2), nn.BatchNorm2d(24), nn.ReLU())
        self.head = nn.Linear(48 * 16, 10)

    def forward(self, x: Tensor) -> Tensor:
        """Return logits, shape (B, 10)."""
        x = self.depthwise(self.stem(x))
        x = torch.cat([self.left(x), self.right(x)], dim=1)  # (B, 48, 4, 4)
        logits: Tensor = self.head(x.flatten(1))
        return logits


@cache
def data() -> dict[str, TensorDataset]:
    """Return disjoint parts: calibration (here also what it was trained on), validation and test."""
    images, labels = load_digits(return_X_y=True)
    x = torch.tensor(images / 8 - 1, dtype=torch.float32).reshape(-1, 1, 8, 8)
    y = torch.tensor(labels)
    parts = {"calibration": slice(0, 1000), "validation": slice(1000, 1400), "test": slice(1400, None)}
    return {name: TensorDataset(x[part], y[part]) for name, part in parts.items()}


@cache
def trained_net() -> Net:
    """Return the network, trained for a few seconds."""
    torch.manual_seed(0)
    net, (x, y) = Net().train(), data()["calibration"].tensors
    optimiser = torch.optim.AdamW(net.parameters(), lr=3e-3)
    for _ in range(10):
        for chosen in torch.randperm(len(x)).split(50):
            optimiser.zero_grad()
            F.cross_entropy(net(x[chosen]), y[chosen]).backward()
            optimiser.step()
    return net.eval()


def main() -> None:
    """Search, and use the smaller network like the one before."""
    net, parts = trained_net(), data()
    result = autoprune.search(
        net,
        parts["calibration"].tensors[0][:2],
        calibration=parts["calibration"],
        evaluate=parts["validation"],
        report=parts["test"],
        budget=0.4,
        agent="tpe",
        episodes=20,
    )
    print(result.table)
    images, labels = parts["test"].tensors
    with torch.no_grad():
        accuracy = (result.model(images).argmax(1) == labels).double().mean().item()
    before, after = (sum(p.numel() for p in model.parameters()) for model in (net, result.model))
    print(
        f"{type(result.model).__name__} with {after:,} of {before:,} parameters: {100 * accuracy:.2f} % of the test images"
    )


if __name__ == "__main__":
    main()
