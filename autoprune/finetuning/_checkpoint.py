"""Where a training stands after an epoch: tensors as safetensors, the rest as JSON, together valid or not there."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from autoprune.errors import UsageError
from autoprune.support.reading import reading
from autoprune.support.strict_json import read_json, write_json_atomic
from autoprune.support.tensors import load_safetensors, save_safetensors_atomic

CHECKPOINT_VERSION = 1
_FILE = "checkpoint.json"
_PARTS = ("model", "momentum", "average", "best")


@dataclass(frozen=True, eq=False)
class Checkpoint:
    """Everything a training needs to go on exactly as if it had not stopped. Random numbers follow from seed and epoch.

    Attributes:
        epoch: Epochs done.
        model: State of the network in training.
        momentum: SGD's buffers by parameter name.
        average: The averaged parameters; empty where there is no average.
        best: State of the best network so far.
        updates: How often the average was updated.
        history: One record per epoch.
        wall_s: Seconds of training so far, over all sessions.
    """

    epoch: int
    model: Mapping[str, Tensor]
    momentum: Mapping[str, Tensor]
    average: Mapping[str, Tensor]
    best: Mapping[str, Tensor]
    updates: int
    history: Sequence[Mapping[str, Any]]
    wall_s: float

    def save(self, folder: Path) -> None:
        """Write it; the one before stays valid until this one is whole.

        Raises:
            AutopruneError: if it cannot be written.
        """
        path = folder / f"checkpoint-{self.epoch}.safetensors"
        tensors = {f"{part}/{name}": t for part in _PARTS for name, t in getattr(self, part).items()}
        save_safetensors_atomic(path, tensors)
        values = {
            "version": CHECKPOINT_VERSION,
            "epoch": self.epoch,
            "tensors": path.name,
            "updates": self.updates,
            "wall_s": self.wall_s,
            "history": list(self.history),
        }
        write_json_atomic(folder / _FILE, values)
        for old in folder.glob("checkpoint-*.safetensors"):
            if old != path:
                with suppress(OSError):
                    old.unlink()

    @classmethod
    def load(cls, folder: Path) -> Checkpoint | None:
        """Return the last one written, or None if there is none.

        Raises:
            UsageError: if it is damaged or of another version.
        """
        path = folder / _FILE
        if not path.is_file():
            return None
        values = read_json(path, "checkpoint")
        with reading(f"The checkpoint '{path}'", f"remove the folder '{folder}' to begin anew"):
            if values["version"] != CHECKPOINT_VERSION:
                raise ValueError(f"version {values['version']!r:.40}, not {CHECKPOINT_VERSION}")
            tensors = load_safetensors(folder / Path(str(values["tensors"])).name)
            parts: dict[str, dict[str, Tensor]] = {part: {} for part in _PARTS}
            for key, tensor in tensors.items():
                part, _, name = key.partition("/")
                parts[part][name] = tensor
            found = cls(
                epoch=int(values["epoch"]),
                updates=int(values["updates"]),
                history=[dict(record) for record in values["history"]],
                wall_s=float(values["wall_s"]),
                **parts,
            )
        return found


@torch.no_grad()
def restore(module: nn.Module, state: Mapping[str, Tensor]) -> None:
    """Copy a state into a module in place. Of tied tensors one is enough.

    Raises:
        UsageError: if a tensor does not fit.
    """
    own = {name: value for name, value in module.state_dict(keep_vars=True).items() if isinstance(value, Tensor)}
    for name, value in state.items():
        if name not in own or own[name].shape != value.shape:
            raise UsageError(f"The tensor '{name}' of the checkpoint does not fit the network; begin anew elsewhere.")
        own[name].copy_(value)


def snapshot(module: nn.Module) -> dict[str, Tensor]:
    """Return a copy of a module's state, on the CPU; of tied tensors the first."""
    seen: set[int] = set()
    found: dict[str, Tensor] = {}
    for name, value in module.state_dict(keep_vars=True).items():
        if isinstance(value, Tensor) and id(value) not in seen:
            seen.add(id(value))
            found[name] = value.detach().to("cpu", copy=True).contiguous()
    return found
