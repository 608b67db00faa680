"""The state of DDPG, TD3 and SAC on disk: one safetensors file and the JSON that names it, nothing pickled.

The tensors are written first, under a name of their own, then the JSON in one step, then older tensors are removed: the
folder holds a consistent state at every moment. Generators need no entry, every episode's random numbers come from the seed
and the episode's number.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from autoprune.errors import UsageError
from autoprune.support.strict_json import read_json, write_json_atomic
from autoprune.support.tensors import load_safetensors, save_safetensors_atomic

if TYPE_CHECKING:
    from autoprune.agents._sb3 import Learner

VERSION = 1
REPLAY = ("observations", "next_observations", "actions", "rewards", "dones", "timeouts")


def save_state(folder: Path, model: Learner, episodes: int, identity: Mapping[str, Any]) -> None:
    """Save networks, targets, optimisers, replay and baseline.

    Args:
        folder: Where to; made if missing.
        model: The learner.
        episodes: How many episodes it was told.
        identity: What a state must have in common with the agent that loads it, JSON-ready.

    Raises:
        AutopruneError: if the folder cannot be written.
    """
    replay = model.replay
    tensors = {f"policy.{name}": tensor for name, tensor in model.policy.state_dict().items()}
    for role, optimizer in model.optimizers().items():
        for index, entries in optimizer.state_dict()["state"].items():
            tensors.update({f"optimizer.{role}.{index}.{name}": value for name, value in entries.items()})
    for name in REPLAY:
        tensors[f"replay.{name}"] = torch.from_numpy(getattr(replay, name)[: replay.size()].copy())
    entropy = getattr(model, "log_ent_coef", None)
    if entropy is not None:
        tensors["entropy.log"] = entropy.detach()
    path = folder / f"ddpg-{episodes:06d}.safetensors"
    save_safetensors_atomic(path, tensors)
    state = {
        "version": VERSION,
        "identity": dict(identity),
        "tensors": path.name,
        "episodes": episodes,
        "updates": model._n_updates,
        "replay": {"position": replay.pos, "full": replay.full, "baseline": replay.baseline, "scale": replay.scale},
    }
    write_json_atomic(folder / "ddpg.json", state)
    for old in folder.glob("ddpg-*.safetensors"):
        if old != path:
            with suppress(OSError):
                old.unlink()


def read_state(folder: Path) -> tuple[dict[str, Any], dict[str, Tensor]] | None:
    """Return the JSON and the tensors of the state in ``folder``, or None if there is none that can be read."""
    try:
        state = read_json(folder / "ddpg.json", "agent state")
        if not isinstance(state, dict) or state.get("version") != VERSION:
            return None
        return state, load_safetensors(folder / Path(str(state["tensors"])).name)
    except (UsageError, KeyError):
        return None


def load_state(model: Learner, state: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> None:
    """Put a state that ``read_state`` returned into a learner of the same shape."""
    parts: dict[str, dict[str, Tensor]] = {"policy": {}, "optimizer": {}, "replay": {}, "entropy": {}}
    for name, tensor in tensors.items():
        part, _, rest = name.partition(".")
        parts[part][rest] = tensor
    model.policy.load_state_dict(parts["policy"])
    for role, optimizer in model.optimizers().items():
        entries: dict[int, dict[str, Tensor]] = {}
        for name, tensor in parts["optimizer"].items():
            owner, index, key = name.split(".")
            if owner == role:
                entries.setdefault(int(index), {})[key] = tensor
        groups = optimizer.state_dict()["param_groups"]
        optimizer.load_state_dict({"state": entries, "param_groups": groups})
    if parts["entropy"]:
        with torch.no_grad():
            getattr(model, "log_ent_coef").copy_(parts["entropy"]["log"])  # noqa: B009  (SAC's alone)
    replay = model.replay
    for name in REPLAY:
        stored = parts["replay"][name].numpy()
        getattr(replay, name)[: len(stored)] = stored
    replay.pos, replay.full = state["replay"]["position"], state["replay"]["full"]
    replay.baseline, replay.scale = state["replay"]["baseline"], state["replay"]["scale"]
    model._n_updates = state["updates"]
