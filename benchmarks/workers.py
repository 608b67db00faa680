"""How many policies a minute several workers score, relative to one; each computes with one thread.

    python benchmarks/workers.py --model cifar-resnet20 --weights WEIGHTS --data cifar10:ROOT --budget 0.5 --workers 2

The same random policies in turn, in blocks, so that what disturbs the machine disturbs both.
"""

from __future__ import annotations

import argparse
import os
import time
from statistics import median

os.environ.setdefault("OMP_WAIT_POLICY", "passive")

import torch

from autoprune.agents import make_agent
from autoprune.data import load_data
from autoprune.models import load_model
from autoprune.problem import make_problem
from autoprune.support.threads import pinned_threads
from autoprune.workers import Workers


def seconds(workers: Workers, policies: list[tuple[int, ...]]) -> float:
    began, left = time.perf_counter(), list(policies)
    while left or workers.busy:
        while left and workers.free:
            workers.submit(left.pop())
        workers.wait()
    return time.perf_counter() - began


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="digits")
    parser.add_argument("--weights")
    parser.add_argument("--data", default="digits")
    parser.add_argument("--budget", type=float, default=0.5)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--policies", type=int, default=8, help="Policies of a block, for each worker.")
    parser.add_argument("--blocks", type=int, default=5)
    options = parser.parse_args()
    loaded = load_model(options.model, weights=options.weights)
    data = load_data(options.data, mean=loaded.mean, std=loaded.std, input_size=loaded.input_shape)
    with pinned_threads(1):
        problem = make_problem(
            loaded.model,
            loaded.example_input(),
            calibration=data.calibration,
            evaluate=data.search,
            budget=options.budget,
        )
        agent = make_agent("random", problem)
        found: dict[int, list[float]] = {1: [], options.workers: []}
        with Workers(problem.score, 1) as one, Workers(problem.score, options.workers) as many:
            for block in range(options.blocks):
                for pool, count in ((one, 1), (many, options.workers)):
                    policies = []
                    for number in range(options.policies * options.workers):
                        counts = agent.ask(block * options.policies * options.workers + number)
                        assert counts is not None
                        policies.append(counts)
                    found[count].append(60 * len(policies) / seconds(pool, policies))
    print(f"{options.model} at {options.budget}, torch {torch.__version__}, one thread each, {options.blocks} blocks")
    for count, rates in found.items():
        print(f"{count} worker{'s' if count > 1 else ' '}  {median(rates):7.1f} policies a minute")
    ratios = [many / one for one, many in zip(found[1], found[options.workers], strict=True)]
    print(f"ratio       {median(ratios):7.2f} ({min(ratios):.2f} to {max(ratios):.2f})")


if __name__ == "__main__":
    main()
