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
import sys
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_WAIT_POLICY", "passive")

import torch
from _say import Say
from torch import nn

from autoprune.budget import Budget
from autoprune.cli import main as autoprune
from autoprune.evaluation import Evaluator
from autoprune.latency import Target, measured_ratio
from autoprune.models import load_model
from autoprune.runs import RunFolder, rebuild_run
from autoprune.searching import inputs_of, search_to_folder

MODEL = "cifar-resnet56"
TARGET = Target("eager", batch=32, threads=1)


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


def finished(folder: RunFolder, report: Evaluator) -> tuple[nn.Module, torch.Tensor]:
    """Return a run's network, and which images of the report part it gets right."""
    network = rebuild_run(folder).model.eval()
    report(network)
    assert report.answers is not None
    return network, report.answers.right.double()


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
    profile = options.out / "cpu.jsonl"
    asked = ["--model", MODEL, "--batch", str(TARGET.batch), "--threads", str(TARGET.threads), "--round-to", "1"]
    if code := autoprune(["profile", *asked, "--out", str(profile)]):
        sys.exit(code)
    rows = ["| seed | budget | MACs | measured time | report accuracy, % | |", "| --- | --- | --- | --- | --- | --- |"]
    for seed in range(1, options.seeds + 1):
        macs = play(
            Budget(macs=0.5, latency=1.0), seed, options.data, options.out / f"macs-s{seed}", profile, options.episodes
        )
        limit = round(macs.read_report()["final"]["measured"]["ratio"], 3)
        time = play(
            Budget(latency=limit), seed, options.data, options.out / f"latency-s{seed}", profile, options.episodes
        )
        part = inputs_of(macs.read_config()).report
        assert part is not None
        report = Evaluator(part, name="report", device=torch.device("cpu"))
        (first, before), (second, after) = finished(macs, report), finished(time, report)
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
