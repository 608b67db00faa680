"""Every agent with equal effort on CIFAR-10 and the digits, resumable: the comparisons of docs/search.md.

    python benchmarks/search.py --data DATA --out OUT [--only digits,r20-0.5,r20-0.3,r56-0.5,r56-0.3]

DATA holds ``cifar10`` and ``weights/cifar10_resnet*.safetensors``. What is in OUT is not done again.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from autoprune.budget import Budget
from autoprune.comparison import compare
from autoprune.comparison_table import draw, sentences, table
from autoprune.progress import Progress

ALL = "auto,ddpg,td3,sac,tpe,gp,cmaes,nsga2,evolution,netadapt,sensitivity,random,uniform,shallow,deep"
SEARCHES = "auto,tpe,ddpg,gp,random,uniform,shallow,deep"
FEW = "auto,tpe,ddpg,random,uniform,shallow,deep"
SETTINGS: dict[str, tuple[str, float, str, int, int]] = {
    "digits": ("digits", 0.5, ALL, 4, 50),
    "r20-0.5": ("cifar-resnet20", 0.5, SEARCHES, 4, 100),
    "r20-0.3": ("cifar-resnet20", 0.3, SEARCHES, 4, 100),
    "r56-0.5": ("cifar-resnet56", 0.5, FEW, 2, 100),
    "r56-0.3": ("cifar-resnet56", 0.3, FEW, 2, 100),
}


class Say(Progress):
    def stage(self, text: str) -> None:
        print(text, flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--only", default=",".join(SETTINGS))
    given = parser.parse_args()
    for name in given.only.split(","):
        model, budget, agents, seeds, episodes = SETTINGS[name]
        asked: dict[str, Any] = {"budget": Budget(budget), "episodes": episodes}
        if model != "digits":
            weights = given.data / "weights" / f"{model.replace('cifar-', 'cifar10_')}.safetensors"
            asked |= {"model": model, "weights": str(weights), "data": f"cifar10:{given.data / 'cifar10'}"}
        found = compare(asked, given.out / name, agents=agents.split(","), seeds=range(seeds), progress=Say())
        draw(found, given.out / name / "curves.png")
        print(f"\n{name}\n{table(found)}\n" + "\n".join(sentences(found)), flush=True)


if __name__ == "__main__":
    main()
