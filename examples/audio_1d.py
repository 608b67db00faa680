"""One dimension: a network over raw sound, pruned without labels.

The sounds are tones that rise, fall or stay, with noise. Signals are tensors (N, C, L); nothing else differs from images.
The same from the command line:
    autoprune search --budget 0.5 --model examples/audio_1d.py:trained --data examples/audio_1d.py:data --no-labels
"""

from __future__ import annotations

from functools import cache

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.data import TensorDataset

import autoprune

LENGTH, STEPS = 1024, 150


class Net(nn.Module):
    """Strided convolutions over the wave, a depthwise one, the mean over time; signals (N, 1, L) to scores (N, 3)."""

    def __init__(self) -> None:
        super().__init__()
        self.input_shape = (1, LENGTH)  # lets the command line know without being told
        self.wave = nn.Sequential(nn.Conv1d(1, 16, 16, stride=8), nn.BatchNorm1d(16), nn.ReLU())
        self.wide = nn.Sequential(nn.Conv1d(16, 32, 8, stride=4), nn.BatchNorm1d(32), nn.ReLU())
        self.depthwise = nn.Sequential(nn.Conv1d(32, 32, 5, padding=2, groups=32), nn.BatchNorm1d(32), nn.ReLU())
        self.mixed = nn.Sequential(nn.Conv1d(32, 32, 3, padding=1), nn.BatchNorm1d(32), nn.ReLU())
        self.head = nn.Linear(32, 3)

    def forward(self, x: Tensor) -> Tensor:
        """Return scores of the three classes, shape (N, 3)."""
        scores: Tensor = self.head(self.mixed(self.depthwise(self.wide(self.wave(x)))).mean(2))
        return scores


def sounds(count: int, seed: int) -> tuple[Tensor, Tensor]:
    """Return signals (count, 1, 1024) and what they do: 0 falls, 1 stays, 2 rises."""
    random = torch.Generator().manual_seed(seed)
    kinds = torch.randint(3, (count,), generator=random)
    time = torch.linspace(0, 1, LENGTH)
    start = 20 + 20 * torch.rand(count, 1, generator=random)
    phase = 2 * torch.pi * (start * time + 8 * (kinds[:, None] - 1) * time**2)
    return (phase.sin() + 0.3 * torch.randn(count, LENGTH, generator=random))[:, None], kinds


@cache
def data() -> dict[str, TensorDataset]:
    """Return disjoint parts."""
    return {name: TensorDataset(*sounds(n, n)) for name, n in (("calibration", 300), ("search", 200), ("report", 201))}


@cache
def trained() -> Net:
    """Return the network after a few seconds of training."""
    torch.manual_seed(0)
    net, (x, kinds) = Net().train(), data()["calibration"].tensors
    optimiser = torch.optim.AdamW(net.parameters(), lr=5e-3)
    for _ in range(STEPS):
        chosen = torch.randint(len(x), (64,))
        optimiser.zero_grad()
        F.cross_entropy(net(x[chosen]), kinds[chosen]).backward()
        optimiser.step()
    return net.eval()


def main() -> None:
    """Search without labels, then look at them."""
    net, parts = trained(), data()
    result = autoprune.search(
        net,
        parts["calibration"].tensors[0][:2],
        calibration=parts["calibration"],
        evaluate=parts["search"],
        labels=False,
        budget=0.5,
        episodes=3,
        finish_steps=10,
    )
    print(result.table)
    x, kinds = parts["report"].tensors
    with torch.no_grad():
        right = [100 * (each(x).argmax(1) == kinds).double().mean().item() for each in (net, result.model)]
    print(f"Accuracy: dense {right[0]:.1f} %, half the MACs {right[1]:.1f} %, and no label was read.")


if __name__ == "__main__":
    main()
