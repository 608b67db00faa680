"""The proof of decisions that are no channels: applied, each computes what it does masked, and costs what it says."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor, nn

from autoprune.cost import CostModel, counted_macs
from autoprune.decisions import StandaloneDecision
from autoprune.graph import output_tensors
from autoprune.model_guard import unchanged
from autoprune.problem._limits import decidable
from autoprune.problem._traced import Traced
from autoprune.surgery import copy_model, prune_model

TOLERANCE = 1e-4
"""Of the outputs' norm, in the network's own precision."""


def proved(
    traced: Traced, decisions: Sequence[StandaloneDecision]
) -> tuple[tuple[StandaloneDecision, ...], tuple[str, ...]]:
    """Return the decisions that are what they say, and sentences on those that are left out.

    Every level is tried on the dense network, and on one in which half of every group's channels are left.

    Args:
        traced: The network.
        decisions: What was found in it.
    """
    if not decisions:
        return (), ()
    groups = decidable(traced.graph, include_residual=True)
    half = {group.name: np.arange(max(1, group.size // 2)) for group in groups}
    networks = [prune_model(traced.model, traced.graph, kept).eval() for kept in ({}, half)]
    sound, notes = [], []
    for decision in decisions:
        reason = _fault(traced, decision, networks)
        if reason is None:
            sound.append(decision)
        else:
            notes.append(f"'{decision.name}' ({decision.kind}) stays whole: {reason}.")
    return tuple(sound), tuple(notes)


def _fault(traced: Traced, decision: StandaloneDecision, networks: Sequence[nn.Module]) -> str | None:
    cost = CostModel(traced.graph, [decision])
    levels = decision.levels(min_keep=0.0, round_to=1)
    if list(levels) != sorted(set(levels)) or not levels or levels[0] < 0 or levels[-1] != decision.size:
        return f"its levels are {list(levels)}, but must rise to its size, {decision.size}"
    for level in levels[:-1]:
        for network in networks:
            try:
                with unchanged(network), decision.masked(network, level):
                    expected = _outputs(network, traced)
                small = decision.apply(copy_model(network), level).eval()
                found = _outputs(small, traced)
            except Exception as error:  # whatever the user's code raises
                return f"at level {level} it raised {type(error).__name__}: {error}"
            if not _alike(expected, found):
                return f"applied at level {level} the network does not compute what it does masked"
            if network is networks[0]:
                told = (cost.macs([level]), cost.params([level]))
                counted = (
                    counted_macs(traced.view(small), traced.inputs),
                    sum(p.numel() for p in traced.view(small).parameters()),
                )
                if told != counted:
                    return (
                        f"at level {level} the network has {counted[0]} multiply-adds and {counted[1]} parameters, not "
                        f"{told[0]} and {told[1]}"
                    )
    return None


@torch.no_grad()
def _outputs(network: nn.Module, traced: Traced) -> list[Tensor]:
    return output_tensors(traced.inputs.call(traced.view(network)))


def _alike(expected: Sequence[Tensor], found: Sequence[Tensor]) -> bool:
    if [value.shape for value in expected] != [value.shape for value in found]:
        return False
    return all(
        bool((a - b).norm() <= TOLERANCE * b.norm().clamp(min=1e-12)) and bool(a.isfinite().all())
        for a, b in zip(found, expected, strict=True)
    )
