"""The search itself: an agent and the simple rules propose policies, the problem scores them, the best are finished."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

from autoprune.agents import RULES, STEPS, Agent, Counts, agent_for_budget
from autoprune.errors import AutopruneError
from autoprune.evaluation import Score
from autoprune.report import Progress, Row, build_report
from autoprune.runs import Episode, RunConfig, RunFolder, distinct
from autoprune.searching._agent_state import AgentState, side_by_side
from autoprune.searching._choice import ranked
from autoprune.searching._driven import DrivenProblem
from autoprune.searching._finishing import Finishing
from autoprune.searching._front import finish_front
from autoprune.searching._journal import Journal, dense_episode
from autoprune.searching._kept import remove_kept
from autoprune.searching._recheck import read_row
from autoprune.searching._smallest import export_smallest
from autoprune.workers import Workers


class Driver:
    """Runs one search in one folder, from wherever an earlier session of it got to.

    Policies that keep equally many channels everywhere are scored once, whoever proposes them: the score is a function
    of the counts. The policy of a row is the best within the budget (see `autoprune.searching.ranked`), chosen on the search
    part once more when the first few are finished.

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
    ) -> None:
        self._workers = workers
        self._problem = problem
        self._config = config
        self._folder = folder
        self._progress = progress
        self._agent = agent if agent is not None else config.agent
        self._held_out = held_out
        proposers = [config.agent, *(name for name in config.baselines if name != config.agent)]
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
            AutopruneError: if the agent proposes no policy within the budget.
        """
        own, journal = self._config.agent, self._journal
        for note in self._problem.notes:
            self._progress.stage(note)
        self._progress.begin(sum(map(self._allowed, journal.proposers)), len(journal.episodes))
        if self._workers > 1:
            self._search_together(journal.proposers)
        rows = {name: row for name in journal.proposers if (row := self._run_agent(name)) is not None}
        order = [name for name in self._config.baselines if name in rows and name != own]
        exported, drop = own, None
        if self._problem.budget.max_drop is not None:
            exported, drop = export_smallest(self._finishing, rows)
        front = finish_front(self._finishing, own)
        self._folder.check_in_place()
        remove_kept(self._folder.finished_folder)
        report = build_report(
            self._config,
            [self._finishing.dense_row(), *(rows[name] for name in order), rows[own]],
            episodes=journal.episodes,
            held_out=self._held_out,
            wall_s=journal.elapsed_s(),
            version=version,
            notes=self._problem.notes,
            front=front,
            exported=exported,
            drop=drop,
        )
        report |= {"episodes": len(journal.episodes), "digests": self._folder.digests()}
        self._folder.write_report(report)
        return report

    def _allowed(self, name: str) -> int:
        """Return how many policies one of them may propose: as many as the agent, but a rule has one for each budget."""
        if name in RULES and name != self._config.agent:
            return STEPS if self._problem.budget.minimize is not None else 1
        return self._config.episodes

    def _run_agent(self, name: str) -> Row | None:
        """Let one agent propose all its policies, and finish the best; None if none is within the budget."""
        kept = read_row(self._folder, name, self._problem, episodes=len(self._journal.of(name)))
        if kept is not None:
            return kept
        best = self._search(name)
        if not best:
            if name != self._config.agent:
                return None
            raise AutopruneError(
                f"The agent '{name}' proposed no policy within the budget ({len(distinct(self._journal.of(name)))} scored); "
                "give it more --episodes or use another --agent."
            )
        row = self._finish(name, best)
        self._folder.write_row(name, {**row.to_dict(), "episodes": len(self._journal.of(name))})
        self._progress.finished(row)
        return row

    def _search(self, name: str) -> list[Episode]:
        """Return the agent's policies within the budget after all its episodes, the best first."""
        state = self._state(name)
        while state.ask() is not None:
            self._tell(state)
        self._journal.probed[name] = state.agent.images
        return self._ranked(state.history)

    def _search_together(self, names: Sequence[str]) -> None:
        """Score what all agents and rules propose, at the same time."""
        if all(self._folder.read_row(name) is not None for name in names):
            return
        after = (
            self._problem.budget.minimize is not None
        )  # a bisection over budgets divides the episodes that there are

        def scored(counts: Counts, score: Score) -> None:
            self._journal.scores[counts] = score

        with Workers(self._problem.score, self._workers) as workers:
            side_by_side(
                partial(self._state, after=after),
                names,
                workers,
                self._journal.scores,
                scored=scored,
                tell=self._tell,
                matched="random",
                at_the_end=after,
            )

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

    def _finish(self, name: str, best: Sequence[Episode]) -> Row:
        """Give an agent's best policies the final reconstruction and return the row of the one that is then the best."""
        self._progress.stage(f"Final reconstruction of {name}'s best network")
        episode, finished, measured = self._finishing.best(best)
        if name == self._config.agent:
            self._finishing.export(name, finished)
        return self._finishing.row(name, episode, finished, measured)
