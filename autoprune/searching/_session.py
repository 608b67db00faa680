"""From what was asked to a finished run folder: completes the configuration, loads model and data, runs the driver."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from autoprune.agents import Agent, agent_for_budget, rule_policies
from autoprune.errors import UsageError
from autoprune.evaluation import (
    Metric,
    Task,
    default_reward,
)
from autoprune.latency import Profile, Target
from autoprune.models import untrained
from autoprune.problem import Problem, make_problem
from autoprune.registry import only_named_by
from autoprune.report import Progress
from autoprune.runs import Inputs, RunConfig, RunFolder, load_inputs, run_function, task_of
from autoprune.searching._dense_check import check_dense
from autoprune.searching._driven import DrivenProblem
from autoprune.searching._driver import Driver
from autoprune.searching._ending import Ending, has_ended
from autoprune.searching._plugins import check_plugins
from autoprune.searching._resolve import resolve
from autoprune.support.files import write_bytes_atomic
from autoprune.support.threads import pinned_threads
from autoprune.workers import check_workers

INPUT_KEYS = ("model", "weights", "data", "mean", "std", "input_shape", "resize", "crop", "transform")
"""What is asked of a run that decides its model and data."""
FINISHED = "The run in '{}' is finished; this is its result"


@only_named_by("asked")
def search_to_folder(
    asked: Mapping[str, Any],
    out: Path | None,
    *,
    progress: Progress | None = None,
    download: bool = False,
    root: Path = Path("runs"),
    workers: int = 1,
    ending: Ending | None = None,
    accept_dense: bool = False,
) -> RunFolder:
    """Run a search, continue it, or just find it finished.

    Args:
        asked: What is asked for, see `resolve`. What is left out is taken from the run in ``out``, or from the defaults if
            there is none.
        out: The run folder; None for one below ``root`` named after the configuration.
        progress: Receives what happens.
        download: Whether the data may be downloaded.
        root: Where run folders go that are not named.
        workers: Processes that score policies at the same time, with one thread each.
        ending: When the search ends early, and whose network it hands over.
        accept_dense: Search even if the dense network is no better than chance, or far below what its weights promise.

    Returns:
        The finished run's folder.

    Raises:
        UsageError: if what was asked cannot be done, or differs from the run that is there; says what differs.
        AutopruneError: if another process writes the folder, or something else fails.
    """
    started = time.monotonic()
    progress = progress or Progress()
    check_workers(workers, str(asked.get("device") or RunConfig.device))
    begun = RunFolder(out) if out is not None and RunFolder(out).exists else None
    stored = None if begun is None else begun.read_config()
    config = resolve(asked, stored)
    if begun is not None and stored is not None:
        refuse_differences(begun, stored, config)
        if has_ended(begun, ending) and not any(asked.get(key) is not None for key in INPUT_KEYS):
            progress.stage(FINISHED.format(begun.path))
            return begun
    check_plugins(config)
    progress.stage("Loading model and data")
    if untrained(config.model, config.weights):
        progress.stage(f"No --weights given: {config.model} has random weights, so expect no accuracy from it")
    inputs = load_asked(config, download=download, say=progress.stage, task=task_asked(asked, stored))
    config = as_found(config, inputs, asked)
    folder = RunFolder(out if out is not None else root / config.default_name())
    progress.opened(folder)
    execute(
        config,
        inputs,
        folder,
        progress=progress,
        started=started,
        workers=workers,
        ending=ending,
        accept_dense=accept_dense,
    )
    return folder


def execute(
    config: RunConfig,
    inputs: Inputs,
    folder: RunFolder,
    *,
    progress: Progress,
    started: float,
    agent: str | type[Agent] | None = None,
    workers: int = 1,
    ending: Ending | None = None,
    accept_dense: bool = False,
) -> None:
    """Run or continue a configured search in a folder; does nothing if it is finished already.

    Args:
        config: The configuration.
        inputs: Model and data.
        folder: Where the run is kept.
        progress: Receives what happens.
        started: ``time.monotonic()`` when this session began.
        agent: The agent's class, where the configuration's name for it cannot be imported.
        workers: Processes that score policies at the same time, with one thread each.
        ending: When the search ends early, and whose network it hands over.
        accept_dense: Search even if the dense network is no better than chance, or far below what its weights promise.

    Raises:
        UsageError: if the folder holds another run, or cannot be written.
        AutopruneError: if another process writes the folder, or something else fails.
    """
    if folder.exists:
        refuse_differences(folder, folder.read_config(), config)
        if has_ended(folder, ending):
            progress.stage(FINISHED.format(folder.path))
            return
    check_workers(workers, config.device)
    folder.check_writable()
    with folder.lock(), pinned_threads(1 if workers > 1 else None):
        progress.stage("Tracing the network, proving the groups, collecting statistics")
        take_over(config, folder.profile_path)
        problem = problem_of(config, inputs, profile=folder.profile_path, **told_to(progress))
        if not (accept_dense or folder.exists):
            refuse_dense(problem, inputs)
        inputs = replace(inputs, model_spec={**inputs.model_spec, **problem.traced_as})
        agent_for_budget(  # a slip in its options is to be reported before there is a run
            agent if agent is not None else config.agent,
            problem,
            seed=config.seed,
            episodes=config.episodes,
            options=config.agent_options,
        )
        folder.begin(config)
        if has_ended(folder, ending):  # another process ended it while this one waited or loaded
            return
        drive(
            problem,
            config,
            inputs,
            folder,
            progress=progress,
            started=started,
            agent=agent,
            workers=workers,
            ending=ending,
        )


def drive(
    problem: DrivenProblem,
    config: RunConfig,
    inputs: Inputs,
    folder: RunFolder,
    *,
    progress: Progress,
    started: float,
    agent: str | type[Agent] | None = None,
    workers: int = 1,
    ending: Ending | None = None,
) -> None:
    """Search on a problem that is ready, in a folder that was begun and is locked, up to the report.

    Args:
        problem: What is pruned.
        config: The configuration.
        inputs: Model and data that the problem was made of.
        folder: Where the run is kept.
        progress: Receives what happens.
        started: ``time.monotonic()`` when this session began.
        agent: The agent's class, where the configuration's name for it cannot be imported.
        workers: Processes that score policies at the same time, with one thread each.
        ending: When the search ends early, and whose network it hands over.

    Raises:
        AutopruneError: if the agent proposes no policy within the budget, or something fails.
    """
    from autoprune import __version__

    ending = ending or Ending()
    if folder.finished and not ending.goes_on(folder.read_report()):
        ending = replace(ending, only_row=True)
    Driver(
        problem,
        config=config,
        folder=folder,
        model_spec=inputs.model_spec,
        progress=progress,
        held_out=inputs.report is not None,
        started=started,
        agent=agent,
        workers=workers,
        ending=ending,
    ).run(__version__)


def take_over(config: RunConfig, path: Path) -> None:
    """Copy a profile that was given to where the search goes on with it.

    Raises:
        UsageError: if it is damaged, or of another target.
    """
    if config.profile is None or config.target is None or path.exists():
        return
    Profile.load(config.profile, expect=Target.from_dict(config.target))
    write_bytes_atomic(path, Path(config.profile).read_bytes())


@only_named_by()
def inputs_of(config: RunConfig, *, download: bool = False, say: Callable[[str], None] | None = None) -> Inputs:
    """Return the model and data of a run that was begun from specifications; whether they are still the same is not checked.

    Args:
        config: The run's configuration.
        download: Whether the data may be downloaded.
        say: Told what is being loaded.

    Raises:
        UsageError: if something is missing.
    """
    return load_asked(config, download=download, say=say)


def task_asked(asked: Mapping[str, Any], stored: RunConfig | None) -> Task:
    """Return what networks are to be judged by: as asked, as in the run that goes on, or what suits network and images.

    Args:
        asked: What is asked for, see `resolve`; "divergence" and "run" may be functions.
        stored: The configuration of a run that goes on.
    """
    passed = {key: asked[key] for key in ("divergence", "run") if callable(asked.get(key))}
    if stored is not None:
        return replace(task_of(replace(stored, run=None) if "run" in passed else stored), **passed)
    name, maximize = asked.get("metric"), asked.get("maximize")
    metric = None if name is None else Metric.named(str(name), maximize=maximize is not False)
    return Task(asked.get("labels"), metric, asked.get("divergence"), run_function(asked.get("run")))


def as_found(config: RunConfig, inputs: Inputs, asked: Mapping[str, Any]) -> RunConfig:
    """Return the configuration with what model and data say: fingerprints, preprocessing, what is measured.

    Args:
        config: The configuration as it was asked for.
        inputs: Model and data.
        asked: What was asked for, see `resolve`.
    """
    found = replace(config, **inputs.recorded)
    if asked.get("reward") is None and config.labels and not found.labels:
        found = replace(found, reward=default_reward(found.budget, labels=False))
    return found


def load_asked(
    config: RunConfig, *, download: bool, say: Callable[[str], None] | None, task: Task | None = None
) -> Inputs:
    """Return the model and data that a configuration names.

    Args:
        config: The configuration.
        download: Whether the data may be downloaded.
        say: Told what is being loaded.
        task: What networks are judged by; None for the configuration's.

    Raises:
        UsageError: if something is missing, damaged or does not fit.
    """
    return load_inputs(
        config.model,
        config.data or None,
        weights=config.weights,
        mean=config.mean,
        std=config.std,
        input_shape=config.input_shape,
        download=download,
        device=config.device,
        say=say,
        preparation=config.preparation,
        task=task_of(config) if task is None else task,
        batch_size=config.batch_size,
    )


def problem_of(
    config: RunConfig,
    inputs: Inputs,
    *,
    profile: Path | None = None,
    say: Callable[[str], None] | None = None,
    **others: Any,
) -> Problem:
    """Return the pruning problem that a configuration describes (traces, proves, collects statistics, measures times).

    Args:
        config: The configuration.
        inputs: Model and data.
        profile: Where measured times are kept.
        say: Told what is being measured.
        **others: Arguments of `make_problem` that no configuration has.

    Raises:
        UsageError: if what is asked cannot be done; says why.
    """
    problem = make_problem(
        inputs.model,
        inputs.example_input,
        calibration=inputs.calibration,
        evaluate=inputs.search,
        report=inputs.report,
        budget=config.budget,
        reward=inputs.reward if inputs.reward is not None else config.reward,
        task=inputs.task,
        select=config.select,
        score=config.score,
        finish_steps=config.finish_steps,
        include_residual=config.include_residual,
        decide=config.decide,
        part=config.part,
        ignore=config.ignore,
        bounds=config.bounds,
        min_keep=config.min_keep,
        round_to=config.round_to,
        device=config.device,
        seed=config.seed,
        batch_size=config.batch_size,
        target=None if config.target is None else Target.from_dict(config.target),
        profile=profile,
        say=say,
        **others,
    )
    if config.race:
        problem.race_against(rule_policies(problem))
    return problem


def refuse_dense(problem: DrivenProblem, inputs: Inputs) -> None:
    """Refuse a dense network that is no better than chance, or far below what its weights promise.

    Raises:
        AutopruneError: if it is.
    """
    dense = problem.dense
    images = dense.images // 2 if problem.budget.max_drop is not None else dense.images
    check_dense(dense.metric.name, dense.accuracy, images, inputs.model_spec.get("num_classes"), inputs.promised)


def told_to(progress: Progress) -> dict[str, Any]:
    """Return the arguments of `problem_of` by which what a problem measures and probes is told to a receiver."""
    return {"say": progress.stage, "measured": progress.measured, "step": progress.step}


def refuse_differences(folder: RunFolder, stored: RunConfig, wanted: RunConfig) -> None:
    """Refuse to go on with a run that was begun with another configuration.

    Raises:
        UsageError: saying what differs.
    """
    differences = stored.differences(wanted)
    if differences:
        raise UsageError(
            f"The run in '{folder.path}' was begun differently ({'; '.join(differences)}); "
            "give the same options or another --out."
        )
