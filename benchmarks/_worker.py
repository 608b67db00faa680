"""What of one network is covered, measured in a process of its own, as JSON on stdout."""

from __future__ import annotations

import gc
import json
import math
import sys
import time
import warnings
from collections.abc import Callable
from typing import Any, TypeVar

import numpy as np
import torch
from _zoo import Entry, build, zoo
from torch import Tensor, nn
from torch.export import Dim

from autoprune.graph import Layer, PruningGraph, build_graph, prove
from autoprune.surgery import prune_model
from autoprune.testing import check_surgery, randomised

POLICIES = 3
TOLERANCE = {torch.float64: 1e-8, torch.float32: 1e-4}
"""How far the pruned output may be from the masked one, relative to its norm."""

T = TypeVar("T")


def _timed(function: Callable[[], T]) -> tuple[T, float]:
    """Return what a function gives and the CPU seconds that it took, which other work on the machine does not lengthen.

    Garbage of what ran before is collected first, so that its collection is nobody's time.
    """
    gc.collect()
    start = time.process_time()
    return function(), time.process_time() - start


def _export(model: nn.Module, images: Tensor) -> object:
    """Export as the graph does, for comparison; None where torch refuses."""
    try:
        with torch.no_grad():
            return torch.export.export(model, (images,), dynamic_shapes=({0: Dim.AUTO},), strict=False)
    except Exception:
        return None


def _kind(graph: PruningGraph, calls: list[Layer]) -> tuple[str, str]:
    """Return "inner", "residual", "output" or "refused" for a layer's output channels, and why.

    A layer is refused if half of its output channels or more have to stay.
    """
    owners = np.concatenate([layer.out_group for layer in calls])
    groups = [graph.groups[index] for index in np.unique(owners[owners >= 0]).tolist()]
    reasons = [group.reason for group in groups if group.reason]
    output = [reason for reason in reasons if "network's output" in reason]
    if output:
        return "output", output[0]
    free = np.isin(owners, [group.index for group in groups if group.reason is None])
    if free.mean() <= 0.5:
        reason = max(set(reasons), key=reasons.count) if reasons else "its channels are in no group"
        return "refused", reason
    return ("residual" if any(group.kind == "residual" for group in groups) else "inner"), ""


def _half(graph: PruningGraph) -> dict[str, Any]:
    return {group.name: np.arange(0, group.size, 2) for group in graph.groups if group.reason is None}


def measure(entry: Entry) -> dict[str, Any]:
    """Trace, prove and prune one network; see ``coverage.py`` for what the fields mean."""
    torch.manual_seed(0)
    _export(nn.Conv2d(3, 3, 1), torch.zeros(2, 3, 4, 4))  # the first export of a process imports for seconds
    model = randomised(build(entry))
    images = torch.randn(2, 3, entry.side, entry.side)
    export_s, build_s = math.inf, math.inf
    for _ in range(2):  # in turn, and the better of two
        export_s = min(export_s, _timed(lambda: _export(model, images))[1])
        graph, seconds = _timed(lambda: build_graph(model, images))
        build_s = min(build_s, seconds)
    graph, prove_s = _timed(lambda: prove(model, graph, images))
    by_weight: dict[str, list[Layer]] = {}
    for layer in graph.layers:
        by_weight.setdefault(layer.weight, []).append(layer)
    kinds = {weight.removesuffix(".weight"): _kind(graph, calls) for weight, calls in by_weight.items()}
    modules = {
        name
        for name, module in model.named_modules()
        if isinstance(module, (nn.modules.conv._ConvNd, nn.Linear)) and not isinstance(module, nn.LazyLinear)
    }
    surgery_s = min(_timed(lambda: prune_model(model, graph, _half(graph)))[1] for _ in range(3))
    dtype = torch.float64 if sum(p.numel() for p in model.parameters()) < 60_000_000 else torch.float32
    try:
        check = check_surgery(model.to(dtype), graph, images.to(dtype), policies=POLICIES)
    except RuntimeError:  # a dtype written into the forward
        dtype = torch.float32
        check = check_surgery(model.to(dtype), graph, images, policies=POLICIES)
    return {
        "layers": len(kinds),
        "not_called": sorted(modules - {name for weight in by_weight for name in [weight.rpartition(".")[0]]}),
        "inner": sum(kind == "inner" for kind, _ in kinds.values()),
        "residual": sum(kind == "residual" for kind, _ in kinds.values()),
        "output": sum(kind == "output" for kind, _ in kinds.values()),
        "refused": {name: reason for name, (kind, reason) in kinds.items() if kind == "refused"},
        "groups": len(graph.groups),
        "proved": sum(group.reason is None for group in graph.groups),
        "distance": check.distance,
        "effect": check.effect,
        "wrong": not check.distance <= TOLERANCE[dtype],
        "macs_wrong": check.macs_wrong,
        "params_wrong": check.params_wrong,
        "export_s": export_s,
        "build_s": build_s,
        "prove_s": prove_s,
        "surgery_s": surgery_s,
    }


def main(key: str) -> None:
    """Print the measures of the network called ``key``."""
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    entry = next(entry for entry in zoo() if entry.key == key)
    sys.stdout.write("\n" + json.dumps(measure(entry)) + "\n")


if __name__ == "__main__":
    main(sys.argv[1])
