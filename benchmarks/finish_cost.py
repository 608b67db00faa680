"""What a finished network costs and is worth, stage by stage, in dense passes over the search images (CPU time).

    python benchmarks/finish_cost.py --model cifar-resnet20 --weights WEIGHTS --data cifar10:ROOT --budget 0.5
    python benchmarks/finish_cost.py --model torchvision:mobilenet_v3_small --noise 350 --size 128

One row a network: preparing, probing with the choice of the first policy, a score, the statistics of the final reconstruction
(once a run), a finish without those, one that is the closed form alone (``--finish fast``, which is on all of the images), and
running the search part; then the process's peak memory, and what the first policy of ``auto`` gets on the search part as scored,
after the closed form, and finished. A dense pass is the median of three
in the same process. With ``--noise`` the images are random and tell the cost only.
"""

from __future__ import annotations

import argparse
import os
import resource
import statistics
import sys
import time
from collections.abc import Callable
from typing import Any, TypeVar

os.environ.setdefault("OMP_WAIT_POLICY", "passive")

import torch

from autoprune.agents import make_agent
from autoprune.data import load_data
from autoprune.models import load_model
from autoprune.problem import make_problem

Value = TypeVar("Value")


def timed(call: Callable[[], Value]) -> tuple[Value, float]:
    began = time.process_time()
    value = call()
    return value, time.process_time() - began


def parts(options: argparse.Namespace) -> tuple[Any, dict[str, Any]]:
    """Return the network as loaded, and its calibration and search parts."""
    shape = (3, options.size, options.size)
    loaded = load_model(options.model, weights=options.weights, input_size=options.size if options.noise else None)
    if not options.noise:
        data = load_data(options.data, mean=loaded.mean, std=loaded.std, input_size=loaded.input_shape)
        return loaded, {"calibration": data.calibration, "evaluate": data.search}
    images = torch.randn(2048 + options.noise, *shape, generator=torch.Generator().manual_seed(0))
    return loaded, {"calibration": images[options.noise :], "evaluate": images[: options.noise]}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="digits")
    parser.add_argument("--weights")
    parser.add_argument("--data", default="digits")
    parser.add_argument("--budget", type=float, default=0.5)
    parser.add_argument("--noise", type=int, default=0, help="so many random search images instead of data")
    parser.add_argument("--size", type=int, default=128, help="their height and width")
    options = parser.parse_args()
    torch.set_num_threads(1)
    loaded, given = parts(options)
    make = {"budget": options.budget, **given}
    problem, preparing = timed(lambda: make_problem(loaded.model, loaded.example_input(), **make))
    dense = statistics.median(timed(lambda: problem.run(problem.model))[1] for _ in range(3))
    counts, probing = timed(lambda: make_agent("auto", problem, seed=0, episodes=10).ask(0))
    assert counts is not None
    score, scoring = timed(lambda: problem.score(counts))
    finished, first = timed(lambda: problem.finish(counts))
    whole = timed(lambda: problem.finish(counts))[1]
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (2**20 if sys.platform == "darwin" else 2**10)
    closed = make_problem(loaded.model, loaded.example_input(), graph=problem.graph, finish_steps=0, **make)
    fitted = closed.finish(counts)
    fast = timed(lambda: closed.finish(counts))[1]
    running = timed(lambda: problem.run(finished.model))[1]
    stages = {
        "preparing": preparing,
        "probing": probing,
        "score": scoring,
        "statistics": first - whole,
        "a finish": whole,
        "closed form alone": fast,
        "running": running,
    }
    print(f"{options.model} at {options.budget}, torch {torch.__version__}: a dense pass takes {dense:.3f} s")
    print(" | ".join(stages))
    print(" | ".join(f"{seconds / dense:.2f}" for seconds in stages.values()))
    print(f"peak memory {peak:.0f} MiB")
    print(" | ".join(f"{100 * found.accuracy:.2f}" for found in (score, fitted.search, finished.search)))


if __name__ == "__main__":
    main()
