"""From the original constructor, a policy and a state dict back to the small model."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor, nn

from autoprune.errors import UsageError
from autoprune.groups import PruningGraph
from autoprune.surgery._fold import folded
from autoprune.surgery._policy import Policy
from autoprune.surgery._prune import prune_model


def load_pruned(model: nn.Module, graph: PruningGraph, policy: Policy, state: Mapping[str, Tensor]) -> nn.Module:
    """Return the small model that ``policy`` and ``state`` describe.

    Args:
        model: The dense model as its constructor makes it; its weights do not matter. Not touched.
        graph: Its coupling graph.
        policy: What stays.
        state: The small model's state dict. Of tied tensors one is enough (as safetensors files hold them).

    Raises:
        UsageError: if policy, state and model do not belong together: a group, key or shape that does not fit.
    """
    model = folded(model, graph.folded)
    groups = {group.name: group for group in graph.groups}
    for entry in policy.groups:
        group = groups.get(entry.name)
        if group is None:
            raise UsageError(
                f"The policy's group '{entry.name}' does not exist in this model; give the model it was made for."
            )
        if group.size != entry.size:
            raise UsageError(
                f"The policy's group '{entry.name}' has {entry.size} channels but this model's has {group.size}; "
                "give the model it was made for."
            )
    _check_names(model, state)
    return prune_model(model, graph, policy.kept(), tensors=state)


def load_state(network: nn.Module, state: Mapping[str, Tensor]) -> nn.Module:
    """Return a network with other weights, which it takes in place.

    Args:
        network: The network.
        state: Its state dict. Of tied tensors one is enough (as safetensors files hold them).

    Raises:
        UsageError: if a key or shape does not fit.
    """
    _check_names(network, state)
    own = network.state_dict()
    for name, value in state.items():
        if own[name].shape != value.shape:
            raise UsageError(
                f"The weights do not fit the model: '{name}' has shape {tuple(value.shape)} and must have "
                f"{tuple(own[name].shape)}."
            )
    network.load_state_dict(dict(state), strict=False)
    return network


def _check_names(model: nn.Module, state: Mapping[str, Tensor]) -> None:
    own = {name: value for name, value in model.state_dict(keep_vars=True).items() if isinstance(value, Tensor)}
    given = {id(own[name]) for name in state if name in own}
    missing = [name for name, value in own.items() if id(value) not in given]
    unexpected = [name for name in state if name not in own]
    if missing or unexpected:
        parts = [f"{what} {_few(names)}" for what, names in (("lack", missing), ("also hold", unexpected)) if names]
        raise UsageError(f"The weights do not fit the model: they {' and '.join(parts)}.")


def _few(names: list[str]) -> str:
    shown = ", ".join(f"'{name}'" for name in names[:3])
    return shown if len(names) <= 3 else f"{shown} and {len(names) - 3} more"
