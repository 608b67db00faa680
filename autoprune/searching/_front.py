"""With ``--pareto``: the points of the agent's front of accuracy against cost, each finished, with its policy and weights."""

from __future__ import annotations

from typing import Any

from autoprune.searching._choice import area, front, thinned
from autoprune.searching._finishing import Finishing
from autoprune.support.tensors import save_safetensors_atomic


def finish_front(finishing: Finishing, name: str) -> dict[str, Any] | None:
    """Finish the points of an agent's front that were not finished before; None if no front was asked for.

    Args:
        finishing: Finishes policies of the run.
        name: The agent.

    Returns:
        What the report says of it: the cost's ``kind``, the ``dense`` network's cost, the finished ``points`` as rows with their
        ``cost``, and the ``areas`` below the fronts of all agents.
    """
    problem, journal, folder = finishing.problem, finishing.journal, finishing.folder
    kind = problem.budget.minimize
    if kind is None or problem.budget.max_drop is not None:
        return None
    fronts = {
        agent: front([e for e in episodes if e.feasible], kind)
        for agent in journal.proposers
        if (episodes := journal.of(agent))
    }
    points = thinned(fronts[name])
    rows = []
    for number, episode in enumerate(points):
        label = f"front-{number:02d}"
        kept = folder.read_row(label)
        if kept is None:
            finishing.progress.stage(f"Final reconstruction of point {number + 1} of {len(points)} of the front")
            finished = finishing.finished(episode)
            save_safetensors_atomic(folder.front_folder / f"{label}.safetensors", finished.model.state_dict())
            finishing.policy(name, finished.kept, finished.search).save(folder.front_folder / f"{label}.json")
            row = finishing.row(label, episode, finished, problem.timed(finished.model))
            kept = {**row.to_dict(), "cost": finished.search.of(kind), "passes": finished.search.cost}
            folder.write_row(label, kept)
        finishing.paid(episode, kept["passes"])
        rows.append(kept)
    return {
        "kind": kind,
        "dense": problem.dense.of(kind),
        "points": rows,
        "areas": {agent: area(found, kind, problem.dense) for agent, found in fronts.items() if found},
    }
