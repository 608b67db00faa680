"""What a budget of measured latency is worth against one of MACs: the first table of docs/budgets.md.

    python benchmarks/budgets.py --data DATA --out OUT [--seeds 3] [--episodes 20]

ResNet-56 on CIFAR-10, PyTorch eager, 32 images, one thread. For each seed a search at half the MACs, whose network is timed in
the end, and one whose budget is that time. DATA holds ``cifar10`` and ``weights/cifar10_resnet56.safetensors``. The two
networks are then compared image by image on the report part, and timed against one another. What is in OUT is not done again;
nothing else should run on the machine meanwhile.
"""

from __future__ import annotations

import argparse
import math
import os
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_WAIT_POLICY", "passive")

import torch
from torch import nn

from autoprune.budget import Budget
from autoprune.cost import allowed_counts
from autoprune.evaluate import Evaluator
from autoprune.graph import build_graph
from autoprune.latency import Target, measured_ratio, profile_model
from autoprune.limits import decidable
from autoprune.models import load_model
from autoprune.progress import Progress
from autoprune.rebuild import rebuild_run
from autoprune.run import RunFolder
from autoprune.session import inputs_of, search_to_folder

MODEL = "cifar-resnet56"
TARGET = Target("eager", batch=32, threads=1)


class Say(Progress):
    def stage(self, text: str) -> None:
        print(text, flush=True)


def profiled(path: Path) -> Path:
    """Profile what is not profiled yet, as ``autoprune profile --round-to 1`` does."""
    loaded = load_model(MODEL)
    example = loaded.example_input()
    graph = build_graph(loaded.model, example)
    decisions = decidable(graph, include_residual=False)
    levels = [allowed_counts(group.size, min_keep=0.1, round_to=1) for group in decisions]
    profile_model(loaded.model, graph, decisions, levels, example, TARGET, path=path, say=Say().stage)
    return path


def play(budget: Budget, seed: int, data: Path, out: Path, profile: Path, episodes: int) -> RunFolder:
    asked: dict[str, Any] = {
        "model": MODEL,
        "weights": str(data / "weights" / "cifar10_resnet56.safetensors"),
        "data": f"cifar10:{data / 'cifar10'}",
        "budget": budget,
        "target": TARGET.to_dict(),
        "profile": str(profile),
        "round_to": 1,
        "episodes": episodes,
        "seed": seed,
    }
    return search_to_folder(asked, out, progress=Say())


def finished(folder: RunFolder) -> tuple[nn.Module, torch.Tensor]:
    """Return a run's network, and which images of the report part it gets right."""
    network = rebuild_run(folder).model.eval()
    part = inputs_of(folder.read_config()).report
    assert part is not None
    evaluator = Evaluator(part, name="report", device=torch.device("cpu"))
    evaluator(network)
    assert evaluator.answers is not None
    return network, evaluator.answers.right.double()


def cells(folder: RunFolder, right: torch.Tensor) -> str:
    """Return share of the MACs, measured share of the time and report accuracy, as cells of a table."""
    report = folder.read_report()
    measured, macs = report["final"]["measured"], report["final"]["macs"] / report["dense"]["macs"]
    return (
        f"{macs:.3f} | {measured['ratio']:.3f} ± {measured['known'] * measured['ratio']:.3f} "
        f"| {100 * float(right.mean()):.2f}"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--episodes", type=int, default=20)
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    profile = profiled(options.out / "cpu.jsonl")
    rows = ["| seed | budget | MACs | measured time | report accuracy, % | |", "| --- | --- | --- | --- | --- | --- |"]
    for seed in range(1, options.seeds + 1):
        macs = play(
            Budget(macs=0.5, latency=1.0), seed, options.data, options.out / f"macs-s{seed}", profile, options.episodes
        )
        limit = round(macs.read_report()["final"]["measured"]["ratio"], 3)
        time = play(
            Budget(latency=limit), seed, options.data, options.out / f"latency-s{seed}", profile, options.episodes
        )
        (first, before), (second, after) = finished(macs), finished(time)
        gain = after - before
        error = float(gain.std()) / math.sqrt(len(gain))
        again = measured_ratio(first, second, TARGET, load_model(MODEL).example_input())
        rows += [
            f"| {seed} | half the MACs | {cells(macs, before)} | |",
            f"| | the same time | {cells(time, after)} | {100 * float(gain.mean()):+.2f} ± {100 * error:.2f}, "
            f"in {again.ratio:.3f} ± {again.known * again.ratio:.3f} of the first's time |",
        ]
        print("\n".join(rows), flush=True)


if __name__ == "__main__":
    main()
