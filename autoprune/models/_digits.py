"""The embedded default: a small residual network on scikit-learn's digits, trained on first use and cached."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path

import torch
import torch.nn.functional as F
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from autoprune.data.digits import MEAN, STD, TRAIN, read_digits
from autoprune.errors import AutopruneError
from autoprune.models._weights import load_into
from autoprune.support.tensors import load_safetensors, save_safetensors_atomic
from autoprune.support.threads import pinned_threads

RECIPE = "1"  # raise it when network or training change: older caches are then ignored
_WIDTHS = ((12, 1), (24, 2), (24, 1), (48, 2))  # of each block: channels, stride
_EPOCHS, _BATCH, _RATE = 30, 50, 0.1


class _Block(nn.Module):
    """A basic residual block; the shortcut is a 1x1 convolution where the shape changes, else the identity."""

    def __init__(self, in_channels: int, out_channels: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, out_channels, 3, stride=stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(out_channels)
        self.conv2 = nn.Conv2d(out_channels, out_channels, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(out_channels)
        self.shortcut: nn.Module = nn.Identity()
        if stride != 1 or in_channels != out_channels:
            self.shortcut = nn.Sequential(
                nn.Conv2d(in_channels, out_channels, 1, stride=stride, bias=False), nn.BatchNorm2d(out_channels)
            )

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.bn2(self.conv2(F.relu(self.bn1(self.conv1(x)))))
        return F.relu(out + self.shortcut(x))


class DigitsNet(nn.Module):
    """A residual network for 1x8x8 images: a stem, four basic blocks and a classifier.

    Args:
        num_classes: Number of outputs.
    """

    def __init__(self, num_classes: int = 10) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(1, 12, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(12)
        blocks, channels = [], 12
        for width, stride in _WIDTHS:
            blocks.append(_Block(channels, width, stride))
            channels = width
        self.blocks = nn.Sequential(*blocks)
        self.linear = nn.Linear(channels, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        """Map images (B, 1, 8, 8) to logits (B, num_classes)."""
        x = self.blocks(F.relu(self.bn1(self.conv1(x))))
        logits: Tensor = self.linear(torch.flatten(F.adaptive_avg_pool2d(x, 1), 1))
        return logits


def cache_folder() -> Path:
    """Return where trained networks are kept: ``$AUTOPRUNE_CACHE``, else ``autoprune`` in the user's cache folder."""
    if own := os.environ.get("AUTOPRUNE_CACHE"):
        return Path(own).expanduser()
    base = os.environ.get("XDG_CACHE_HOME") or os.environ.get("LOCALAPPDATA")
    return (Path(base) if base else Path.home() / ".cache") / "autoprune"


def trained_digits_state(say: Callable[[str], None]) -> dict[str, Tensor]:
    """Return the trained network's state dict, from the cache or, the first time, by training it (seconds).

    Args:
        say: Told in one line what happens.
    """
    path = cache_folder() / f"digits-{RECIPE}.safetensors"
    state = _read_cache(path)
    if state is not None:
        say(f"digits network: trained earlier, from {path}")
        return state
    say("digits network: trained now on scikit-learn's digits (once, a few seconds)")
    started = time.perf_counter()
    state, accuracy = train_digits()
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        save_safetensors_atomic(path, state, metadata={"recipe": RECIPE, "accuracy": f"{accuracy:.4f}"})
        kept = f"kept in {path}"
    except (AutopruneError, OSError) as error:
        kept = f"not kept ({error})"
    say(f"digits network: {accuracy:.1%} of unseen digits right, {time.perf_counter() - started:.0f} s, {kept}")
    return state


def _read_cache(path: Path) -> dict[str, Tensor] | None:
    """Return the cached state dict; None if there is none, or if it is damaged or of another recipe."""
    try:
        with safe_open(path, framework="pt") as file:
            if (file.metadata() or {}).get("recipe") != RECIPE:
                return None
        state = load_safetensors(path)
        load_into(DigitsNet(), state, weights=str(path))
    except (OSError, SafetensorError, AutopruneError):
        return None
    return state


def train_digits() -> tuple[dict[str, Tensor], float]:
    """Train the network on the training part; the same on every call on one machine.

    SGD with Nesterov momentum, a rate that rises and falls once, images shifted by up to one pixel. One thread, so that
    the order of sums does not depend on the number of cores; the global generator's state is left as it was.

    Returns:
        The state dict, and the accuracy in [0, 1] on the images not trained on.
    """
    images, labels = (torch.from_numpy(array) for array in read_digits())
    x = (images - MEAN[0]) / STD[0]
    with pinned_threads(1):
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(0)
            model = DigitsNet()
            _fit(model, x[:TRAIN], labels[:TRAIN])
        with torch.no_grad():
            accuracy = (model.eval()(x[TRAIN:]).argmax(1) == labels[TRAIN:]).double().mean().item()
    return model.state_dict(), accuracy


def _fit(model: nn.Module, x: Tensor, labels: Tensor) -> None:
    """Train ``model`` on ``x`` (N, 1, 8, 8)."""
    generator = torch.Generator().manual_seed(0)
    steps = len(x) // _BATCH
    optimizer = torch.optim.SGD(model.parameters(), lr=_RATE, momentum=0.9, nesterov=True, weight_decay=5e-4)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, _RATE, total_steps=_EPOCHS * steps)
    blank = float(x.min())
    for _ in range(_EPOCHS):
        order = torch.randperm(len(x), generator=generator)
        for batch in order[: steps * _BATCH].view(steps, _BATCH):
            padded = F.pad(x[batch], (1, 1, 1, 1), value=blank)
            row, column = torch.randint(0, 3, (2,), generator=generator).tolist()
            loss = F.cross_entropy(model(padded[:, :, row : row + 8, column : column + 8]), labels[batch])
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            schedule.step()
