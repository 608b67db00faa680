"""Prunes one network after the other with one tool, and judges it: its name on stdin, a JSON object a line on stdout."""

from __future__ import annotations

import json
import os
import resource
import signal
import sys
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import torch
from _judge import UnlikeError, distance, distinct, leaves
from _zoo import build, zoo
from torch import Tensor, nn

from autoprune.errors import AutopruneError
from autoprune.graph import PruningGraph, build_graph, prove
from autoprune.surgery import prune_model
from autoprune.testing import randomised

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

RATIO = 0.5
TOLERANCE = 1e-8
MEMORY_BYTES = 16 * 2**30
"""Of address space: a tool that goes round in circles must not take the machine with it."""


def make(name: str) -> tuple[nn.Module, Tensor]:
    """Return a network by its name, "case:..." or that of the zoo, in double precision, and images for it."""
    torch.manual_seed(0)
    if name.startswith("case:"):
        from tests.graph._nets import CASES

        model, side = CASES[name.removeprefix("case:")][0](), 6
    else:
        entry = next(entry for entry in zoo() if entry.key == name)
        model, side = build(entry), entry.side
    torch.manual_seed(1)
    return distinct(randomised(model.double())), torch.randn(2, 3, side, side, dtype=torch.float64)


def _outputs(model: nn.Module, graph: PruningGraph | None) -> list[nn.Module]:
    """Return the layers whose channels are the network's output."""
    modules = dict(model.named_modules())
    if graph is None:
        return [layer for layer in modules.values() if isinstance(layer, (nn.Conv2d, nn.Linear))][-1:]
    owned = [
        layer.weight.removesuffix(".weight").removesuffix(".parametrizations.weight.original1")
        for layer in graph.layers
        if any("network's output" in (graph.groups[i].reason or "") for i in np.unique(layer.out_group) if i >= 0)
    ]
    return [modules[name] for name in owned if name in modules]


def autoprune(model: nn.Module, images: Tensor, graph: PruningGraph | None) -> nn.Module:
    """Remove half of the channels of every group that is proved."""
    if graph is None:
        graph = build_graph(model, images)
    graph = prove(model, graph, images)
    rng = np.random.default_rng(0)
    kept = {
        group.name: np.sort(rng.permutation(group.size)[: max(1, round((1 - RATIO) * group.size))])
        for group in graph.groups
        if group.reason is None
    }
    return prune_model(model, graph, kept)


def torch_pruning(model: nn.Module, images: Tensor, graph: PruningGraph | None) -> nn.Module:
    """Do what its README and examples do: group magnitudes, the output layers ignored, the numbers of heads told."""
    import torch_pruning as tp

    heads: dict[nn.Module, int] = {}
    for module in model.modules():
        if isinstance(module, nn.MultiheadAttention):
            heads[module] = module.num_heads
        elif isinstance(getattr(module, "qkv", None), nn.Linear) and isinstance(
            getattr(module, "num_heads", None), int
        ):
            heads[module.qkv] = module.num_heads
    pruner = tp.pruner.BasePruner(
        model,
        images,
        importance=tp.importance.GroupMagnitudeImportance(p=2),
        pruning_ratio=RATIO,
        ignored_layers=_outputs(model, graph),
        num_heads=heads,
        in_channel_groups={},
        out_channel_groups=dict(heads),
        output_transform=leaves,
    )
    pruner.step()
    for module in model.modules():  # as its example for timm does
        qkv = getattr(module, "qkv", None)
        if isinstance(qkv, nn.Linear) and hasattr(module, "head_dim"):
            module.head_dim = qkv.out_features // (3 * module.num_heads)
    return model.eval()


TOOLS = {"autoprune": autoprune, "torch-pruning": torch_pruning}


def _graph(name: str) -> PruningGraph | None:
    try:
        return build_graph(*make(name))
    except AutopruneError:
        return None


def _line(error: BaseException) -> str:
    first = next((line.strip() for line in str(error).splitlines() if line.strip()), "")
    return f"{type(error).__name__}: {first}"[:300]


def judge(tool: str, name: str) -> dict[str, Any]:
    """Return the outcome ("right", "refused", "wrong", "crashed"), the share of parameters left, and what was wrong."""
    dense, images = make(name)
    with torch.no_grad():
        dense(images)
    graph = _graph(name)
    model, _ = make(name)
    before = [tuple(parameter.shape) for parameter in model.parameters()]
    try:
        small = TOOLS[tool](model, images, graph)
    except AutopruneError as error:
        return {"outcome": "refused", "why": _line(error)}
    except Exception as error:
        return {"outcome": "crashed", "why": _line(error)}
    if [tuple(parameter.shape) for parameter in small.parameters()] == before:
        return {"outcome": "refused", "why": "nothing is removed"}
    whole, left = (sum(p.numel() for p in network.parameters()) for network in (dense, small))
    found = {"left": left / whole}
    try:
        with torch.no_grad():
            small(images)
    except Exception as error:
        return {"outcome": "crashed", "why": f"the pruned network fails: {_line(error)}", **found}
    try:
        gap = distance(dense, small, images, graph)
    except UnlikeError as error:
        return {"outcome": "wrong", "why": str(error), **found}
    outcome = "right" if gap <= TOLERANCE else "wrong"
    return {"outcome": outcome, "why": "" if outcome == "right" else f"the output differs by {gap:.1e}", **found}


def main(tool: str) -> None:
    """Answer the lines on stdin, a name and its limit in CPU seconds, after which the process ends."""
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what is printed on the way is no answer
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    answers.write("ready\n")
    answers.flush()
    for line in sys.stdin:
        name, _, limit_s = line.strip().rpartition("\t")
        signal.setitimer(signal.ITIMER_PROF, float(limit_s))
        answers.write(json.dumps(judge(tool, name)) + "\n")
        signal.setitimer(signal.ITIMER_PROF, 0)
        answers.flush()


if __name__ == "__main__":
    main(sys.argv[1])
