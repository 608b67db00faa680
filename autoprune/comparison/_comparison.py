"""Several agents on one problem with equal effort: a folder of ordinary runs, and what they say together.

    OUT/AGENT-sSEED/     an ordinary run folder each
    OUT/scores-sSEED.jsonl   every policy that any of them scored: equal counts are scored once, and charged to each agent
    OUT/profile.jsonl    times measured on the target, where the budget is one of latency
    OUT/comparison.json  the table, the curves and the verdict
    OUT/curves.png       best so far against policies and against cost

What is there already is not done again, so that a comparison goes on where it was stopped.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from autoprune.agents import RULES
from autoprune.comparison._table import summarize
from autoprune.errors import UsageError
from autoprune.evaluation import Score
from autoprune.finetuning import FinetuneProgress, Recipe, finetune_run
from autoprune.problem import Finished, Problem
from autoprune.registry import only_named_by
from autoprune.report import Progress
from autoprune.runs import RunFolder
from autoprune.searching import (
    Ending,
    check_plugins,
    check_score,
    drive,
    load_asked,
    problem_of,
    refuse_dense,
    refuse_differences,
    resolve,
    take_over,
    told_to,
)
from autoprune.support.jsonl import append_jsonl, repair_jsonl
from autoprune.support.reading import reading
from autoprune.support.strict_json import write_json_atomic
from autoprune.support.threads import pinned_threads
from autoprune.workers import check_workers

PROFILE = "profile.jsonl"


class SharedProblem:
    """A problem whose scores are kept in a file, so that no policy is scored twice whichever run proposes it.

    Args:
        problem: The problem.
        path: The file; one for each seed.
    """

    def __init__(self, problem: Problem, path: Path) -> None:
        self._problem = problem
        self._path = path
        self._finished: dict[tuple[int, ...], Finished] = {}
        self._known: dict[tuple[int, ...], Score] = {}
        self._process = os.getpid()
        for line, record in enumerate(repair_jsonl(path), start=1):
            with reading(f"Line {line} of the scores '{path}'", "remove the file, what it holds is scored anew"):
                counts, score = tuple(record["counts"]), Score.from_record(record)
                wrong = check_score(counts, score, problem)
                if wrong is not None or counts in self._known:
                    raise ValueError(wrong or "its policy stood before")
                self._known[counts] = score

    def __getattr__(self, name: str) -> Any:
        return getattr(self._problem, name)

    def score(self, counts: Sequence[int]) -> Score:
        """Return the score of a policy; one known keeps the time and cost that it took."""
        key = tuple(int(count) for count in counts)
        if key not in self._known:
            score = self._problem.score(key)
            if os.getpid() != self._process:  # a worker's; the run's journal has it, from which the others learn
                return score
            self._keep(key, score)
        return self._known[key]

    def _keep(self, key: tuple[int, ...], score: Score) -> None:
        append_jsonl(self._path, {"counts": list(key), **asdict(score)})
        self._known[key] = score

    def learn(self, folder: RunFolder) -> None:
        """Take in what a run's journal has that workers scored.

        Raises:
            UsageError: if the journal is damaged, or of another problem.
        """
        for episode in folder.read_episodes():
            key = tuple(episode.counts.values())
            if key in self._known:
                continue
            wrong = check_score(key, episode.score, self._problem)
            if wrong is not None:
                raise UsageError(f"The journal in '{folder.path}' is of another problem: {wrong}; remove the folder.")
            self._keep(key, episode.score)

    def finish(self, counts: Sequence[int]) -> Finished:
        """Return a policy's finished network; the same object for the same policy."""
        key = tuple(int(count) for count in counts)
        if key not in self._finished:
            self._finished[key] = self._problem.finish(key)
        return self._finished[key]


