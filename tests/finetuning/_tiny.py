"""A fine-tuning of a tiny network, to be killed: ``python _tiny.py FOLDER`` dies by SIGKILL in the middle of epoch 2."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

import torch
from torch import nn
from torch.utils.data import TensorDataset

import autoprune
from autoprune.finetuning import FinetuneProgress

EPOCHS, IMAGES = 4, 64


def network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(1, 6, 3, padding=1, bias=False),
        nn.BatchNorm2d(6),
        nn.ReLU(),
        nn.Dropout2d(0.2),
        nn.Conv2d(6, 4, 3),
        nn.BatchNorm2d(4),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(4 * 6 * 6, 3),
    )


def images(seed: int, count: int = IMAGES) -> TensorDataset:
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(count, 1, 8, 8, generator=generator)
    return TensorDataset(x, (x[:, 0, 0, 0] > 0).long() + (x[:, 0, 4, 4] > 0).long())


def tune(out: Path | None, progress: FinetuneProgress | None = None, **settings: object) -> autoprune.FinetuneResult:
    torch.set_num_threads(1)
    recipe = autoprune.Recipe(
        **{"epochs": EPOCHS, "batch_size": 16, "augment": "shift", "precision": "fp32", **settings}
    )
    return autoprune.finetune(
        network(), train=images(1), evaluate=images(2), report=images(3), teacher=network(), recipe=recipe, out=out,
        progress=progress,
    )  # fmt: skip


class Killer(FinetuneProgress):
    """Kills its process after half of the second epoch."""

    def __init__(self) -> None:
        self.epochs = 0

    def step(self, images: int) -> None:
        if self.epochs == 1 and images >= IMAGES // 2:
            os.kill(os.getpid(), signal.SIGKILL)

    def epoch(self, record: object) -> None:
        self.epochs += 1


if __name__ == "__main__":
    tune(Path(sys.argv[1]), Killer())
