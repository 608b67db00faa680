"""What each departure from AMC as published is worth: the table of docs/amc.md.

    python benchmarks/amc.py --out docs/amc.md

Every line is played on the same problems with the same seeds: four toy problems (a chain of convolutions whose accuracy is a
formula, half the MACs), and the digits network at half its MACs.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

from autoprune.agents import DDPG, make_agent
from autoprune.envs import ProblemLike
from autoprune.envs._env import digits_problem
from autoprune.support.files import write_text_atomic
from autoprune.testing import ToyProblem

LAST = 10
SEEDS = 4
EPISODES = {"toy": 60, "digits": 100}
LINES: tuple[tuple[str, str, Mapping[str, Any]], ...] = (
    ("AMC as published", "amc", {}),
    ("amc, projected together", "amc", {"together": True}),
    ("amc, learning from what was applied", "amc", {"applied": True}),
    ("amc, rewards scaled", "amc", {"scaled": True}),
    ("amc, warm-up on the budget", "amc", {"on_budget": True}),
    ("amc, 30 updates an episode", "amc", {"updates": 30}),
    ("amc, noise as in ddpg", "amc", {"decay": "ddpg"}),
    ("ddpg: all of them", "ddpg", {}),
    ("ddpg, projected one after the other", "ddpg", {"together": False}),
    ("ddpg, learning from what was asked for", "ddpg", {"applied": False}),
    ("ddpg, rewards as they are", "ddpg", {"scaled": False}),
    ("ddpg, warm-up anywhere", "ddpg", {"on_budget": False}),
    ("ddpg, an update per decision", "ddpg", {"updates": "amc"}),
    ("ddpg, the paper's noise", "ddpg", {"decay": 0.95}),
    ("ddpg, starting from the rules", "ddpg", {"start": "rules"}),
    ("ddpg, starting from the statistics", "ddpg", {"start": "statistics"}),
    ("random", "random", {}),
)


def play(
    problem: ProblemLike, agent: str, options: Mapping[str, Any], seed: int, episodes: int
) -> tuple[float, float, float]:
    """Return the mean accuracy of the last policies, the best accuracy, and the mean share of the budget used."""
    given = dict(options)
    for option in ("decay", "updates"):  # of which an agent's name stands for what it has by default
        if isinstance(given.get(option), str):
            namesake = make_agent(given[option], problem, episodes=episodes)
            assert isinstance(namesake, DDPG)
            given[option] = namesake.options[option]
    proposer = make_agent(agent, problem, seed=seed, episodes=episodes, **given)
    found, used = [], []
    for episode in range(episodes):
        counts = proposer.ask(episode)
        assert counts is not None
        score = problem.score(counts)
        proposer.tell(episode, counts, score)
        found.append(score.accuracy)
        used.append(problem.projector.usage(counts))
    return float(np.mean(found[-LAST:])), max(found), float(np.mean(used))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    torch.set_num_threads(1)
    digits = digits_problem()
    makers: dict[str, Callable[[int], ProblemLike]] = {
        "toy": lambda seed: ToyProblem(seed=seed),
        "digits": lambda _seed: digits,
    }
    rows = []
    for name, agent, given in LINES:
        cells = [name]
        for where, make in makers.items():
            played = [play(make(seed), agent, given, seed, EPISODES[where]) for seed in range(SEEDS)]
            last, best, used = np.mean(played, axis=0)
            cells += [f"{100 * last:.2f}", f"{100 * best:.2f}", f"{used:.2f}"]
        rows.append(f"| {' | '.join(cells)} |")
        print(rows[-1], flush=True)
    heads = [f"{where}: {what}" for where in makers for what in (f"last {LAST}", "best", "budget used")]
    text = "\n".join(
        [
            "# AMC as published, and each departure from it",
            "",
            "`--agent amc` is DDPG as He et al. (ECCV 2018) and their code have it; `ddpg` departs from it in six ways, each an "
            "option. Made by",
            "",
            "    python benchmarks/amc.py --out docs/amc.md",
            "",
            f"Accuracy (%) on what is searched, means over {SEEDS} seeds: of the last {LAST} policies, and of the best; and the "
            "share of the budget",
            f"that a policy used on average. Toy: four chains whose accuracy is a formula, {EPISODES['toy']} policies. Digits: "
            f"{EPISODES['digits']} policies. Half the MACs.",
            "",
            f"| agent | {' | '.join(heads)} |",
            f"|{' --- |' * (len(heads) + 1)}",
            *rows,
            "",
        ]
    )
    if options.out is not None:
        write_text_atomic(options.out, text)


if __name__ == "__main__":
    main()
