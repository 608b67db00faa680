"""The search itself: an agent and the simple rules propose policies, the problem scores them, the best are finished."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from itertools import chain
from typing import Any

from autoprune.agents import RULES, STEPS, Agent, Counts, make_player
from autoprune.errors import AutopruneError
from autoprune.evaluation import Score
from autoprune.graph import IntArray
from autoprune.latency import Ratio
from autoprune.pool import Workers
from autoprune.problem import Finished as FinishedNetwork
from autoprune.problem import excess, measured_values, met
from autoprune.report import Progress, Row, build_report, make_row
from autoprune.runs import Episode, RunConfig, RunFolder, distinct
from autoprune.searching._agent_state import AgentState, side_by_side
from autoprune.searching._choice import area, descent, front, ranked, thinned
from autoprune.searching._driven import DrivenProblem, Finished
from autoprune.searching._kept import read_kept, remove_kept, write_kept
from autoprune.searching._recheck import check_episodes, read_row, read_tried
from autoprune.support.files import save_safetensors_atomic
from autoprune.surgery import Policy

MOST_TIGHTENED = 4
"""How often a network that is slower than predicted is made smaller."""


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
        self._model_spec = model_spec
        self._progress = progress
        self._agent = agent if agent is not None else config.agent
        self._held_out = held_out
        self._names = [group.name for group in problem.decisions]
        self._episodes = folder.read_episodes(repair=True)
        self._proposers = [config.agent, *(name for name in config.baselines if name != config.agent)]
        check_episodes(folder, self._episodes, problem, problem.dense, agents=self._proposers)
        self._scores = {self._counts(e): e.score for e in self._episodes if not e.reused}
        self._proposed = {(e.agent, self._counts(e)) for e in self._episodes}
        self._probed: dict[str, float] = {}  # images that agents computed beside scores
        self._began = started - max((e.elapsed_s for e in self._episodes), default=0.0)

    def run(self, version: str) -> dict[str, Any]:
        """Do what is left to do and return the report, which is then on disk too.

        Args:
            version: autoprune's version, for the report.

        Raises:
            AutopruneError: if the agent proposes no policy within the budget.
        """
        own = self._config.agent
        for note in self._problem.notes:
            self._progress.stage(note)
        self._progress.begin(sum(map(self._allowed, self._proposers)), len(self._episodes))
        if self._workers > 1:
            self._search_together(self._proposers)
        rows = {name: row for name in self._proposers if (row := self._play(name)) is not None}
        order = [name for name in self._config.baselines if name in rows and name != own]
        exported, drop = own, None
        if self._problem.budget.max_drop is not None:
            exported, drop = self._export_confirmed(rows)
        front = self._front(own)
        self._folder.check_in_place()
        remove_kept(self._folder.finished_folder)
        report = build_report(
            self._config,
            [self._dense_row(), *(rows[name] for name in order), rows[own]],
            episodes=self._episodes,
            held_out=self._held_out,
            wall_s=self._elapsed(),
            version=version,
            notes=self._problem.notes,
            front=front,
            exported=exported,
            drop=drop,
        )
        report |= {"episodes": len(self._episodes), "digests": self._folder.digests()}
        self._folder.write_report(report)
        return report

    def _allowed(self, name: str) -> int:
        """Return how many policies a player may propose: as many as the agent, but a rule has one for each budget."""
        if name in RULES and name != self._config.agent:
            return STEPS if self._problem.budget.minimize is not None else 1
        return self._config.episodes

    def _play(self, name: str) -> Row | None:
        """Let one agent propose all its policies, and finish the best; None if none is within the budget."""
        kept = read_row(self._folder, name, self._problem, episodes=len(self._of(name)))
        if kept is not None:
            return kept
        best = self._search(name)
        if not best:
            if name != self._config.agent:
                return None
            raise AutopruneError(
                f"The agent '{name}' proposed no policy within the budget ({len(distinct(self._of(name)))} scored); "
                "give it more --episodes or use another --agent."
            )
        row = self._finish(name, best)
        self._folder.write_row(name, {**row.to_dict(), "episodes": len(self._of(name))})
        self._progress.finished(row)
        return row

    def _search(self, name: str) -> list[Episode]:
        """Return the agent's policies within the budget after all its episodes, the best first."""
        state = self._state(name)
        while state.ask() is not None:
            self._tell(state)
        self._probed[name] = state.agent.images
        return self._ranked(state.history)

    def _search_together(self, players: Sequence[str]) -> None:
        """Score what all players propose, at the same time."""
        if all(self._folder.read_row(name) is not None for name in players):
            return
        after = self._problem.budget.minimize is not None  # its ladder divides the episodes that there are

        def scored(counts: Counts, score: Score) -> None:
            self._scores[counts] = score

        with Workers(self._problem.score, self._workers) as workers:
            side_by_side(
                partial(self._state, after=after),
                players,
                workers,
                self._scores,
                scored=scored,
                tell=self._tell,
                matched="random",
                at_the_end=after,
            )

    def _state(self, name: str, *, after: bool = True) -> AgentState:
        """Return an agent with what it did so far; ``after`` the run's own agent, of which random proposes as many."""
        own = name == self._config.agent
        follows = after and not own and name not in RULES
        episodes = len(distinct(self._of(self._config.agent))) if follows else self._allowed(name)
        agent = make_player(
            self._agent if own else name,
            self._problem,
            seed=self._config.seed,
            episodes=episodes,
            options=self._config.agent_options if own else {},
        )
        history = self._of(name)
        if history:
            told = [(episode.episode, self._counts(episode), episode.score) for episode in history]
            agent.restore(self._folder.agent_folder(name), told)
        return AgentState(name, agent, self._problem, episodes, history)

    def _tell(self, state: AgentState) -> None:
        """Keep the score of the policy that waits longest, and tell the agent that proposed it."""
        counts = state.waiting.pop(0)
        episode = self._score(state.name, len(state.history), counts)
        state.history.append(episode)
        best = self._ranked(state.history)
        self._progress.scored(episode, best[0] if best else None)
        state.agent.tell(episode.episode, counts, episode.score)
        self._folder.check_in_place()
        state.agent.save(self._folder.agent_folder(state.name))

    def _ranked(self, episodes: Sequence[Episode]) -> list[Episode]:
        """Return the episodes within the budget, the best first; within a drop of accuracy the dense network is the last."""
        best = ranked(episodes, self._problem.budget)
        if self._problem.budget.max_drop is not None:
            whole = {group.name: group.size for group in self._problem.decisions}
            best.append(Episode("dense", -1, whole, self._problem.dense, True, True, 0.0))
        return best

    def _score(self, name: str, number: int, counts: Counts) -> Episode:
        known = (name, counts) in self._proposed
        self._proposed.add((name, counts))
        score = self._scores[counts] if counts in self._scores else self._problem.score(counts)
        self._scores[counts] = score
        episode = Episode(
            agent=name,
            episode=number,
            counts=dict(zip(self._names, counts, strict=True)),
            score=replace(score, seconds=0.0, cost=0.0) if known else score,
            feasible=self._problem.projector.fits(counts)
            and self._problem.budget.within(score.accuracy, self._problem.dense.accuracy, score.drop_se),
            reused=known,
            elapsed_s=self._elapsed(),
        )
        self._folder.append(episode)
        self._episodes.append(episode)
        return episode

    def _finish(self, name: str, best: Sequence[Episode]) -> Row:
        """Give an agent's best policies the best refit and return the row of the one that is then the best."""
        self._progress.stage(f"Finishing {name}'s best network")
        episode, finished, measured = self._chosen(best)
        if name == self._config.agent:
            self._export(name, finished)
        return self._row(name, episode, finished, measured)

    def _export(self, name: str, finished: Finished) -> None:
        """Make a finished network the run's result."""
        self._folder.check_in_place()
        save_safetensors_atomic(self._folder.model_path, finished.model.state_dict())
        self._policy(name, finished.kept, finished.search).save(self._folder.policy_path)

    def _finished(self, counts: Counts) -> Finished:
        """Return a policy's network with the best refit, which is kept until the run ends."""
        folder = self._folder.finished_folder
        stored = read_kept(folder, counts)
        if stored is not None:
            model = self._problem.rebuilt(stored.kept, stored.state)
            return FinishedNetwork(model, stored.kept, stored.search, stored.report, stored.right, stored.drop)
        found = self._problem.finish(counts)
        self._folder.check_in_place()
        write_kept(folder, counts, found)
        return found

    def _chosen(self, best: Sequence[Episode]) -> tuple[Episode, Finished, Ratio | None]:
        """Return which of the policies, the best first, is the best once finished and timed, its network and its time."""
        budget, dense = self._problem.budget, self._problem.dense
        first: list[tuple[Episode, Finished]] = []
        if budget.minimize is None:
            first = [
                (episode, self._finished(self._counts(episode))) for episode in best[: self._config.finish_policies]
            ]
            first.sort(key=lambda pair: (-pair[1].search.reward, _finite(pair[1].search.loss)))
        elif budget.max_drop is None:
            best = best[:1]
        others = (
            (episode, self._finished(self._counts(episode))) for episode in best[len(first) : self._config.most_tried]
        )
        slow: list[tuple[Episode, Finished, Ratio]] = []
        for episode, found in chain(first, others):
            if not budget.within(found.search.accuracy, dense.accuracy, found.search.drop_se):
                continue
            measured = self._problem.timed(found.model)
            if measured is None or met(budget, measured):
                return episode, found, measured
            slow.append((episode, found, measured))
        if slow:  # each was predicted to be fast enough, and none was
            return self._tightened(slow)
        found = self._finished(self._counts(best[-1]))
        return best[-1], found, self._problem.timed(found.model)

    def _tightened(self, slow: list[tuple[Episode, Finished, Ratio]]) -> tuple[Episode, Finished, Ratio]:
        """Shrink the best of networks that are slower than predicted until it is measured to be fast enough.

        Where the smallest network is too slow as well, the fastest that was measured is returned; the report says so.
        """
        budget, names = self._problem.budget, self._names
        episode, _, measured = slow[0]
        sizes = [group.size for group in self._problem.decisions]
        factor = 1.0
        for _ in range(MOST_TIGHTENED):
            factor /= excess(budget, measured)
            projector = self._problem.at(budget.tightened("latency", factor)).projector
            if not projector.fits([levels[0] for levels in self._problem.levels]):
                break
            self._progress.stage("The network is slower than predicted: shrinking it")
            ratios = [count / size for count, size in zip(self._counts(episode), sizes, strict=True)]
            counts = tuple(projector.project(ratios))
            found = self._finished(counts)
            measured = self._problem.timed(found.model) or measured
            smaller = replace(episode, counts=dict(zip(names, counts, strict=True)), score=found.search)
            slow.append((smaller, found, measured))
            if met(budget, measured):
                return slow[-1]
        return min(slow, key=lambda entry: entry[2].ratio)

    def _export_confirmed(self, rows: dict[str, Row]) -> tuple[str, dict[str, Any]]:
        """Make the smallest network that loses no more than allowed the run's result, whoever found it.

        It is confirmed on the half of the search images that no policy was scored on (see `autoprune.searching.descent`). Its row
        takes the place of its finder's. Where none is confirmed the dense network is the result, under the agent's name.

        Args:
            rows: The players' rows.

        Returns:
            Whose row the result is, and what was decided.
        """
        problem, own = self._problem, self._config.agent
        whole = {group.name: group.size for group in problem.decisions}
        best = Episode(own, -1, whole, problem.dense, True, True, 0.0)
        found, drop, failed = None, None, None
        # By agent, as if they had searched one after another: of equal policies the first one's is the result.
        fitting = [e for name in self._proposers for e in self._of(name) if problem.projector.fits(self._counts(e))]
        for number, episode in enumerate(
            descent(fitting, problem.budget, problem.dense.accuracy, self._config.most_tried)
        ):
            tried = self._tried(f"within-{number:02d}", episode)
            if not tried["fast"]:
                continue
            if not tried["confirmed"]:
                failed = tried["drop"]
                break
            best, found, drop = episode, Row.from_dict(tried), tried["drop"]
        name = best.agent
        self._progress.stage(f"The smallest network that is confirmed to be within the drop is {name}'s")
        finished = self._finished(self._counts(best))
        self._export(name, finished)
        rows[name] = found or self._row(name, best, finished)
        return name, {"smallest": drop, "failed": failed}

    def _tried(self, label: str, episode: Episode) -> dict[str, Any]:
        """Return a policy's row once finished, and whether it is confirmed to be within the drop; kept in the folder."""
        problem = self._problem
        kept = read_tried(self._folder, label, problem, episode)
        if kept is not None:
            return kept
        self._progress.stage(f"Finishing {episode.agent}'s policy {episode.episode + 1}, which may be within the drop")
        finished = self._finished(self._counts(episode))
        measured = problem.timed(finished.model)
        drop = finished.drop
        confirmed = (
            problem.budget.within(finished.search.accuracy, problem.dense.accuracy, finished.search.drop_se)
            if drop is None
            else drop.confirms(float(problem.budget.max_drop or 0.0) / 100)
        )
        kept = {
            **self._row(episode.agent, episode, finished, measured).to_dict(),
            "fast": measured is None or met(problem.budget, measured),
            "confirmed": confirmed,
            "drop": None if drop is None else drop.to_dict(),
        }
        self._folder.write_row(label, kept)
        return kept

    def _row(self, name: str, episode: Episode, finished: Finished, measured: Ratio | None = None) -> Row:
        return make_row(
            name,
            search=finished.search,
            report=finished.report,
            images=self._problem.report_images,
            episodes=self._of(name),
            counts=episode.counts,
            measured=None if measured is None else measured_values(measured),
            right=finished.right,
            setup_images=self._problem.setup_images,
            probe_images=self._probed.get(name, 0.0),
        )

    def _front(self, name: str) -> dict[str, Any] | None:
        """Finish the points of the agent's front, each with its policy and weights; None if no front was asked for."""
        budget, dense = self._problem.budget, self._problem.dense
        if budget.minimize is None or budget.max_drop is not None:
            return None
        kind = budget.minimize
        feasible = {player: front([e for e in self._of(player) if e.feasible], kind) for player in self._players()}
        points = thinned(feasible[name])
        rows = []
        for number, episode in enumerate(points):
            label = f"front-{number:02d}"
            kept = self._folder.read_row(label)
            if kept is None:
                self._progress.stage(f"Finishing point {number + 1} of {len(points)} of the front")
                finished = self._finished(self._counts(episode))
                folder = self._folder.front_folder
                save_safetensors_atomic(folder / f"{label}.safetensors", finished.model.state_dict())
                self._policy(name, finished.kept, finished.search).save(folder / f"{label}.json")
                row = self._row(label, episode, finished, self._problem.timed(finished.model))
                kept = {**row.to_dict(), "cost": finished.search.of(kind)}
                self._folder.write_row(label, kept)
            rows.append(kept)
        return {
            "kind": kind,
            "dense": dense.of(kind),
            "points": rows,
            "areas": {player: area(found, kind, dense) for player, found in feasible.items() if found},
        }

    def _players(self) -> list[str]:
        return [name for name in self._proposers if self._of(name)]

    def _policy(self, name: str, kept: Mapping[str, IntArray], score: Score) -> Policy:
        dense = self._problem.dense
        return Policy(
            groups=Policy.groups_of(self._problem.decisions, kept),
            model=self._model_spec,
            budget=self._config.budget.to_dict(),
            achieved={
                "macs": score.macs,
                "params": score.params,
                "dense_macs": dense.macs,
                "dense_params": dense.params,
                "ratio": score.macs / dense.macs,
            },
            score={"accuracy": score.accuracy, "loss": score.loss, "reward": score.reward},
            seed=self._config.seed,
            agent=name,
        )

    def _dense_row(self) -> Row:
        return make_row(
            "dense",
            search=self._problem.dense,
            report=self._problem.dense_report,
            images=self._problem.report_images,
            episodes=(),
            counts={group.name: group.size for group in self._problem.decisions},
            right=self._problem.dense_right,
        )

    def _of(self, name: str) -> list[Episode]:
        return [episode for episode in self._episodes if episode.agent == name]

    def _counts(self, episode: Episode) -> Counts:
        return tuple(episode.counts[name] for name in self._names)

    def _elapsed(self) -> float:
        return time.monotonic() - self._began


def _finite(loss: float) -> float:
    return loss if math.isfinite(loss) else math.inf
