"""How much decisions that are no channels matter: each masked alone, seen by what that does to the network's answers."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from autoprune.decisions import StandaloneDecision, share_lost
from autoprune.evaluation import answers_divergence
from autoprune.graph import output_tensors
from autoprune.model_guard import ModelInputs, as_inputs, unchanged

CHUNK = 32  # images at a time


@torch.no_grad()
def probe_others(
    model: nn.Module, decisions: Sequence[StandaloneDecision], images: Tensor | ModelInputs, *, most: float
) -> tuple[dict[str, float], float]:
    """Return how far each decision moves the answers per unit of error, masked alone at its lowest level.

    The error at level k of n is taken to be (1 - k/n)², all of it where nothing stays.

    Args:
        model: The dense network.
        decisions: The decisions.
        images: Images for it, each tensor (N, ...).
        most: What may be computed, in images through the dense network; at least one image is run.

    Returns:
        By name, and what was computed in images through the dense network.
    """
    if not decisions:
        return {}, 0.0
    passes = 1 + len(decisions)
    count = min(len(images), max(1, int(most / passes)))
    some = images[torch.linspace(0, len(images) - 1, count, device=images.device).long()]
    found = dict.fromkeys((decision.name for decision in decisions), 0.0)
    for start in range(0, count, CHUNK):
        batch = some[start : start + CHUNK]
        dense = _answers(model, batch)
        for decision in decisions:
            level = decision.levels(min_keep=0.0, round_to=1)[0]
            if level == decision.size:
                continue
            with unchanged(model), decision.masked(model, level):
                masked = _answers(model, batch)
            error = float(share_lost(decision)[level])
            moved = sum(float(answers_divergence(b, a)) for a, b in zip(dense, masked, strict=True))
            found[decision.name] += max(0.0, moved) * len(batch) / (count * error)
    return found, float(count * passes)


def _answers(model: nn.Module, batch: Tensor | ModelInputs) -> list[Tensor]:
    with unchanged(model):
        return output_tensors(as_inputs(batch).call(model))
