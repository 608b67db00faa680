"""Three dimensions: a network over short clips, its first layer off limits and the last stage bounded.

The clips are digits that drift to the left or to the right. Clips are tensors (N, C, frames, H, W).
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from sklearn.datasets import load_digits
from torch import Tensor, nn

import autoprune

STEPS = 40


class Block(nn.Module):
    """Two convolutions over space and time with a residual connection."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.first, self.norm1 = nn.Conv3d(width, width, 3, padding=1, bias=False), nn.BatchNorm3d(width)
        self.second, self.norm2 = nn.Conv3d(width, width, 3, padding=1, bias=False), nn.BatchNorm3d(width)

    def forward(self, x: Tensor) -> Tensor:
        """Return clips of the same shape."""
        return F.relu(x + self.norm2(self.second(F.relu(self.norm1(self.first(x))))))


class Net(nn.Module):
    """A small residual network; clips (N, 1, frames, H, W) to scores (N, 2)."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv3d(1, 8, 3, padding=1, bias=False), nn.BatchNorm3d(8), nn.ReLU())
        self.layer1 = Block(8)
        self.down = nn.Conv3d(8, 16, 2, stride=2)
        self.layer2 = Block(16)
        self.head = nn.Linear(16, 2)

    def forward(self, x: Tensor) -> Tensor:
        """Return scores of left and right, shape (N, 2)."""
        scores: Tensor = self.head(self.layer2(self.down(self.layer1(self.stem(x)))).mean((2, 3, 4)))
        return scores


def clips(count: int, seed: int) -> tuple[Tensor, Tensor]:
    """Return clips (count, 1, 4, 8, 8) and whether they drift to the right."""
    random = torch.Generator().manual_seed(seed)
    digits = torch.tensor(load_digits().images / 8 - 1, dtype=torch.float32)
    chosen = digits[torch.randint(len(digits), (count,), generator=random)]
    right = torch.randint(2, (count,), generator=random)
    frames = [
        torch.stack([image.roll(int(2 * r - 1) * t, 1) for image, r in zip(chosen, right, strict=True)])
        for t in range(4)
    ]
    return torch.stack(frames, 1)[:, None], right


def main() -> None:
    """Train for seconds, see what may be pruned, search."""
    torch.manual_seed(0)
    net, (x, right) = Net().train(), clips(256, seed=1)
    optimiser = torch.optim.AdamW(net.parameters(), lr=5e-3)
    for step in range(STEPS):
        chosen = slice(64 * step % 256, 64 * step % 256 + 64)
        optimiser.zero_grad()
        F.cross_entropy(net(x[chosen]), right[chosen]).backward()
        optimiser.step()
    net.eval()
    limits = {"ignore": "stem", "bounds": {"layer2.*": (0.5, 1.0)}}
    found = autoprune.inspect_model(net, x[:2], include_residual=True, **limits)
    for group in found["groups"]:
        least, most = group["least_share"], group["most_share"]
        print(f"{group['name']}: {group['channels']} channels, {least:g} to {most:g} of them may stay")
    result = autoprune.search(
        net,
        x[:2],
        calibration=x,
        evaluate=clips(128, seed=2)[0],
        budget=0.6,
        include_residual=True,
        episodes=3,
        finish_steps=10,
        **limits,
    )
    print(result.table)
    unseen, right = clips(200, seed=3)
    with torch.no_grad():
        shares = [100 * (each(unseen).argmax(1) == right).double().mean().item() for each in (net, result.model)]
    print(f"Accuracy: dense {shares[0]:.1f} %, 0.6 of the MACs {shares[1]:.1f} %; no label was read by the search.")


if __name__ == "__main__":
    main()
