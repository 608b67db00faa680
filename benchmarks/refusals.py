"""Layers that cannot be pruned in networks whose code says how many channels there are, and why.

    python benchmarks/refusals.py

SHViT is timm's, MobileViT that of transformers and YOLO11n that of ultralytics, all with random weights on images of 64x64.
The last two packages are no dependencies of autoprune (ultralytics is under the AGPL): networks whose package is missing are left
out.
"""

from __future__ import annotations

import argparse
import importlib.util
import sys
import warnings
from collections import Counter
from collections.abc import Callable
from typing import Any

import torch
from _worker import _kind
from torch import nn

from autoprune.graph import Layer, build_graph, prove
from autoprune.testing import check_surgery, randomised

SIDE = 64


def _shvit() -> nn.Module:
    import timm

    model: nn.Module = timm.create_model("shvit_s1", pretrained=False)
    return model


def _mobilevit() -> Any:
    transformers: Any = importlib.import_module("transformers")
    return transformers.MobileViTForImageClassification(transformers.MobileViTConfig(image_size=SIDE))


def _yolo() -> Any:
    tasks: Any = importlib.import_module("ultralytics.nn.tasks")
    return tasks.DetectionModel("yolo11n.yaml", verbose=False)


NETWORKS: dict[str, tuple[str, Callable[[], Any]]] = {
    "shvit_s1": ("timm", _shvit),
    "MobileViT": ("transformers", _mobilevit),
    "yolo11n": ("ultralytics", _yolo),
}
"""Name -> the package that is needed, and how the network is made."""


def measure(make: Callable[[], Any]) -> tuple[Counter[str], Counter[str], float]:
    """Return how many layers are inner, residual, output and refused, why refused, and the largest distance of 3 policies."""
    torch.manual_seed(0)
    model = randomised(make().eval())
    images = torch.randn(2, 3, SIDE, SIDE)
    graph = prove(model, build_graph(model, images), images)
    by_weight: dict[str, list[Layer]] = {}
    for layer in graph.layers:
        by_weight.setdefault(layer.weight, []).append(layer)
    kinds = [_kind(graph, calls) for calls in by_weight.values()]
    check = check_surgery(model, graph, images, policies=3)
    reasons = Counter(reason for kind, reason in kinds if kind == "refused")
    return Counter(kind for kind, _ in kinds), reasons, check.distance


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--only", default="", help="Only networks whose name contains this.")
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    print("| network | layers | prunable | output | refused | distance |\n| --- | --- | --- | --- | --- | --- |")
    for name, (package, make) in NETWORKS.items():
        if options.only not in name:
            continue
        if importlib.util.find_spec(package) is None:
            print(f"{name} needs the package {package}, which is not installed; it is left out.", file=sys.stderr)
            continue
        kinds, reasons, distance = measure(make)
        prunable = kinds["inner"] + kinds["residual"]
        print(
            f"| {name} ({package}) | {kinds.total()} | {prunable} | {kinds['output']} | {kinds['refused']} | {distance:.0e} |"
        )
        for reason, count in reasons.most_common():
            print(f"{count} layers: {reason}", file=sys.stderr)


if __name__ == "__main__":
    main()
