from __future__ import annotations

from pathlib import Path

import optuna
import pytest

from autoprune.budget import Budget
from autoprune.errors import UsageError
from autoprune.evaluation import Score
from autoprune.report import write_study
from autoprune.runs import Episode, RunConfig, RunFolder


@pytest.fixture
def run(tmp_path: Path) -> RunFolder:
    folder = RunFolder(tmp_path / "run")
    folder.begin(
        RunConfig(model="m", model_fingerprint="m", data="d", data_fingerprint="d", budget=Budget(0.5), agent="random")
    )
    for number, (agent, episode, reward) in enumerate(
        [("random", 0, 0.2), ("uniform", 0, 0.9), ("random", 1, 0.5), ("random", 2, float("nan"))]
    ):
        score = Score(0.5, 1.0, 100 + number, 10, reward=reward)
        folder.append(Episode(agent, episode, {"a": 3 + number, "b": 8}, score, True, False, 1.0))
    return folder


def test_optuna_reads_the_policies(run: RunFolder, tmp_path: Path) -> None:
    storage = optuna.storages.JournalStorage(optuna.storages.journal.JournalFileBackend(str(tmp_path / "study.log")))
    name = write_study(run.path, storage)
    assert name == "run-random"
    study = optuna.load_study(study_name=name, storage=storage)
    assert [trial.params for trial in study.trials] == [{"a": 3, "b": 8}, {"a": 5, "b": 8}, {"a": 6, "b": 8}]
    assert study.best_value == 0.5
    assert study.best_trial.user_attrs == {"accuracy": 0.5, "loss": 1.0, "macs": 102, "params": 10, "feasible": True}
    assert study.trials[2].state == optuna.trial.TrialState.FAIL
    with pytest.raises(UsageError, match="already"):
        write_study(run.path, storage)
    with pytest.raises(UsageError, match="no policy of the agent 'ddpg'"):
        write_study(run.path, storage, agent="ddpg")
