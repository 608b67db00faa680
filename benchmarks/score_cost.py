"""What a scored policy costs beyond running the pruned network, in dense passes over the search images.

    python benchmarks/score_cost.py --model cifar-resnet56 --weights WEIGHTS --data cifar10:ROOT --budget 0.5

Prints medians of one run, all on the same batch size, threads and memory format: one eager pass of the dense network, the
same of the pruned one, and what comes on top for the cached and for the sequential score: proposing, selecting, refitting,
surgery. Policies differ from round to round, as in a search; the cached score's fits of earlier rounds are dropped.
"""

from __future__ import annotations

import argparse
import os
import resource
import statistics
import sys
import time
from collections.abc import Callable

os.environ.setdefault("OMP_WAIT_POLICY", "passive")

import torch

from autoprune.agents import make_agent
from autoprune.data import load_data
from autoprune.models import load_model
from autoprune.problem import make_problem


def seconds(call: Callable[[], object]) -> float:
    began = time.perf_counter()
    call()
    return time.perf_counter() - began


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="digits")
    parser.add_argument("--weights")
    parser.add_argument("--data", default="digits")
    parser.add_argument("--budget", type=float, default=0.5)
    parser.add_argument("--agent", default="tpe")
    parser.add_argument("--rounds", type=int, default=9)
    options = parser.parse_args()
    loaded = load_model(options.model, weights=options.weights)
    data = load_data(options.data, mean=loaded.mean, std=loaded.std, input_size=loaded.input_shape)
    times: dict[str, list[float]] = {name: [] for name in ("dense", "pruned", "cached", "sequential")}
    problems = {
        kind: make_problem(
            loaded.model,
            loaded.example_input(),
            calibration=data.calibration,
            evaluate=data.search,
            budget=options.budget,
            score=kind,
        )
        for kind in ("cached", "sequential")
    }
    agents = {kind: make_agent(options.agent, problem, seed=0, episodes=100) for kind, problem in problems.items()}
    for episode in range(options.rounds + 1):
        for kind, problem in problems.items():
            began = time.perf_counter()
            counts = agents[kind].ask(episode)
            assert counts is not None
            small = problem.prune(counts)
            extra = time.perf_counter() - began
            pruned = seconds(lambda: problem.run(small))  # noqa: B023
            dense = seconds(lambda: problem.run(problem.model))  # noqa: B023
            if episode:  # the first round warms up
                times[kind].append(extra)
                times["pruned"].append(pruned)
                times["dense"].append(dense)
            agents[kind].tell(episode, counts, problem.score(counts))
    dense_pass = statistics.median(times["dense"])
    print(f"{options.model} at {options.budget}, torch {torch.__version__}, {torch.get_num_threads()} threads")
    print(f"dense pass over the search images  {dense_pass:8.3f} s")
    for name, what in (
        ("pruned", "running the pruned network"),
        ("cached", "cached score: beyond that"),
        ("sequential", "sequential score: beyond that"),
    ):
        print(f"{what:33s}  {statistics.median(times[name]) / dense_pass:8.3f} dense passes")
    scale = 2**20 if sys.platform == "darwin" else 2**10  # ru_maxrss: bytes there, KiB elsewhere
    print(f"peak memory of the process         {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / scale:8.0f} MiB")


if __name__ == "__main__":
    main()
