"""TPE through Optuna's own interface."""

import optuna
import pytest

from autoprune.agents import TPE, make_agent
from autoprune.errors import UsageError
from autoprune.testing import ToyProblem

from ._played import played


def test_the_study_holds_applied_keep_ratios_and_rewards():
    problem = ToyProblem(4)
    agent = TPE(problem, seed=5, episodes=20, startup=4)
    played(agent, problem, 8)
    trials = agent._study(8).trials
    assert len(trials) == 8
    for trial in trials:
        assert list(trial.params) == [f"keep.{group.name}" for group in problem.decisions]
        sizes = {f"keep.{group.name}": group.size for group in problem.decisions}
        counts = [round(ratio * sizes[name]) for name, ratio in trial.params.items()]
        assert trial.value == problem.score(counts).reward
        assert problem.projector.fits(counts)


def test_proposals_are_those_of_the_sampler_itself():
    """Asking Optuna directly, with the same seed and history, gives the same keep ratios before the projection."""
    problem = ToyProblem(6, steps=32)  # so many policies that none is proposed twice
    agent = TPE(problem, seed=5, episodes=20, startup=4)
    played(agent, problem, 10)
    seed = int(agent.rng(10).integers(2**31))
    study = optuna.create_study(
        direction="maximize", sampler=optuna.samplers.TPESampler(n_startup_trials=4, multivariate=True, seed=seed)
    )
    study.add_trials(agent._study(10).trials)
    trial = study.ask()
    ratios = [
        trial.suggest_float(f"keep.{g.name}", lv[0] / g.size, 1.0)
        for g, lv in zip(problem.decisions, problem.levels, strict=True)
    ]
    assert agent.ask(10) == problem.projector.project(ratios)


def test_optunas_logging_stays_as_the_user_set_it():
    before = optuna.logging.get_verbosity()
    try:
        optuna.logging.set_verbosity(optuna.logging.DEBUG)
        problem = ToyProblem(3)
        played(TPE(problem, episodes=3), problem, 3)
        assert optuna.logging.get_verbosity() == optuna.logging.DEBUG
    finally:
        optuna.logging.set_verbosity(before)


def test_the_rules_come_first_unless_they_are_switched_off():
    problem = ToyProblem(4)
    rules = [make_agent(name, problem, episodes=1).ask(0) for name in ("uniform", "shallow", "deep")]
    different = list(dict.fromkeys(rules))
    assert [TPE(problem, episodes=20).ask(episode) for episode in range(len(different))] == different
    without = TPE(problem, episodes=20, start="nothing").ask(0)
    assert without not in rules
    assert problem.projector.fits(without)


@pytest.mark.parametrize(("option", "value"), [("startup", 0), ("candidates", -3), ("startup", 2.5), ("start", 1)])
def test_options_out_of_range_are_refused(option, value):
    with pytest.raises(UsageError, match=f"'{option}' is {value}"):
        TPE(ToyProblem(3), **{option: value})


def test_a_single_level_is_no_decision_and_no_obstacle():
    problem = ToyProblem(5, steps=16)
    problem.levels = ((problem.decisions[0].size,), *problem.levels[1:])
    problem.projector._levels = problem.levels
    agent = TPE(problem, episodes=8, startup=3)
    played(agent, problem, 8)
    assert agent.ask(8)[0] == problem.decisions[0].size
