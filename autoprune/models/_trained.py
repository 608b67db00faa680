"""Embedded networks are trained on first use, from installed data, and kept in a cache folder."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from autoprune.errors import AutopruneError
from autoprune.models._weights import load_into
from autoprune.support.tensors import load_safetensors, save_safetensors_atomic
from autoprune.support.threads import pinned_threads

Batches = Callable[[int], tuple[Tensor, Tensor]]
"""The images and labels of a step."""


@dataclass(frozen=True)
class Embedded:
    """An embedded network and how it is trained.

    Attributes:
        name: What it is called; its cache begins with that.
        recipe: Raised when network or training change: older caches are then ignored.
        make: Builds it.
        train: Trains it: its state dict, and the accuracy in [0, 1] on images that it was not trained on.
        announced: What is trained on what, and for how long, for the line before it.
    """

    name: str
    recipe: str
    make: Callable[[], nn.Module]
    train: Callable[[], tuple[dict[str, Tensor], float]]
    announced: str


def cache_folder() -> Path:
    """Return where trained networks are kept: ``$AUTOPRUNE_CACHE``, else ``autoprune`` in the user's cache folder."""
    if own := os.environ.get("AUTOPRUNE_CACHE"):
        return Path(own).expanduser()
    base = os.environ.get("XDG_CACHE_HOME") or os.environ.get("LOCALAPPDATA")
    return (Path(base) if base else Path.home() / ".cache") / "autoprune"


def trained_state(network: Embedded, say: Callable[[str], None]) -> dict[str, Tensor]:
    """Return the trained network's state dict, from the cache or, the first time, by training it (seconds).

    Args:
        network: Which.
        say: Told in one line what happens.
    """
    path = cache_folder() / f"{network.name}-{network.recipe}.safetensors"
    state = _read_cache(path, network)
    if state is not None:
        say(f"{network.name} network: trained earlier, from {path}")
        return state
    say(f"{network.name} network: trained now on {network.announced}")
    started = time.perf_counter()
    state, accuracy = network.train()
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        metadata = {"recipe": network.recipe, "accuracy": f"{accuracy:.4f}"}
        save_safetensors_atomic(path, state, metadata=metadata)
        kept = f"kept in {path}"
    except (AutopruneError, OSError) as error:
        kept = f"not kept ({error})"
    took = time.perf_counter() - started
    say(f"{network.name} network: {accuracy:.1%} of unseen images right, {took:.0f} s, {kept}")
    return state


def _read_cache(path: Path, network: Embedded) -> dict[str, Tensor] | None:
    """Return the cached state dict; None if there is none, or if it is damaged or of another recipe."""
    try:
        with safe_open(path, framework="pt") as file:
            if (file.metadata() or {}).get("recipe") != network.recipe:
                return None
        state = load_safetensors(path)
        load_into(network.make(), state, weights=str(path))
    except (OSError, SafetensorError, AutopruneError):
        return None
    return state


def trained(
    make: Callable[[], nn.Module], fit: Callable[[nn.Module], None], held: tuple[Tensor, Tensor]
) -> tuple[dict[str, Tensor], float]:
    """Build and train a network, the same on every call on one machine.

    One thread, so that the order of sums does not depend on the number of cores; the global generator's state is left as it was.

    Args:
        make: Builds it, from the global generator.
        fit: Trains it.
        held: Images and labels that it is not trained on.

    Returns:
        The state dict, and the accuracy in [0, 1] on the images not trained on.
    """
    images, labels = held
    with pinned_threads(1):
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(0)
            model = make()
            fit(model)
        with torch.no_grad():
            accuracy = (model.eval()(images).argmax(1) == labels).double().mean().item()
    return model.state_dict(), accuracy


def descend(model: nn.Module, batches: Batches, *, steps: int, rate: float) -> None:
    """Minimise the cross-entropy by SGD with Nesterov momentum, at a rate that rises and falls once.

    Args:
        model: Is trained.
        batches: The images and labels of each step.
        steps: How many.
        rate: The highest rate.
    """
    optimizer = torch.optim.SGD(model.parameters(), lr=rate, momentum=0.9, nesterov=True, weight_decay=5e-4)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, rate, total_steps=steps)
    for step in range(steps):
        images, labels = batches(step)
        loss = F.cross_entropy(model(images), labels)
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        schedule.step()
