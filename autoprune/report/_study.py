"""A run's policies as an Optuna study, for optuna-dashboard and Optuna's own plots, whichever agent proposed them."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING

from autoprune.errors import UsageError
from autoprune.runs import Episode, RunFolder
from autoprune.support.packages import lazy

if TYPE_CHECKING:
    import optuna
    from optuna.storages import BaseStorage
    from optuna.trial import FrozenTrial
else:
    optuna = lazy("optuna", "A study needs")


def write_study(
    run: str | Path, storage: str | BaseStorage, *, agent: str | None = None, name: str | None = None
) -> str:
    """Write the policies of a run's journal, finished or not, as trials of a new study.

    A trial's parameters are how many channels of each group were kept, its value the reward; accuracy, loss, MACs and
    parameters are user attributes. Policies above the budget are there too, with ``feasible`` false.

    Args:
        run: The run folder.
        storage: Where the study goes, as Optuna takes it ("sqlite:///study.db", or a storage of its own).
        agent: Whose policies; None for the run's own agent.
        name: Name of the study; None for that of the folder and the agent.

    Returns:
        The study's name.

    Raises:
        UsageError: if there is no run, none of its policies is the agent's, or there is a study of that name.
    """
    folder = RunFolder(Path(run))
    agent = agent if agent is not None else folder.read_config().agent
    folder.require()
    episodes = folder.read_episodes()
    own = [episode for episode in episodes if episode.agent == agent]
    if not own:
        known = ", ".join(sorted({episode.agent for episode in episodes})) or "nobody"
        raise UsageError(
            f"The run in '{folder.path}' has no policy of the agent '{agent}'; there are those of {known}."
        )
    name = name if name is not None else f"{folder.path.resolve().name}-{agent}"
    verbosity = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    try:
        study = optuna.create_study(storage=storage, study_name=name, direction="maximize")
    except optuna.exceptions.DuplicatedStudyError as error:
        raise UsageError(f"There is a study '{name}' in '{storage}' already; give another name.") from error
    finally:
        optuna.logging.set_verbosity(verbosity)
    most = {group: max(episode.counts[group] for episode in own) for group in own[0].counts}
    study.add_trials([_trial(episode, most) for episode in own])
    return name


def _trial(episode: Episode, most: dict[str, int]) -> FrozenTrial:
    score = episode.score
    finite = math.isfinite(score.reward)
    return optuna.trial.create_trial(
        params=dict(episode.counts),
        distributions={group: optuna.distributions.IntDistribution(1, most[group]) for group in episode.counts},
        value=score.reward if finite else None,
        state=optuna.trial.TrialState.COMPLETE if finite else optuna.trial.TrialState.FAIL,
        user_attrs={
            "accuracy": score.accuracy,
            "loss": score.loss if math.isfinite(score.loss) else None,
            "macs": score.macs,
            "params": score.params,
            "feasible": episode.feasible,
        },
    )
