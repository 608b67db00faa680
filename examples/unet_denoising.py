"""Dense regression: a U-Net that takes the noise off scenes of digits, pruned with and without the clean pictures.

There are no classes. Without targets networks are compared with the dense one's own answers; with a function that evaluates,
its number (here the PSNR in decibels) is what is made large.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from sklearn.datasets import load_digits
from torch import Tensor, nn

import autoprune

STEPS = 60
"""Of training; more make a better network, and the search as long as before."""


def block(inputs: int, outputs: int) -> nn.Sequential:
    """Return two convolutions with BatchNorm."""
    return nn.Sequential(
        *(nn.Conv2d(inputs, outputs, 3, padding=1, bias=False), nn.BatchNorm2d(outputs), nn.ReLU()),
        *(nn.Conv2d(outputs, outputs, 3, padding=1, bias=False), nn.BatchNorm2d(outputs), nn.ReLU()),
    )


class UNet(nn.Module):
    """Two halvings, two doublings, skips between them; pictures (N, 1, H, W) in and out."""

    def __init__(self) -> None:
        super().__init__()
        self.down1, self.down2, self.bottom = block(1, 8), block(8, 16), block(16, 24)
        self.up2, self.up1 = block(24 + 16, 16), block(16 + 8, 8)
        self.last = nn.Conv2d(8, 1, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Return the picture without its noise, which is what the network estimates."""
        one = self.down1(x)
        two = self.down2(F.max_pool2d(one, 2))
        deep = self.bottom(F.max_pool2d(two, 2))
        up = self.up2(torch.cat([F.interpolate(deep, scale_factor=2.0), two], 1))
        up = self.up1(torch.cat([F.interpolate(up, scale_factor=2.0), one], 1))
        clean: Tensor = x - self.last(up)
        return clean


def scenes(count: int, seed: int) -> tuple[Tensor, Tensor]:
    """Return noisy and clean pictures of 2 x 2 digits, shape (count, 1, 16, 16)."""
    random = torch.Generator().manual_seed(seed)
    digits = torch.tensor(load_digits().images / 16, dtype=torch.float32)
    chosen = digits[torch.randint(len(digits), (count, 2, 2), generator=random)]  # (count, 2, 2, 8, 8)
    clean = chosen.permute(0, 1, 3, 2, 4).reshape(count, 1, 16, 16)
    return clean + 0.3 * torch.randn(clean.shape, generator=random), clean


def trained() -> UNet:
    """Return the network after a few seconds of training."""
    torch.manual_seed(0)
    net, (noisy, clean) = UNet().train(), scenes(256, seed=1)
    optimiser = torch.optim.AdamW(net.parameters(), lr=3e-3)
    for step in range(STEPS):
        chosen = slice(64 * step % 256, 64 * step % 256 + 64)
        optimiser.zero_grad()
        F.mse_loss(net(noisy[chosen]), clean[chosen]).backward()
        optimiser.step()
    return net.eval()


def psnr(net: nn.Module, seed: int) -> float:
    """Return the peak signal-to-noise ratio of a network on scenes, in decibels."""
    noisy, clean = scenes(128, seed)
    with torch.no_grad():
        return -10 * math.log10(F.mse_loss(net(noisy), clean).item())


def main() -> None:
    """Search twice, and compare both networks with the dense one on pictures that neither has seen."""
    net, pictures = trained(), scenes(256, seed=1)[0]
    settings = {"calibration": pictures, "budget": 0.5, "agent": "auto", "episodes": 2, "finish_steps": 5}
    settings |= {"baselines": ["uniform"], "finish_policies": 1}
    label_free = autoprune.search(net, pictures[:2], evaluate=scenes(128, seed=2)[0], **settings)
    print(label_free.table)
    measured = autoprune.search(
        net, pictures[:2], evaluate=lambda model: {"psnr": psnr(model, seed=2)}, maximize="psnr", **settings
    )
    print(measured.table)
    dense, without, with_targets = (psnr(each, seed=3) for each in (net, label_free.model, measured.model))
    print(
        f"PSNR: dense {dense:.2f} dB, half the MACs {without:.2f} dB without targets, {with_targets:.2f} dB with them."
    )


if __name__ == "__main__":
    main()