@only_named_by("asked", "agents")
def compare(
    asked: Mapping[str, Any],
    out: Path,
    *,
    agents: Sequence[str],
    seeds: Sequence[int] = (0,),
    progress: Progress | None = None,
    download: bool = False,
    workers: int = 1,
    agent_options: Mapping[str, Mapping[str, Any]] | None = None,
    recipe: Mapping[str, Any] | None = None,
    tuning: Callable[[RunFolder], FinetuneProgress] | None = None,
    accept_dense: bool = False,
) -> dict[str, Any]:
    """Run, or go on with, every agent with every seed, and return what came out, which is then in the folder too.

    Args:
        asked: What is asked for, as for a search (see `autoprune.searching.resolve`), without agent and seed.
        out: The folder.
        agents: The agents' names, each once.
        seeds: The seeds.
        progress: Receives what happens.
        download: Whether the data may be downloaded.
        workers: Processes that score policies at the same time, with one thread each; what is found does not depend on it.
        agent_options: Options of each agent's own, by its name.
        recipe: How every run's network is then fine-tuned, settings of `autoprune.finetuning.Recipe`; None for not at all.
        tuning: What receives what happens in a run's fine-tuning.
        accept_dense: Search even if the dense network is no better than chance, or far below what its weights promise.

    Raises:
        UsageError: if what is asked cannot be done, or a run in the folder was begun differently.
        AutopruneError: if something fails while it runs.
    """
    progress = progress or Progress()
    if len(agents) < 2 or len(set(agents)) < len(agents):
        raise UsageError(f"The agents to compare are '{','.join(agents)}', but must be at least two, each once.")
    others = sorted(set(agent_options or {}) - set(agents))
    if others:
        raise UsageError(f"Options are given for '{others[0]}', but the agents compared are {', '.join(agents)}.")
    tuned = None if recipe is None else Recipe.from_dict(recipe).name  # a slip is to be reported before the searches
    asked = {**asked, "baselines": ()}  # so that a run's result is its agent's own
    plain = resolve(asked)
    own = {agent: {**asked, "agent": agent, "agent_options": (agent_options or {}).get(agent)} for agent in agents}
    check_workers(workers, plain.device)
    if recipe is not None and plain.budget.minimize is not None:
        raise UsageError(
            "Networks of different sizes do not compare after fine-tuning; give a budget, or leave --finetune out."
        )
    for agent in agents:
        check_plugins(resolve(own[agent]))
    inputs = load_asked(plain, download=download, say=progress.stage)
    ending = Ending(patience=None)  # equal effort
    for seed in seeds:
        shared: SharedProblem | None = None
        for agent in agents:
            config = replace(resolve({**own[agent], "seed": seed}), **inputs.recorded)
            folder = run_folder(out, agent, seed)
            if folder.exists:
                refuse_differences(folder, folder.read_config(), config)
                if folder.finished:
                    continue
            progress.stage(f"{agent}, seed {seed}")
            folder.check_writable()
            with folder.lock(), pinned_threads(1 if workers > 1 else None):
                started = time.monotonic()
                if shared is None:
                    take_over(config, out / PROFILE)
                    problem = problem_of(config, inputs, profile=out / PROFILE, **told_to(progress))
                    if not (accept_dense or folder.exists):
                        refuse_dense(problem, inputs)
                    shared = SharedProblem(problem, out / f"scores-s{seed}.jsonl")
                    for run in (run_folder(out, name, seed) for name in agents):
                        if run.exists:
                            shared.learn(run)
                folder.begin(config)
                progress.opened(folder)
                # What the shared problem lacks it takes from the problem.
                drive(
                    shared, config, inputs, folder, progress=progress, started=started, workers=workers, ending=ending
                )
                shared.learn(folder)
    runs = {(a, s): run_folder(out, a, s) for s in seeds for a in agents}
    if recipe is not None:
        for (agent, seed), folder in runs.items():
            progress.stage(f"Fine-tuning what {agent} found with seed {seed}")
            following = None if tuning is None else tuning(folder)
            finetune_run(folder, recipe, weights=plain.weights, download=download, progress=following)
    found = summary(runs, tuned)
    write_json_atomic(out / "comparison.json", found)
    return found


def summary(runs: Mapping[tuple[str, int], RunFolder], tuned: str | None = None) -> dict[str, Any]:
    """Return what finished runs, and their fine-tunings of a name, say together (see `autoprune.comparison.summarize`).

    Raises:
        UsageError: if one is not finished, or damaged.
    """
    with reading(f"A run below '{next(iter(runs.values())).path.parent}'", "remove its folder, it is made anew"):
        found = summarize(runs, rules=RULES, tuned=tuned)
    return found


def run_folder(out: Path, agent: str, seed: int) -> RunFolder:
    """Return the folder of one agent's run with one seed."""
    name = "".join(c if c.isalnum() or c in "-_." else "-" for c in agent)
    return RunFolder(out / f"{name}-s{seed}")
