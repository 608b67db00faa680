"""Agents that propose policies one after another or side by side, and the policies that wait for their scores."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from autoprune.agents import Agent, Counts
from autoprune.envs import ProblemLike
from autoprune.errors import AutopruneError
from autoprune.evaluation import Score
from autoprune.runs import Episode, distinct
from autoprune.workers import Workers


@dataclass(eq=False)
class AgentState:
    """An agent, what it did so far and what it asked.

    Attributes:
        name: The agent's name in the run.
        agent: The agent, told of the history.
        problem: What it proposes policies for.
        episodes: How many policies it may propose.
        history: Its finished episodes, in order.
        waiting: Policies that it proposed next and is not told of yet, in order.
        ended: Whether it proposes nothing more.
    """

    name: str
    agent: Agent
    problem: ProblemLike
    episodes: int
    history: list[Episode]
    waiting: list[Counts] = field(default_factory=list)
    ended: bool = False

    def ask(self, limit: int | None = None) -> Counts | None:
        """Return the next policy, which then waits; None if there is none, or none without more scores.

        Args:
            limit: How many policies it may have proposed for now, if fewer than ``episodes``.

        Raises:
            AutopruneError: if what the agent proposes is no policy.
        """
        number = len(self.history) + len(self.waiting)
        if self.ended or (limit is not None and number >= limit):
            return None
        if number < self.episodes:
            if not self.agent.ready(number, len(self.history)):
                return None
            counts = self.agent.ask(number)
            if counts is not None:
                self.waiting.append(checked(counts, self.problem, self.name, number))
                return self.waiting[-1]
        self.ended = True
        return None


def checked(counts: object, problem: ProblemLike, agent: str, episode: int) -> Counts:
    """Return what an agent proposed as a policy: one allowed count for each group.

    Args:
        counts: What it proposed.
        problem: What for.
        agent: Its name.
        episode: In which episode.

    Raises:
        AutopruneError: if it is no sequence of whole numbers, or too short or long, or a count is not allowed.
    """
    proposed = f"The agent '{agent}' proposed {' '.join(str(counts).split())[:80]} in episode {episode}"
    groups = problem.decisions
    values = list(counts) if isinstance(counts, Sequence | np.ndarray) and not isinstance(counts, str) else None
    if values is None or len(values) != len(groups):
        raise AutopruneError(f"{proposed}, but must return {len(groups)} counts, one for each prunable group.")
    found = []
    for value, group, allowed in zip(values, groups, problem.levels, strict=True):
        if isinstance(value, bool | np.bool_) or not isinstance(value, int | np.integer) or value not in allowed:
            raise AutopruneError(
                f"{proposed}, where group '{group.name}' keeps {' '.join(repr(value).split())}, but must keep one of "
                f"{', '.join(map(str, allowed[:8]))}{', ...' if len(allowed) > 8 else ''} channels, as a whole number; "
                "`problem.projector.project(ratios)` returns such counts."
            )
        found.append(int(value))
    return tuple(found)


def side_by_side(
    state_of: Callable[[str], AgentState],
    names: Sequence[str],
    workers: Workers,
    known: Mapping[Counts, Score],
    *,
    scored: Callable[[Counts, Score], None],
    tell: Callable[[AgentState], None],
    goes_on: Callable[[AgentState], bool],
    is_converged: Callable[[AgentState], bool],
    leader: str,
    matched: str,
    at_the_end: bool,
) -> dict[str, AgentState]:
    """Let agents propose at the same time until none does; each is told of its policies in the order of its own.

    Args:
        state_of: Makes an agent's state, given its name.
        names: The agents, those first whose policies are scored first.
        workers: What scores policies.
        known: The scores known, which ``scored`` adds to.
        scored: Called with every new score.
        tell: Called with a state whose first waiting policy has a score.
        goes_on: Whether a state's agent is to be asked for more.
        is_converged: Whether what it proposed last need not be scored, and nothing after it.
        leader: The run's own agent.
        matched: The matched-budget baseline: it proposes as many policies as the run's own agent did, maybe fewer than allowed.
        at_the_end: Whether it has to know how many that is before it begins.

    Returns:
        The states in the end, by name.
    """
    states: dict[str, AgentState] = {}
    while True:
        moved = False
        for name in names:
            first = states.get(leader) if name == matched and name != leader else None
            if name not in states:
                if first is not None and at_the_end and not (first.ended and not first.waiting):
                    continue
                states[name] = state_of(name)
            state = states[name]
            limit = None if first is None else len(distinct(first.history))
            while workers.free and not state.ended:
                if not goes_on(state):
                    state.ended = True
                    break
                if (counts := state.ask(limit)) is None:
                    break
                moved = True
                if is_converged(state):
                    state.waiting.pop()
                    state.ended = True
                    break
                if counts not in known and counts not in workers.busy:
                    workers.submit(counts)
            while state.waiting and state.waiting[0] in known:
                tell(state)
                moved = True
        if not moved:
            if not workers.busy:
                return states
            scored(*workers.wait())
