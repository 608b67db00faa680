"""What the statistics of ``compare`` and ``--max-drop`` come to by simulation: the tables of docs/significance.md.

    python benchmarks/significance.py [--times 2000] [--docs docs]

Everything is decided by the package's own functions: `autoprune.evaluation.Agents`, `autoprune.budget.Drop`,
`autoprune.searching.descent`, `Budget.within`. What is assumed of networks was measured on the published ResNet-20 (CIFAR-10, its
search part, mild policies by ``uniform`` and ``shallow``): at a loss of 0.1 to 0.2 points 1.1 to 2.5 % of the images are right
with one network and wrong with the other, at 0.5 to 1 points 2.7 to 4.9 %, at 2.3 points 5.5 %.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import stats

from autoprune.budget import Budget, drop_between
from autoprune.evaluation import Agents, Score
from autoprune.runs import Episode, RunConfig
from autoprune.searching import descent

Bools = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class World:
    """How agents' networks answer.

    Attributes:
        name: What it is called.
        images: Images of the report part, which all seeds share.
        accuracy: True accuracy of every agent.
        shared: Share of the variance of an image's margin that all networks have in common.
        own: Share that the networks of one agent have in common.
        spread: Standard deviation over seeds of an agent's true accuracy.
        ratio: How many times larger it is for every second agent than for the others.
    """

    name: str
    images: int = 2979
    accuracy: float = 0.89
    shared: float = 0.95
    own: float = 0.03
    spread: float = 0.004
    ratio: float = 1.0


WORLDS = (
    World("CIFAR-10, an agent's networks alike", own=0.045),
    World("CIFAR-10, networks all different", shared=0.9, own=0.0),
    World("CIFAR-10, seeds do not matter", own=0.045, spread=0.0),
    World("CIFAR-10, seeds matter most", shared=0.99, own=0.0, spread=0.009),
    World("CIFAR-10, seeds matter three times as much to every second agent", spread=0.002, ratio=3.0),
    World("digits", images=397, accuracy=0.98, spread=0.002),
)


def answers(rng: np.random.Generator, world: World, agents: int, seeds: int, gap: float = 0.0) -> Bools:
    """Return which images are right, shape (agents, seeds, N); the first agent is better by ``gap``, the others are equal."""
    spreads = np.where(np.arange(agents) % 2, world.ratio, 1.0) * world.spread
    accuracy = np.full(agents, world.accuracy)
    accuracy[0] += gap
    true = stats.norm.ppf(accuracy)[:, None] + rng.normal(size=(agents, seeds)) * (
        spreads / stats.norm.pdf(stats.norm.ppf(accuracy))
    ).reshape(-1, 1)

    def noise(*shape: int) -> npt.NDArray[np.float32]:
        return rng.standard_normal((*shape, world.images), dtype=np.float32)

    margin = math.sqrt(world.shared) * noise(1, 1) + math.sqrt(world.own) * noise(agents, 1)
    margin = margin + math.sqrt(1 - world.shared - world.own) * noise(agents, seeds)
    return margin + true[:, :, None].astype(np.float32) > 0


def compared(right: Bools) -> Agents:
    return Agents(right.mean(axis=2), list(right), right.shape[2])


def false_differences(world: World, agents: int, seeds: int, times: int, seed: int = 0) -> int:
    """Return in how many comparisons of equal agents any pair is said to differ."""
    rng = np.random.default_rng(seed)
    hits = 0
    for _ in range(times):
        tested = compared(answers(rng, world, agents, seeds))
        hits += any(tested.difference(a, b).shown for a in range(agents) for b in range(a))
    return hits


def found_gaps(world: World, agents: int, seeds: int, times: int, gap: float = 0.03, seed: int = 1) -> int:
    """Return in how many comparisons an agent that is better by ``gap`` is said to differ from another one."""
    rng = np.random.default_rng(seed)
    return sum(compared(answers(rng, world, agents, seeds, gap)).difference(0, 1).shown for _ in range(times))


@dataclass(frozen=True)
class Policies:
    """The policies of a search for the smallest network within a drop.

    Attributes:
        name: What they are called.
        losses: What each truly loses, in points.
        shares: Their shares of the cost.
    """

    name: str
    losses: tuple[float, ...]
    shares: tuple[float, ...]

    @classmethod
    def alike(cls, loss: float, count: int = 100) -> Policies:
        """Return so many that all lose the same."""
        plural = "policies lose" if count > 1 else "policy loses"
        return cls(f"{count} {plural} {loss:g} points", (loss,) * count, tuple(np.linspace(0.5, 0.9, count)))

    @classmethod
    def trading(cls, count: int = 100) -> Policies:
        """Return policies that lose the more the smaller they are: nothing at 0.9 of the cost, 4 points at half."""
        shares = np.linspace(0.5, 0.9, count)
        return cls(
            f"{count} policies lose 0 to 4 points", tuple(4 * ((0.9 - shares) / 0.4) ** 1.5), tuple(shares.tolist())
        )


def discordance(loss: float) -> float:
    """Return the share of images that only one of two networks gets right, by the points that one loses (ResNet-20)."""
    return 0.025 + 0.015 * max(loss, 0.0)


def outcome(
    rng: np.random.Generator, policies: Policies, allowed: float, images: int, alike: float
) -> tuple[float, float]:
    """Return what the result of a search truly loses, in points, and its share of the cost; (0, 1) is the dense network.

    Args:
        rng: Random numbers.
        policies: What is tried.
        allowed: ``--max-drop``.
        images: Search images, of which every second one decides.
        alike: Correlation of what policies get wrong.
    """
    losses = np.array(policies.losses)
    dense = rng.random(images) < 0.92
    both = np.array([discordance(loss) for loss in losses])
    worse, better = (both + losses / 100) / 2 / 0.92, (both - losses / 100) / 2 / 0.08
    draws = rng.standard_normal((len(losses), images), dtype=np.float32) * np.float32(math.sqrt(1 - alike))
    draws += math.sqrt(alike) * rng.standard_normal(images, dtype=np.float32)
    limits = np.where(dense, stats.norm.ppf(worse)[:, None], stats.norm.ppf(better)[:, None])
    right = dense ^ (draws < limits)  # (policies, images)
    scored, held = right[:, ::2], right[:, 1::2]
    budget = Budget(max_drop=allowed)
    episodes = [
        Episode("a", number, {"g": number}, Score(float(some.mean()), 0.0, int(1e6 * share), 0), True, False, 0.0)
        for number, (some, share) in enumerate(zip(scored, policies.shares, strict=True))
    ]
    result = (0.0, 1.0)
    for episode in descent(episodes, budget, Score(float(dense[::2].mean()), 0.0, 0, 0), RunConfig.most_tried):
        if not drop_between(dense[1::2], held[episode.episode]).confirms(allowed / 100):
            break
        result = policies.losses[episode.episode], policies.shares[episode.episode]
    return result


def outcomes(
    policies: Policies, allowed: float, images: int, times: int, alike: float = 0.5, seed: int = 2
) -> npt.NDArray[np.float64]:
    """Return true losses and shares of so many searches, shape (times, 2)."""
    rng = np.random.default_rng(seed)
    return np.array([outcome(rng, policies, allowed, images, alike) for _ in range(times)])


def table(head: Sequence[str], lines: Sequence[Sequence[Any]]) -> str:
    rows = [head, ["---"] * len(head), *lines]
    return "\n".join("| " + " | ".join(map(str, row)) + " |" for row in rows)


def compare_table(times: int) -> str:
    lines = []
    for world in WORLDS:
        for agents in (4, 8, 14):
            cells = [
                f"{100 * count / times:.1f}"
                for count in (
                    false_differences(world, agents, 2, times),
                    false_differences(world, agents, 4, times),
                    found_gaps(world, agents, 4, times // 4, 0.03 if world.accuracy < 0.95 else 0.015) * 4,
                )
            ]
            lines.append([world.name, agents, *cells])
            print(lines[-1], flush=True)
    return table(
        ["agents are equal", "agents", "any difference, 2 seeds, %", "4 seeds, %", "a gap is found, 4 seeds, %"], lines
    )


def drop_table(times: int) -> str:
    lines = []
    for allowed, images in ((1.0, 2000), (0.5, 2000), (1.0, 400)):
        for policies in (
            Policies.alike(2 * allowed),
            Policies.alike(1.25 * allowed),
            Policies.alike(1.01 * allowed),
            Policies.alike(0.0),
            Policies.alike(0.0, 1),
            Policies.trading(),
        ):
            cells = []
            for alike in (0.0, 0.5):
                found = outcomes(policies, allowed, images, times, alike)
                too_much, smaller = np.mean(found[:, 0] > allowed), np.mean(found[:, 1] < 1)
                cells += [f"{100 * too_much:.1f}", f"{100 * smaller:.1f}", f"{found[:, 1].mean():.3f}"]
            lines.append([f"{allowed:g}", f"{images:,}", policies.name, *cells])
            print(lines[-1], flush=True)
    what = ("too much lost, %", "a smaller network, %", "mean share")
    head = ["points allowed", "search images", "what is tried", *what, *(f"{some}, policies alike" for some in what)]
    return table(head, lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--times", type=int, default=2000, help="Simulations a figure.")
    parser.add_argument("--docs", type=Path)
    given = parser.parse_args()
    dropping, comparing = drop_table(max(given.times // 2, 1)), compare_table(given.times)
    print(comparing, dropping, sep="\n\n")
    if given.docs is not None:
        path = given.docs / "significance.md"
        text = path.read_text(encoding="utf-8")
        for mark, found in (("compare", comparing), ("drop", dropping)):
            start, end = f"<!-- {mark}:begin -->", f"<!-- {mark}:end -->"
            before, rest = text.split(start)
            text = f"{before}{start}\n{found}\n{end}{rest.split(end)[1]}"
        path.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
