"""Random channel counts in every prunable group at once: pruned output against the masked original, costs against counters.

    python benchmarks/random_policies.py

Exits with 1 if one policy of one network is wrong.
"""

from __future__ import annotations

import argparse
import time
import warnings

import torch
from _zoo import build, zoo

from autoprune.graph import build_graph, prove
from autoprune.testing import check_surgery, randomised

NETWORKS = (
    "autoprune:cifar-resnet20",
    "autoprune:cifar-vgg16",
    "torchvision:resnext50_32x4d",
    "torchvision:densenet121",
    "torchvision:googlenet",
    "torchvision:mobilenet_v3_small",
    "torchvision:efficientnet_b0",
    "torchvision:regnet_y_400mf",
    "torchvision:shufflenet_v2_x0_5",
    "torchvision:squeezenet1_1",
    "torchvision:convnext_tiny",
    "torchvision:vit_b_16",
    "torchvision:swin_t",
    "segmentation:lraspp_mobilenet_v3_large",
)
TOLERANCE = 1e-8
"""Relative to the output's norm, in double precision."""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--policies", type=int, default=20)
    parser.add_argument("networks", nargs="*", help="source:name as in the zoo; all of the list above if left out.")
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    entries = {entry.key: entry for entry in zoo()}
    wrong = 0
    print("| network | groups pruned | policies | largest distance | smallest effect | MACs wrong | params wrong | s |")
    print("| --- | --- | --- | --- | --- | --- | --- | --- |")
    for key in options.networks or NETWORKS:
        start = time.perf_counter()
        torch.manual_seed(0)
        model = randomised(build(entries[key])).double()
        images = torch.randn(2, 3, entries[key].side, entries[key].side, dtype=torch.float64)
        graph = prove(model, build_graph(model, images), images)
        check = check_surgery(model, graph, images, policies=options.policies)
        wrong += check.macs_wrong + check.params_wrong + (not check.distance <= TOLERANCE)
        pruned = sum(group.reason is None for group in graph.groups)
        print(
            f"| {key} | {pruned} | {check.policies} | {check.distance:.0e} | {check.effect:.2g} | {check.macs_wrong} "
            f"| {check.params_wrong} | {time.perf_counter() - start:.0f} |",
            flush=True,
        )
    return int(wrong > 0)


if __name__ == "__main__":
    raise SystemExit(main())
