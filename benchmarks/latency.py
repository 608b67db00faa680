"""Whether predicted latency is what the pruned network takes: the table of docs/latency.md.

    python benchmarks/latency.py --out docs/latency.md [--only resnet18-eager]

For each model, batch size, number of threads and runtime: profile it, find the multiple of channels that is fast, refine the
profile around the midpoint of the range that can be met as a search does, take the policy of uniform keep ratios projected
onto it, and time the pruned network whole against the dense one several times. Everything is written down at once; the same
command continues. ``--only`` takes cases whose name contains a text. The machine must be left alone meanwhile: about four
minutes for each of the 24 cases. The checks of the table are in benchmarks/latency; another --results begins anew.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_WAIT_POLICY", "passive")

import numpy as np

from autoprune.cost import Projector
from autoprune.errors import AutopruneError
from autoprune.graph import Group, PruningGraph, build_graph
from autoprune.groups import allowed_counts
from autoprune.latency import (
    PLACEMENTS,
    LatencyCost,
    PricedGroups,
    Profile,
    Target,
    best_multiple,
    profile_model,
    ratio_check,
    refine_around,
)
from autoprune.models import load_model
from autoprune.problem import decidable
from autoprune.support.files import write_text_atomic
from autoprune.support.jsonl import append_jsonl, repair_jsonl
from autoprune.surgery import prune_model

MODELS = ("cifar-resnet56", "torchvision:mobilenet_v2", "torchvision:resnet18")
RESULTS = Path(__file__).parent / "latency"
WITHIN = 0.03
ABOVE = 0.02
SHARE = 0.9
_HEAD = (
    *("model", "runtime", "batch", "threads", "dense ms", "multiple", "smallest", "error", "budget", "predicted"),
    *("measured", "range", "met"),
)


def cases() -> list[tuple[str, Target]]:
    return [
        (model, Target(runtime, batch=batch, threads=threads))
        for batch in (1, 32)
        for model in MODELS
        for runtime in ("eager", "onnxruntime")
        for threads in (1, 2)
    ]


def name_of(model: str, target: Target) -> str:
    return f"{model.split(':')[-1]}-{target.runtime}-b{target.batch}-t{target.threads}"


def run(model: str, target: Target, folder: Path, checks: int, seconds: float) -> None:
    """Do what is missing of one case."""
    name = name_of(model, target)
    journal = folder / f"{name}.checks.jsonl"
    records = repair_jsonl(journal, sealed=False)
    done = [record for record in records if "ratio" in record]
    if len(done) >= checks:
        return
    began = time.perf_counter()

    def say(text: str) -> None:
        print(f"{name} {time.perf_counter() - began:6.1f} s  {text}", file=sys.stderr, flush=True)

    loaded = load_model(model)
    example = loaded.example_input()
    graph = build_graph(loaded.model, example)
    decisions = decidable(graph, include_residual=False)
    path = folder / f"{name}.jsonl"
    if not records:
        profile = Profile.open(target, path)
        multiple = best_multiple(profile, loaded.model, graph, decisions, example, say=say)
        levels = [allowed_counts(group.size, min_keep=0.1, round_to=multiple) for group in decisions]
        started = time.perf_counter()
        profile = profile_model(
            loaded.model,
            graph,
            decisions,
            levels,
            example,
            target,
            path=path,
            budget_s=seconds,
            say=say,
            progress=lambda number, total: say(f"{number} of {total} networks"),
        )
        say(f"profiled in {time.perf_counter() - started:.0f} s")

        def price() -> PricedGroups:
            cost, budget = midpoint(profile, graph, decisions, levels)
            return decisions, cost, Projector([(cost, budget * cost.dense)], levels)

        refine_around(profile, loaded.model, graph, example, price, say=say)
        cost, budget = midpoint(profile, graph, decisions, levels)
        counts = Projector([(cost, budget * cost.dense)], levels).project([budget] * len(levels))
        record = {
            "counts": counts,
            "round_to": multiple,
            "networks": len(profile.of(cost.network)),
            "dense_s": cost.dense,
            "smallest": 2.0 * budget - 1.0,
            "error": cost.error,
            "budget": budget,
            "predicted": cost(counts) / cost.dense,
            "machine": dict(profile.machine),
        }
        append_jsonl(journal, record)
        records = [record]
    kept = {g.name: np.arange(k) for g, k in zip(decisions, records[0]["counts"], strict=True)}
    small = prune_model(loaded.model, graph, kept)
    with ratio_check(loaded.model, small, target, example, dense_s=records[0]["dense_s"]) as check:
        for number in range(len(done), checks):
            found = check()
            append_jsonl(journal, asdict(found))
            say(f"check {number + 1}: predicted {records[0]['predicted']:.3f}, measured {found.ratio:.3f}")


def midpoint(
    profile: Profile, graph: PruningGraph, decisions: Sequence[Group], levels: Sequence[tuple[int, ...]]
) -> tuple[LatencyCost, float]:
    """Return the predicted latency, and the middle between the smallest network and the dense one, as a share of the latter."""
    cost = LatencyCost(profile, graph, decisions)
    return cost, (1.0 + cost([allowed[0] for allowed in levels]) / cost.dense) / 2.0


def table(folder: Path) -> str:
    rows: list[str] = []
    checked = good = 0
    short: list[str] = []
    machine: dict[str, Any] = {}
    for model, target in cases():
        records = repair_jsonl(folder / f"{name_of(model, target)}.checks.jsonl", sealed=False)
        ratios = [record["ratio"] for record in records if "ratio" in record]
        if not ratios:
            continue
        head = records[0]
        machine |= head["machine"]
        met = [abs(r - head["predicted"]) <= WITHIN and r <= head["budget"] + ABOVE for r in ratios]
        checked, good = checked + len(met), good + sum(met)
        if sum(met) < SHARE * len(met):
            short.append(name_of(model, target))
        rows.append(
            f"| {model.split(':')[-1]} | {target.runtime} | {target.batch} | {target.threads} | {1e3 * head['dense_s']:.2f} "
            f"| {head['round_to']} | {head['smallest']:.3f} | {head['error']:.3f} | {head['budget']:.3f} "
            f"| {head['predicted']:.3f} | {statistics.median(ratios):.3f} | {min(ratios):.3f} to {max(ratios):.3f} "
            f"| {sum(met)} of {len(met)} |"
        )
    return "\n".join(
        [
            "# Latency",
            "",
            "Predicted and measured latency of pruned networks relative to the dense one, at the midpoint of the range that can",
            "be met. Made by",
            "",
            "    python benchmarks/latency.py --out docs/latency.md",
            "",
            f"on {machine.get('cpu', '-')}, PyTorch {machine.get('torch', '-')}, onnxruntime {machine.get('onnxruntime', '-')}.",
            "Images are 3x32x32 for ResNet-56, 3x224x224 for the others. **Multiple**: channel counts are multiples of it, the",
            "smallest that is as fast at equal MACs as the best (`--round-to auto`). **Smallest**: predicted for the smallest",
            "network allowed (a tenth of each group's channels). **Error**: stated by the profile; of ten measured networks left",
            "out, nine are predicted to within it. A check times both networks whole, in turn, and takes the middle of",
            f"{PLACEMENTS} placements; it is **met** if the ratio is within {WITHIN} of the predicted one and at most {ABOVE}",
            "above the budget. All checks are in benchmarks/latency.",
            "",
            f"| {' | '.join(_HEAD)} |",
            f"|{' --- |' * len(_HEAD)}",
            *rows,
            "",
            f"Checks met: {good} of {checked} ({100 * good / max(checked, 1):.0f} %), in {len(rows)} of {len(cases())} cases; "
            f"less than nine of ten in {', '.join(short) or 'none'}.",
            "",
        ]
    )


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--results", type=Path, default=RESULTS)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--only", default="")
    parser.add_argument("--checks", type=int, default=10)
    parser.add_argument("--seconds", type=float, default=100.0)
    options = parser.parse_args()
    failed = False
    options.results.mkdir(parents=True, exist_ok=True)
    for model, target in cases():
        if options.only in name_of(model, target):
            try:
                run(model, target, options.results, options.checks, options.seconds)
            except AutopruneError as error:
                print(f"{name_of(model, target)}: {error}", file=sys.stderr, flush=True)
                failed = True
    if options.out is not None:
        write_text_atomic(options.out, table(options.results))
    else:
        print(table(options.results))
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
