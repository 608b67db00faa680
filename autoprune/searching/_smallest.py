"""With ``--max-drop``: the smallest network that is confirmed to lose no more accuracy than allowed, whoever found it."""

from __future__ import annotations

from typing import Any

from autoprune.problem import met
from autoprune.report import Row
from autoprune.runs import Episode
from autoprune.searching._choice import descent
from autoprune.searching._driven import Finished
from autoprune.searching._finishing import Finishing
from autoprune.searching._journal import dense_episode
from autoprune.searching._recheck import read_tried


def export_smallest(finishing: Finishing, rows: dict[str, Row]) -> tuple[str, dict[str, Any]]:
    """Make the smallest network that loses no more than allowed the run's result.

    It is confirmed on the half of the search images that no policy was scored on (see `autoprune.searching.descent`). Where none
    is confirmed the dense network is the result, under the agent's name.

    Args:
        finishing: Finishes policies of the run.
        rows: Gets the row of the result.

    Returns:
        Whose row the result is, and what was decided.
    """
    problem, journal = finishing.problem, finishing.journal
    best = dense_episode(problem, finishing.config.agent)
    found, drop, failed = None, None, None
    # By agent, as if they had searched one after another: of equal policies the first one's is the result.
    fitting = [e for name in journal.proposers for e in journal.of(name) if problem.projector.fits(journal.counts(e))]
    for number, episode in enumerate(descent(fitting, problem.budget, problem.dense, finishing.config.most_tried)):
        tried = _tried(finishing, f"within-{number:02d}", episode)
        if not tried["fast"]:
            continue
        if not tried["confirmed"]:
            failed = tried["drop"]
            break
        best, found, drop = episode, Row.from_dict(tried), tried["drop"]
    name = best.agent
    finishing.progress.stage(f"The smallest network that is confirmed to be within the drop is {name}'s")
    finished = finishing.finished(best)
    finishing.export(name, finished)
    rows[name] = found or finishing.row(name, best, finished)
    return name, {"smallest": drop, "failed": failed}


def _tried(finishing: Finishing, label: str, episode: Episode) -> dict[str, Any]:
    """Return a policy's row once finished, whether it is fast enough, and whether its drop is confirmed; kept in the folder."""
    kept = read_tried(finishing.folder, label, finishing.problem, episode)
    if kept is not None:
        finishing.paid(episode, kept["passes"])
        return kept
    finishing.progress.stage(
        f"Final reconstruction of {episode.agent}'s policy {episode.episode + 1}, which may be within the drop"
    )
    finished = finishing.finished(episode)
    measured = finishing.problem.timed(finished.model)
    kept = {
        **finishing.row(episode.agent, episode, finished, measured).to_dict(),
        "fast": measured is None or met(finishing.problem.budget, measured),
        "confirmed": _confirmed(finishing, finished),
        "passes": finished.search.cost,
        "drop": None if finished.drop is None else finished.drop.to_dict(),
    }
    finishing.folder.write_row(label, kept)
    return kept


def _confirmed(finishing: Finishing, finished: Finished) -> bool:
    """Return whether a network's drop is confirmed on images that no policy was scored on, or else by its score."""
    budget, search = finishing.problem.budget, finished.search
    if finished.drop is None:
        return search.within(budget, finishing.problem.dense)
    return finished.drop.confirms(float(budget.max_drop or 0.0) / search.metric.scale)
