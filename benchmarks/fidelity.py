"""How well scores rank like finished networks: the table of docs/fidelity.md.

    python benchmarks/fidelity.py --run RUN --results FOLDER --out docs/fidelity.md

RUN is a search's folder (CIFAR-10, its own journal says which policies it scored). 40 of its policies that use the whole
budget are finished, half of them drawn from the quarter with the best scores, and ranked by their accuracy on the report part.
Each alternative score, with its dense-image equivalents, then ranks the same policies: Spearman's rho, for all 40 and for the
better half alone, and the same where only a part of the search images is looked at. How much of the order is luck of the
report images is what two halves of them say of each other (100 random splits, stepped up to the whole part by Spearman and
Brown's formula); the root of that is the most that any score can reach on average. Results are kept in FOLDER; the same
command continues.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_WAIT_POLICY", "passive")

import numpy as np
import torch
import torch.nn.functional as F
from scipy.stats import spearmanr
from torch import Tensor, nn

from autoprune.evaluation import TEMPERATURE, divergence
from autoprune.problem import TURNS, Problem, _pruner
from autoprune.runs import Inputs, RunFolder
from autoprune.searching import inputs_of, problem_of
from autoprune.support.files import write_text_atomic
from autoprune.support.jsonl import append_jsonl, repair_jsonl

POLICIES = 40
ROWS = 8000  # of the statistics that channels are chosen by
SPLITS = 100
SUBSETS = (500, 1000, 2000)
SCORES = {"loss": -1, "accuracy": 1, "distance": -1}
"""What is averaged over images, and whether more is better."""
Counts = tuple[int, ...]


@dataclass(frozen=True)
class Alternative:
    """One way to score: what the problem is made with, and how the network comes out of it."""

    name: str
    problem: dict[str, Any] = field(default_factory=dict)
    network: str = "prune"
    turns: int = TURNS


ALTERNATIVES = (
    Alternative("sequential, 100 images, 2000 rows (the search's)", {"refit_on": (100, 2000)}),
    Alternative("the same, rectifiers ignored", {"refit_on": (100, 2000)}, turns=0),
    Alternative("the same, 3 turns", {"refit_on": (100, 2000)}, turns=3),
    Alternative("sequential, 50 images, 1000 rows", {"refit_on": (50, 1000)}),
    Alternative("sequential, 100 images, 4000 rows", {"refit_on": (100, 4000)}),
    Alternative("sequential, 200 images, 4000 rows", {"refit_on": (200, 4000)}),
    Alternative("sequential, 400 images, 8000 rows", {"refit_on": None}),
    Alternative("sequential, 1000 images, 20000 rows", {"refit_on": None, "calibration_images": 1000, "rows": 20000}),
    Alternative("finished: sequential, 2000 images, 40000 rows", {}, "finish"),
    Alternative("cached", {"score": "cached"}),
    Alternative("cached, BatchNorm re-estimated", {"score": "cached"}, "norms"),
    Alternative("sliced, BatchNorm re-estimated", {}, "slice"),
)


def renormed(network: nn.Module, images: Tensor) -> nn.Module:
    """Give every BatchNorm the statistics of the calibration images."""
    norms = [module for module in network.modules() if isinstance(module, nn.BatchNorm2d)]
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None
    network.train()
    with torch.no_grad():
        for batch in images.split(100):
            network(batch)
    return network.eval()


def network_of(problem: Problem, how: str, counts: Counts) -> nn.Module:
    if how == "finish":
        return problem.finish(counts).model
    if how == "slice":
        return renormed(
            problem._pruner.network(problem._pruner.backend.slice_only(counts)),
            problem._pruner.backend.statistics.images,
        )
    network = problem.prune(counts)
    return renormed(network, problem._pruner.backend.statistics.images) if how == "norms" else network


def images_of(problem: Problem, how: str, counts: Counts) -> float:
    """Return what making a network computes, in images through the dense network."""
    assert problem._scorer.size is not None
    share = problem.cost.macs(counts) / problem.cost.dense_macs
    renorming = len(problem._pruner.backend.statistics.images) * share if how in ("norms", "slice") else 0.0
    if how == "slice":
        return renorming
    return renorming + problem._dense_images(counts, finish=how == "finish") - problem._scorer.size * share


@torch.no_grad()
def logits_of(network: nn.Module, part: Any) -> Tensor:
    images = part.tensors[0].contiguous(memory_format=torch.channels_last)
    return torch.cat([network(batch) for batch in images.split(64)])


def answers(logits: Tensor, part: Any) -> tuple[list[int], list[float]]:
    """Return which images a network gets right, and its loss on each."""
    labels = part.tensors[1]
    return (logits.argmax(1) == labels).int().tolist(), F.cross_entropy(logits, labels, reduction="none").tolist()


def chosen_policies(run: RunFolder, problem: Problem) -> list[Counts]:
    """Draw 20 policies from the best quarter of all that were scored, and 20 from the others."""
    names = [group.name for group in problem.decisions]
    best: dict[Counts, float] = {}
    for episode in run.read_episodes():
        if episode.feasible and not episode.reused:
            best[tuple(episode.counts[name] for name in names)] = episode.score.reward
    ordered = sorted(best, key=lambda counts: -best[counts])
    quarter = len(ordered) // 4
    rng = np.random.default_rng(0)
    top = rng.choice(quarter, POLICIES // 2, replace=False)
    rest = quarter + rng.choice(len(ordered) - quarter, POLICIES // 2, replace=False)
    return [ordered[int(place)] for place in (*np.sort(top), *np.sort(rest))]


def measure(
    run: RunFolder, inputs: Inputs, make: Callable[..., Problem], folder: Path, only: str
) -> dict[str, list[dict[str, Any]]]:
    """Score what is not scored yet; returns for every alternative a record for each policy, in order."""
    found: dict[str, list[dict[str, Any]]] = {}
    policies: list[Counts] = []
    for alternative in ALTERNATIVES:
        path = folder / f"{alternative.name.replace(':', '').replace(',', '').replace(' ', '-')}.jsonl"
        records = repair_jsonl(path, sealed=False)
        if len(records) < POLICIES and only in alternative.name:
            _pruner.TURNS = alternative.turns
            problem = make(**{"rows": ROWS, **alternative.problem})
            policies = policies or chosen_policies(run, problem)
            dense = logits_of(problem.model, inputs.search)
            for number in range(len(records), POLICIES):
                counts = policies[number]
                network = network_of(problem, alternative.network, counts)
                logits = logits_of(network, inputs.search)
                right, loss = answers(logits, inputs.search)
                record: dict[str, Any] = {"counts": list(counts), "accuracy": right, "loss": loss}
                record["distance"] = divergence(logits, dense, TEMPERATURE).tolist()
                record["images"] = images_of(problem, alternative.network, counts)
                if alternative.network == "finish":
                    record["report"], record["report_loss"] = answers(logits_of(network, inputs.report), inputs.report)
                append_jsonl(path, record)
                records.append(record)
                print(f"{alternative.name}: {number + 1} of {POLICIES}", file=sys.stderr, flush=True)
        if len(records) == POLICIES:
            found[alternative.name] = records
    return found


def rho(left: Sequence[float], right: Sequence[float]) -> float:
    return float(spearmanr(left, right)[0])


def halves(report: np.ndarray[Any, Any]) -> float:
    """Return the mean rho between accuracies on two halves of the images; report of shape (policies, images)."""
    rng = np.random.default_rng(0)
    values = []
    for _ in range(SPLITS):
        order = rng.permutation(report.shape[1])
        first, second = np.array_split(order, 2)
        values.append(rho(report[:, first].mean(1), report[:, second].mean(1)))
    return float(np.mean(values))


def table(found: dict[str, list[dict[str, Any]]], about: str) -> str:
    finished = next(records for records in found.values() if "report" in records[0])
    report = np.array([record["report"] for record in finished], dtype=float)
    accuracy = report.mean(1)
    report_loss = np.array([np.mean(record["report_loss"]) for record in finished])
    better = np.argsort(-accuracy)[: POLICIES // 2]
    lines = []
    for name, records in found.items():
        cells = [name, f"{np.mean([record['images'] for record in records]):.0f}"]
        scores = {key: np.array([record[key] for record in records], dtype=float) for key in SCORES}
        for key, sign in SCORES.items():
            cells += [f"{rho(sign * scores[key][:, :size].mean(1), accuracy):.3f}" for size in SUBSETS]
        cells += [f"{rho(sign * scores[key][better].mean(1), accuracy[better]):.3f}" for key, sign in SCORES.items()]
        cells += [f"{rho(-sign * scores[key].mean(1), report_loss):.3f}" for key, sign in SCORES.items()]
        lines.append(f"| {' | '.join(cells)} |")
    half, half_better = halves(report), halves(report[better])
    whole, whole_better = (2 * value / (1 + value) for value in (half, half_better))
    heads = [f"{what}, {size}" for what in SCORES for size in SUBSETS]
    heads += [f"{what}, better half" for what in SCORES] + [f"{what} and loss" for what in SCORES]
    return "\n".join(
        [
            "# Does a score rank like the finished network?",
            "",
            f"{about} Made by",
            "",
            "    python benchmarks/fidelity.py --run RUN --results FOLDER --out docs/fidelity.md",
            "",
            "Spearman's rho between a score on the search part and the finished network's accuracy on the report part, over "
            f"{POLICIES} policies that use",
            "the whole budget, half of them from the best quarter of a search; better half: over the better half of the 40. "
            "**Images** is what the refit computes",
            "beside running the pruned network, in images through the dense one. Columns say what is averaged, over how many "
            "search images.",
            "*Distance* is the divergence from the dense network's answers (docs/search.md). The last three columns rank by the "
            "finished",
            "network's loss on the report part, which depends less on luck than its accuracy does.",
            "",
            f"| score | images | {' | '.join(heads)} |",
            f"|{' --- |' * (len(heads) + 2)}",
            *lines,
            "",
            f"Two halves of the report part agree with rho {half:.3f} ({half_better:.3f} among the better half); stepped up to "
            f"the whole part that is {whole:.3f} ({whole_better:.3f}),",
            f"and a score without any noise could reach {whole**0.5:.3f} ({max(whole_better, 0.0) ** 0.5:.3f}) on average.",
            f"The finished networks' accuracies lie between {100 * accuracy.min():.2f} and {100 * accuracy.max():.2f} %, those "
            f"of the better half above {100 * accuracy[better].min():.2f} %.",
            "",
        ]
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--run", type=Path, required=True)
    parser.add_argument("--results", type=Path, required=True)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--only", default="", help="Only alternatives whose name contains this.")
    options = parser.parse_args()
    options.results.mkdir(parents=True, exist_ok=True)
    run = RunFolder(options.run)
    config = run.read_config()
    inputs = inputs_of(config)

    def make(*, score: str = config.score, **given: Any) -> Problem:
        return problem_of(replace(config, score=score), inputs, **given)

    found = measure(run, inputs, make, options.results, options.only)
    if not any("report" in records[0] for records in found.values()):
        return
    about = f"{config.model} at {config.budget}, CIFAR-10, PyTorch {torch.__version__}."
    if options.out is None:
        print(table(found, about))
    else:
        write_text_atomic(options.out, table(found, about))


if __name__ == "__main__":
    main()
