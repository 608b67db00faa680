"""The search itself: an agent and the simple rules propose policies, the problem scores them, the best are finished."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from functools import partial
from typing import Any

from autoprune.agents import RULES, STEPS, Agent, Counts, agent_for_budget
from autoprune.errors import AutopruneError, UsageError
from autoprune.evaluation import Score
from autoprune.registry import nearest
from autoprune.report import Progress, Row, build_report, scored_row
from autoprune.runs import Episode, RunConfig, RunFolder, distinct, remove_best
from autoprune.searching._agent_state import AgentState, side_by_side
from autoprune.searching._choice import candidates, ranked
from autoprune.searching._driven import DrivenProblem
from autoprune.searching._ending import Ending, Stop
from autoprune.searching._finishing import FINISH_PASSES, Finishing
from autoprune.searching._front import finish_front
from autoprune.searching._journal import Journal, dense_episode
from autoprune.searching._kept import remove_kept
from autoprune.searching._smallest import export_smallest
from autoprune.workers import Workers

PROBE_PASSES = 1.0
"""Dense passes that probing takes at most; for the time left alone."""


class Driver:
    """Runs one search in one folder, from wherever an earlier session of it got to.

    Policies that keep equally many channels everywhere are scored once, whoever proposes them: the score is a function
    of the counts. The best few within the budget are finished, whoever proposed them (see `autoprune.searching.candidates`), and
    the one that is then the best on the search part is the run's result.

    Args:
        problem: What is pruned and how it is scored.
        config: The run's configuration; only what is about agents is read here.
        folder: Where the run is kept; locked by the caller.
        model_spec: How the policy file names the model.
        progress: Receives what happens.
        held_out: Whether the images reported on are ones that the search does not score policies on.
        started: ``time.monotonic()`` when this session began.
        agent: The agent's class, where the configuration's name for it cannot be imported.
        workers: How many processes score policies, if more than one; what is found does not depend on it.
        ending: When the search ends early, and whose network it hands over.
    """

    def __init__(
        self,
        problem: DrivenProblem,
        *,
        config: RunConfig,
        folder: RunFolder,
        model_spec: Mapping[str, Any],
        progress: Progress,
        held_out: bool,
        started: float,
        agent: str | type[Agent] | None = None,
        workers: int = 1,
        ending: Ending | None = None,
    ) -> None:
        self._workers = workers
        self._problem = problem
        self._config = config
        self._folder = folder
        self._progress = progress
        self._agent = agent if agent is not None else config.agent
        self._held_out = held_out
        others = [name for name in config.baselines if name != config.agent]
        rules = [name for name in others if name in RULES]
        proposers = [*rules, config.agent, *(name for name in others if name not in RULES)]
        self._ending = ending or Ending()
        self._stop = Stop.from_report(folder.read_report()) if self._ending.only_row else None
        self._journal = Journal(problem, folder, proposers, started=started)
        self._full: dict[Counts, bool] = {}
        self._finishing = Finishing(
            problem, self._journal, config=config, folder=folder, model_spec=model_spec, progress=progress
        )

    def run(self, version: str) -> dict[str, Any]:
        """Do what is left to do and return the report, which is then on disk too.

        Args:
            version: autoprune's version, for the report.

        Raises:
            AutopruneError: if nobody proposes a policy within the budget.
        """
        journal = self._journal
        for note in self._problem.notes:
            self._progress.stage(note)
        most, done = sum(map(self._allowed, journal.proposers)), len(journal.episodes)
        self._progress.begin(most, done)
        self._progress.plan(most - done, PROBE_PASSES + self._config.finish_policies * FINISH_PASSES)
        if self._workers > 1:
            self._search_together(journal.proposers)
        else:
            for name in journal.proposers:
                self._search(name)
        rows, exported, others = self._finish()
        self._folder.check_in_place()
        if self._problem.budget.minimize is not None:
            remove_kept(self._folder.finished_folder)
        order = [name for name in (*self._config.baselines, self._config.agent) if name in rows]
        report = build_report(
            self._config,
            [self._finishing.dense_row(), *(rows[name] for name in dict.fromkeys(order))],
            episodes=journal.episodes,
            held_out=self._held_out,
            wall_s=journal.elapsed_s(),
            version=version,
            notes=self._problem.notes,
            exported=exported,
            scored=self._scored(),
            stopped=None if self._stop is None else asdict(self._stop),
            passes=self._passes(),
            dense_seconds=self._problem.dense.seconds,
            **others,
        )
        report |= {"episodes": len(journal.episodes), "digests": self._folder.digests()}
        self._folder.write_report(report)
        remove_best(self._folder)
        return report

    def _finish(self) -> tuple[dict[str, Row], str, dict[str, Any]]:
        """Finish the best policies and export one; return the rows, whose network was exported, and what else was decided."""
        own, budget, names = self._config.agent, self._problem.budget, self._journal.proposers
        if budget.max_drop is not None:
            rows: dict[str, Row] = {}
            exported, drop = export_smallest(self._finishing, rows)
            return rows, exported, {"drop": drop}
        best = self._ranked(self._journal.of(own))
        others = self._ranked([e for name in names if name != own for e in self._journal.of(name)])
        if not best and not others:
            raise AutopruneError(
                f"The agent '{own}' proposed no policy within the budget ({len(distinct(self._journal.of(own)))} scored); "
                "give it more --episodes or use another --agent."
            )
        if budget.minimize is not None:
            order, first = (best or others)[:1], 1
        elif self._ending.row is not None or own in RULES:  # a rule that is asked for by name is what is wanted
            order, first = self._of_row(self._ending.row or own), 1
        else:
            hurried = self._stop is not None and self._stop.hurried
            order, first = candidates(best, others, 1 if hurried else self._config.finish_policies)
        self._progress.plan(0, first * FINISH_PASSES)
        episode, finished, measured = self._finishing.best(order, first)
        self._finishing.export(episode.agent, finished)
        rows = {} if budget.minimize is not None else self._finishing.rows(names)
        rows[episode.agent] = self._finishing.row(episode.agent, episode, finished, measured)
        for name in rows:
            self._progress.finished(rows[name])
        front = finish_front(self._finishing, own)
        return rows, episode.agent, {} if front is None else {"front": front}

    def _of_row(self, name: str) -> list[Episode]:
        """Return the policies within the budget of the agent or rule whose network is to be the result.

        Raises:
            UsageError: if it has none, or proposes nothing in this run.
        """
        names = self._journal.proposers
        if name not in names:
            raise UsageError(f"The run has no row '{name}'.{nearest(name, names)} It has: {', '.join(names)}.")
        best = self._ranked(self._journal.of(name))
        if not best:
            raise UsageError(f"The row '{name}' has no policy within the budget; take another.")
        return best

    def _scored(self) -> list[dict[str, Any]]:
        """Return for each agent and rule its best policy within the budget, by its score, before any final reconstruction."""
        found = []
        for name in self._journal.proposers:
            best = self._ranked(self._journal.of(name))
            if best and best[0].agent == name:
                found.append(scored_row(name, best[0], self._journal.of(name)))
        return found

    def _passes(self) -> dict[str, float]:
        """Return what the run cost in dense passes over the search images, by what for."""
        setup = self._problem.setup_cost
        return {"preparing": setup, "scoring": self._scoring, "finishing": self._finishing.cost}

    def _allowed(self, name: str) -> int:
        """Return how many policies one of them may propose: as many as the agent, but a rule has one for each budget."""
        if name in RULES and name != self._config.agent:
            return STEPS if self._problem.budget.minimize is not None else 1
        return self._config.episodes

    def _search(self, name: str) -> None:
        """Let one agent propose its policies, as many as it may and as the limits allow."""
        state = self._state(name)
        while self._goes_on(state) and state.ask() is not None and not self._is_converged(state):
            self._tell(state)
        self._journal.probed[name] = state.agent.images

    def _goes_on(self, state: AgentState) -> bool:
        """Return whether an agent is to be asked for another policy, as far as the limits say."""
        if self._ending.only_row:
            return False
        if state.name == self._config.agent:
            self._stop = self._stop or self._ending.is_spent(lambda: self._since_the_best(state.history))
        elif self._stop is not None and not self._stop.hurried:  # the agent's search ended, not that of another
            return True
        if self._stop is None and any(episode.feasible for episode in self._journal.episodes):
            self._stop = self._ending.reached(self._journal.elapsed_s(), self._problem.setup_cost + self._scoring)
        return self._stop is None

    def _since_the_best(self, history: Sequence[Episode]) -> int:
        """Return how many different policies came after the best within the budget; 0 where there is none."""
        tried, best = distinct(history), self._ranked(history)
        return len(tried) - 1 - tried.index(best[0]) if best and best[0] in tried else 0

    @property
    def _scoring(self) -> float:
        """What all scores took, in dense passes, whether their agents were told or not."""
        return sum(score.cost for score in self._journal.scores.values())

    def _is_converged(self, state: AgentState) -> bool:
        """Return whether the policy that the run's own agent proposed last promises too little to be scored."""
        if state.name != self._config.agent or self._problem.budget.minimize is not None or self._stop is not None:
            return False
        gain = state.agent.expected_gain()
        if gain is not None and (best := self._ranked(state.history)):
            self._stop = self._ending.is_converged(gain, best[0].score)
        return self._stop is not None

    def _search_together(self, names: Sequence[str]) -> None:
        """Score what all agents and rules propose, at the same time."""
        # A bisection over budgets divides the episodes that there are.
        after = self._problem.budget.minimize is not None

        def scored(counts: Counts, score: Score) -> None:
            self._journal.scores[counts] = score

        with Workers(self._problem.score, self._workers) as workers:
            states = side_by_side(
                partial(self._state, after=after),
                names,
                workers,
                self._journal.scores,
                scored=scored,
                tell=self._tell,
                goes_on=self._goes_on,
                is_converged=self._is_converged,
                leader=self._config.agent,
                matched="random",
                at_the_end=after,
            )
        self._journal.probed |= {name: state.agent.images for name, state in states.items()}

    def _state(self, name: str, *, after: bool = True) -> AgentState:
        """Return an agent with what it did so far; ``after`` the run's own agent, of which random proposes as many."""
        own = name == self._config.agent
        matched = after and not own and name not in RULES
        episodes = len(distinct(self._journal.of(self._config.agent))) if matched else self._allowed(name)
        agent = agent_for_budget(
            self._agent if own else name,
            self._problem,
            seed=self._config.seed,
            episodes=episodes,
            options=self._config.agent_options if own else {},
        )
        history = self._journal.of(name)
        if history:
            told = [(episode.episode, self._journal.counts(episode), episode.score) for episode in history]
            agent.restore(self._folder.agent_folder(name), told)
        return AgentState(name, agent, self._problem, episodes, history)

    def _tell(self, state: AgentState) -> None:
        """Keep the score of the policy that waits longest, and tell the agent that proposed it."""
        counts = state.waiting.pop(0)
        episode = self._journal.add(state.name, len(state.history), counts)
        state.history.append(episode)
        best = self._ranked(state.history)
        # The best of all is its agent's best, too, which is seldom a new one.
        is_own_best = self._problem.budget.minimize is None and best[:1] == [episode]
        if is_own_best and self._ranked(self._journal.episodes)[0] is episode:
            self._finishing.keep_best(episode)
        self._progress.scored(episode, best[0] if best else None)
        state.agent.tell(episode.episode, counts, episode.score)
        self._folder.check_in_place()
        state.agent.save(self._folder.agent_folder(state.name))

    def _ranked(self, episodes: Sequence[Episode]) -> list[Episode]:
        """Return the episodes within the budget, the best first; within a drop of accuracy the dense network is the last.

        At a budget that is to be used up, what leaves some of it (a probe that fits) counts only where nothing else fits.
        """
        best = ranked(episodes, self._problem.budget)
        best = [episode for episode in best if self._is_full(self._journal.counts(episode))] or best
        if self._problem.budget.max_drop is not None:
            best.append(dense_episode(self._problem, "dense"))
        return best

    def _is_full(self, counts: Counts) -> bool:
        """Return whether a policy within the budget uses it up, as far as the budget asks for that."""
        if counts not in self._full:
            self._full[counts] = tuple(self._problem.projector.fill(counts)) == counts
        return self._full[counts]
