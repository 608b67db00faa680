"""How long surgery takes: half of the channels of every prunable group, the graph built before, median and worst of some runs.

python benchmarks/surgery_time.py
"""

from __future__ import annotations

import argparse
import statistics
import time
import warnings

import numpy as np
import torch
from _zoo import build, zoo

from autoprune.graph import build_graph, prove
from autoprune.surgery import prune_model


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--runs", type=int, default=11)
    parser.add_argument("networks", nargs="*", default=["torchvision:resnet50", "autoprune:cifar-resnet56"])
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    entries = {entry.key: entry for entry in zoo()}
    for key in options.networks:
        model = build(entries[key]).eval()
        images = torch.randn(2, 3, entries[key].side, entries[key].side)
        graph = prove(model, build_graph(model, images), images)
        kept = {group.name: np.arange(0, group.size, 2) for group in graph.groups if group.reason is None}
        took: list[float] = []
        for _ in range(options.runs):
            start = time.perf_counter()
            prune_model(model, graph, kept)
            took.append(time.perf_counter() - start)
        print(f"{key}: {len(kept)} groups, median {statistics.median(took):.4f} s, worst {max(took):.4f} s")


if __name__ == "__main__":
    main()
