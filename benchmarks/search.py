"""Every agent with equal effort on CIFAR-10 and the digits, resumable: docs/comparison.md and its figures.

    python benchmarks/search.py --data DATA --out OUT [--only digits,r20-0.5,...] [--agents auto,tpe] [--seeds 2] \
        [--docs docs]

DATA holds ``cifar10`` and ``weights/cifar10_resnet*.safetensors``. What is in OUT is not done again. With ``--docs`` the
settings that are finished in OUT are written down there.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from _early import RIVALS, finish_early, sentence, setup_images
from _say import Say

from autoprune.budget import Budget
from autoprune.comparison import compare, draw, run_folder, sentences, table
from autoprune.support.files import write_atomic, write_text_atomic
from autoprune.support.strict_json import read_json

ALL = "auto,ddpg,td3,sac,tpe,gp,cmaes,nsga2,evolution,netadapt,sensitivity,random,uniform,shallow,deep"
SEARCHES = "auto,tpe,ddpg,gp,random,uniform,shallow,deep"
FEW = "auto,tpe,ddpg,random,uniform,shallow,deep"
SETTINGS: dict[str, tuple[str, float, str, int, int]] = {
    "digits": ("digits", 0.5, ALL, 4, 50),
    "r20-0.5": ("cifar-resnet20", 0.5, SEARCHES, 4, 100),
    "r20-0.3": ("cifar-resnet20", 0.3, SEARCHES, 4, 100),
    "r56-0.5": ("cifar-resnet56", 0.5, FEW, 2, 100),
    "r56-0.3": ("cifar-resnet56", 0.3, FEW, 2, 100),
    "learning": ("cifar-resnet20", 0.5, "ddpg,random", 1, 400),
}
WINDOW = 20
Curve = Mapping[str, list[float]]


def play(name: str, data: Path, out: Path, most: int | None, only: str | None = None) -> None:
    model, budget, agents, seeds, episodes = SETTINGS[name]
    agents = only or agents
    seeds = seeds if most is None else min(most, seeds)
    asked: dict[str, Any] = {"budget": Budget(budget), "episodes": episodes}
    if model != "digits":
        weights = data / "weights" / f"{model.replace('cifar-', 'cifar10_')}.safetensors"
        asked |= {"model": model, "weights": str(weights), "data": f"cifar10:{data / 'cifar10'}"}
    found = compare(asked, out / name, agents=agents.split(","), seeds=range(seeds), progress=Say())
    print(f"\n{name}\n{table(found)}\n" + "\n".join(sentences(found)), flush=True)
    if _rivals(found) and model != "digits":
        finish_early(out / name)


def _rivals(found: Mapping[str, Any]) -> bool:
    return {"auto", *RIVALS} <= {row["agent"] for row in found["rows"]}


def mean_curve(curves: list[Curve], key: str) -> np.ndarray[Any, np.dtype[np.float64]]:
    """Return a curve's mean over seeds; one that ends early stays where it is."""
    length = max(len(curve[key]) for curve in curves)
    return np.mean([curve[key] + curve[key][-1:] * (length - len(curve[key])) for curve in curves], axis=0)


def speed(found: Mapping[str, Any], setup: float) -> list[str]:
    """Return when ``auto`` has what the better of DDPG and TPE has in the end on the search part, and for how much."""
    rows = {row["agent"]: row["curves"] for row in found["rows"]}
    out = []
    for key, sign, what in (("loss", -1.0, "least loss"), ("reward", 1.0, "best accuracy")):
        ends = {agent: sign * mean_curve(rows[agent], key)[-1] for agent in RIVALS}
        rival = max(ends, key=lambda agent: ends[agent])
        paid = mean_curve(rows[rival], "images")[-1]
        own, images = sign * mean_curve(rows["auto"], key), mean_curve(rows["auto"], "images")
        reached = np.flatnonzero(own >= ends[rival])
        if not len(reached):
            out.append(f"By {what} `auto` does not reach what `{rival}` has after all its policies.")
            continue
        first, policies = int(reached[0]), len(rows[rival][0][key])
        own_policies = "1 policy" if first == 0 else f"{first + 1} policies"
        alone, whole = paid / images[first], (paid + setup) / (images[first] + setup)
        out.append(
            f"By {what} on the search part `auto` has after {own_policies} what `{rival}`, the better of DDPG and TPE, "
            f"has after {policies}: {alone:.1f} times fewer dense images for scores ({images[first]:,.0f} against {paid:,.0f}), "
            f"{whole:.1f} times with preparing the search."
        )
    return out


