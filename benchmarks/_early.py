"""What the default agent finishes with where it may spend a tenth of what the better of DDPG and TPE spends."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from autoprune.comparison import results, run_folder
from autoprune.evaluation import Agents, stacked
from autoprune.searching import inputs_of, problem_of, ranked
from autoprune.support.answers import pack, unpack
from autoprune.support.strict_json import read_json, write_json_atomic

SHARE = 0.1
RIVALS = ("tpe", "ddpg")


def setup_images(found: Mapping[str, Any], out: Path) -> float:
    """Return what preparing the search computed, in images through the dense network."""
    report = run_folder(out, "auto", found["seeds"][0]).read_report()
    rows = {row["agent"]: row for row in found["rows"]}
    return float(report["final"]["images"] - rows["auto"]["curves"][0]["images"][-1])


def affordable(found: Mapping[str, Any], setup: float) -> tuple[str, int, float]:
    """Return the better rival on the report part, how many policies ``auto`` affords for a tenth of its cost, and the share.

    Preparing the search is part of both costs.
    """
    rows = {row["agent"]: row for row in found["rows"]}
    rival = max(RIVALS, key=lambda agent: float(rows[agent]["accuracy"]))
    paid, own = (
        setup + np.mean([curve["images"] for curve in rows[agent]["curves"]], axis=0) for agent in (rival, "auto")
    )
    policies = max(1, int(np.searchsorted(own, SHARE * paid[-1], side="right")))
    return rival, policies, float(own[policies - 1] / paid[-1])


def finish_early(out: Path) -> None:
    """Finish, with every seed, what ``auto`` had found when a tenth was spent, as a search that ended there would."""
    found = read_json(out / "comparison.json")
    _, policies, _ = affordable(found, setup_images(found, out))
    for seed in found["seeds"]:
        path = out / f"early-s{seed}.json"
        if path.is_file() and read_json(path)["policies"] == policies:
            continue
        folder = run_folder(out, "auto", seed)
        config = folder.read_config()
        problem = problem_of(config, inputs_of(config))
        scored = [episode for episode in folder.read_episodes() if episode.agent == "auto"][:policies]
        names = [group.name for group in problem.decisions]
        best = [
            tuple(episode.counts[name] for name in names)
            for episode in ranked(scored, problem.budget)[: config.finish_policies]
        ]
        chosen = max(map(problem.finish, best), key=lambda one: (one.search.reward, -one.search.loss))
        assert chosen.report is not None
        values = {
            "policies": policies,
            "accuracy": chosen.report.accuracy,
            "search_accuracy": chosen.search.accuracy,
            "right": None if chosen.right is None else pack(chosen.right),
        }
        write_json_atomic(path, values)
        print(f"auto after {policies} policies, seed {seed}: {100 * chosen.report.accuracy:.2f}", flush=True)


def sentence(out: Path) -> str:
    """Return how the networks of a tenth of the cost compare with the better rival's, on the report part."""
    found = read_json(out / "comparison.json")
    rival, policies, share = affordable(found, setup_images(found, out))
    early = [read_json(out / f"early-s{seed}.json") for seed in found["seeds"]]
    own = [float(one["accuracy"]) for one in early]
    theirs = next(row["merits"] for row in found["rows"] if row["agent"] == rival)
    agents = [row["agent"] for row in found["rows"]]
    reports = {(agent, seed): run_folder(out, agent, seed).read_report() for agent in agents for seed in found["seeds"]}
    accuracies, right, images = results(reports, agents, found["seeds"])
    answers = [None if one.get("right") is None else unpack(one["right"]) for one in early]
    tested = Agents([*accuracies, own], [*right, stacked(answers)], images)
    gap = tested.difference(len(agents), agents.index(rival))
    width = "" if gap.half_width is None else f" ± {100 * gap.half_width:.2f}"
    return (
        f"A search by `auto` that ends after {policies} policies has spent {share:.3f} of what `{rival}`, the better of DDPG "
        "and TPE on the report part, spends on 100, preparing the search included. Its finished network is at "
        f"{100 * np.mean(own):.2f} % there, `{rival}`'s at {100 * np.mean(theirs):.2f}: "
        f"{100 * gap.value:+.2f}{width} points ({gap.verdict})."
    )
