"""What a run folder says, computed again where the problem is at hand: nothing wrong is searched on, exported or reported."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

from autoprune.budget import Budget, read_drop
from autoprune.envs import ProblemLike
from autoprune.errors import UsageError
from autoprune.evaluation import Score
from autoprune.report import Row
from autoprune.runs import Episode, RunFolder
from autoprune.support.reading import reason


def check_episodes(
    folder: RunFolder, episodes: Sequence[Episode], problem: ProblemLike, dense: Score, *, agents: Collection[str]
) -> None:
    """Compare a journal with the run: agents, groups, counts, costs, and what follows from them.

    Args:
        folder: The run, for messages.
        episodes: Its episodes.
        problem: The problem that they are about.
        dense: The dense network's score on the search part.
        agents: Who proposes policies in this run.

    Raises:
        AutopruneError: naming the first line that is not this problem's.
    """
    seen: set[tuple[str, tuple[int, ...]]] = set()
    for line, episode in enumerate(episodes, start=1):
        counts, score = tuple(episode.counts.values()), episode.score
        wrong = _wrong(episode.counts, score.macs, score.params, problem)
        if wrong is None and episode.agent not in agents:
            wrong = f"'{episode.agent:.40}' proposes nothing in it"
        if wrong is None:
            wrong = next((_not_a_level(*found) for found in _outside(episode.counts, problem)), None)
        if wrong is None and episode.reused != ((episode.agent, counts) in seen):
            wrong = "whether its agent proposed an equal policy before is wrong"
        if wrong is None and episode.feasible != _feasible(counts, score, problem, dense, otherwise=episode.feasible):
            wrong = "whether it is within the budget is wrong"
        if wrong is not None:
            raise folder.damaged(line, wrong)
        seen.add((episode.agent, counts))


def read_tried(folder: RunFolder, label: str, problem: ProblemLike, episode: Episode) -> dict[str, Any] | None:
    """Return what a run with ``--max-drop`` wrote of a policy that it finished, None if it did not.

    Args:
        folder: The run.
        label: The name of its row.
        problem: The problem that it is about.
        episode: The policy.

    Raises:
        UsageError: if it is damaged, not about this problem, or of another policy.
    """
    kept = folder.read_row(label)
    if kept is None:
        return None
    row = _row(folder, label, kept, problem, of=episode.agent)
    wrong = None if row.counts == episode.counts else "it is of another policy"
    drop, allowed = kept.get("drop"), float(problem.budget.max_drop or 0.0) / problem.dense.metric.scale
    if wrong is None and not all(type(kept.get(key)) is bool for key in ("fast", "confirmed")):
        wrong = "it does not say whether the policy is within the budget"
    elif wrong is None and type(kept.get("passes")) not in (int, float):
        wrong = "it does not say what finishing it took"
    elif wrong is None and drop is not None:
        try:
            confirmed = read_drop(drop).confirms(allowed)
        except (ValueError, TypeError) as error:
            wrong = f"the drop {reason(error)}"
        else:
            wrong = None if confirmed == kept["confirmed"] else "whether its drop is confirmed is wrong"
    if wrong is not None:
        raise _not_ours(folder, label, wrong)
    return kept


def check_score(counts: Sequence[int], score: Score, problem: ProblemLike) -> str | None:
    """Return why a score is not that of a policy of the problem, as far as it follows from the counts; None if it is.

    Args:
        counts: Channels kept, one for each decision.
        score: The score.
        problem: The problem.
    """
    names = [group.name for group in problem.decisions]
    if len(counts) != len(names):
        return f"it has {len(counts)} groups, not {len(names)}"
    named = dict(zip(names, counts, strict=True))
    wrong = _wrong(named, score.macs, score.params, problem)
    return wrong or next((_not_a_level(*found) for found in _outside(named, problem)), None)


def _row(folder: RunFolder, label: str, kept: Mapping[str, Any], problem: ProblemLike, *, of: str) -> Row:
    """Return a stored line of the table (UsageError if it is not one of this problem and of that name)."""
    try:
        row = Row.from_dict(kept)
        wrong = _wrong(row.counts, row.macs, row.params, problem)
    except (KeyError, TypeError, AttributeError) as error:
        raise _not_ours(folder, label, f"{type(error).__name__}: {error}") from error
    wrong = f"it is that of {row.name}" if wrong is None and row.name != of else wrong
    if wrong is not None:
        raise _not_ours(folder, label, wrong)
    return row


def _not_ours(folder: RunFolder, label: str, why: str) -> UsageError:
    return UsageError(
        f"The row '{label}' in '{folder.path}' is not this run's ({why}); restore it, or remove it to have it made again."
    )


def _wrong(counts: Mapping[str, int], macs: int, params: int, problem: ProblemLike) -> str | None:
    """Return why counts and their costs are not the problem's; None if they are."""
    if list(counts) != [group.name for group in problem.decisions]:
        return "its groups are not this network's"
    for group, levels, count in zip(problem.decisions, problem.levels, counts.values(), strict=True):
        if type(count) is not int or not min(1, levels[0]) <= count <= group.size:
            return f"group '{group.name}' has {group.size} channels and cannot keep {count!r:.40}"
    kept = tuple(counts.values())
    found = (problem.cost.macs(kept), problem.cost.params(kept))
    if (macs, params) != found:
        return f"its policy has {found[0]} multiply-adds and {found[1]} parameters, not {macs!r:.40} and {params!r:.40}"
    return None


def _outside(counts: Mapping[str, int], problem: ProblemLike) -> list[tuple[str, int]]:
    return [
        (name, count)
        for (name, count), levels in zip(counts.items(), problem.levels, strict=True)
        if count not in levels
    ]


def _not_a_level(name: str, count: int) -> str:
    return f"{count} channels of group '{name}' are none of the numbers that it may keep"


def _feasible(counts: tuple[int, ...], score: Score, problem: ProblemLike, dense: Score, *, otherwise: bool) -> bool:
    """Return whether a policy is within the budget; ``otherwise`` where that rests on measured times."""
    budget: Budget = problem.budget
    if "latency" in budget.kinds:
        return otherwise
    return problem.projector.fits(counts) and score.within(budget, dense)