def section(name: str, out: Path) -> str:
    """Return what is to be said of a finished setting."""
    model, budget, _, planned, episodes = SETTINGS[name]
    found = read_json(out / name / "comparison.json")
    seeds = len(found["seeds"])
    lines = [f"## {model} at {budget} of its MACs", ""]
    lines += [f"{seeds} of {planned} seeds, {episodes} policies an agent. Dense: {100 * found['dense']:.2f} %.", ""]
    lines += ["```text", table(found), "```", "", *sentences(found)]
    if _rivals(found):
        lines += ["", *speed(found, setup_images(found, out / name))]
        lines += [sentence(out / name)] if (out / name / f"early-s{found['seeds'][0]}.json").is_file() else []
    return "\n".join([*lines, "", f"![Best so far](comparison-{name}.png)", ""])


def learning(out: Path, figure_path: Path) -> str:
    """Draw what policies are worth on average in the course of 400, and say it."""
    from matplotlib.figure import Figure

    model, budget, agents, seeds, episodes = SETTINGS["learning"]
    figure = Figure(figsize=(8, 4), dpi=110, layout="constrained")
    axes = figure.subplots()
    said = []
    for agent in agents.split(","):
        scored = []
        for seed in range(seeds):
            journal = run_folder(out / "learning", agent, seed).read_episodes()
            scored.append([100 * episode.score.accuracy for episode in journal if episode.agent == agent])
        means = np.array(scored).reshape(seeds, -1, WINDOW).mean(axis=2)
        x, whole = WINDOW * (np.arange(means.shape[1]) + 0.5), means.mean(axis=0)
        (line,) = axes.plot(x, whole, label=agent)
        axes.fill_between(x, means.min(axis=0), means.max(axis=0), alpha=0.15, linewidth=0, color=line.get_color())
        said.append(f"`{agent}` {whole[0]:.2f}, {whole[len(whole) // 2]:.2f}, {whole[-1]:.2f} %")
    of = "one seed" if seeds == 1 else f"{seeds} seeds"
    axes.set_xlabel("policies")
    axes.set_ylabel(f"mean search accuracy of {WINDOW} policies, %")
    axes.legend()
    write_atomic(figure_path, lambda temporary: figure.savefig(temporary, format="png"))
    return "\n".join(
        [
            f"## DDPG over {episodes} episodes",
            "",
            f"{model} at {budget}, {of}: mean search accuracy of {WINDOW} policies at the start, in the middle and at "
            f"the end: {'; '.join(said)}.",
            "",
            f"![Mean accuracy of scored policies]({figure_path.name})",
            "",
        ]
    )


def write_down(out: Path, docs: Path) -> None:
    parts = [
        "# Agents compared",
        "",
        "Every agent with equal effort, no fine-tuning; accuracy on the report part (CIFAR-10: 2,979 images), which no search",
        "sees. Made by",
        "",
        "    python benchmarks/search.py --data DATA --out OUT --docs docs",
        "",
        "Figures: best so far on the search part, band from the least to the largest over seeds. Dense images: multiply-adds",
        "of all scores over those of one image through the dense network.",
        "",
    ]
    for name in SETTINGS:
        if not (out / name / "comparison.json").is_file():
            continue
        if name == "learning":
            parts.append(learning(out, docs / "comparison-learning.png"))
        else:
            draw(read_json(out / name / "comparison.json"), docs / f"comparison-{name}.png")
            parts.append(section(name, out))
    write_text_atomic(docs / "comparison.md", "\n".join(parts))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--only", default=",".join(SETTINGS))
    parser.add_argument("--seeds", type=int, help="At most so many seeds of each setting.")
    parser.add_argument("--agents", help="Instead of each setting's: A,B,...")
    parser.add_argument("--docs", type=Path)
    given = parser.parse_args()
    for name in filter(None, given.only.split(",")):
        play(name, given.data, given.out, given.seeds, given.agents)
    if given.docs is not None:
        write_down(given.out, given.docs)


if __name__ == "__main__":
    main()
