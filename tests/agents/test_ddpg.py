"""DDPG: settings that survive Stable-Baselines3, noise, state on disk, and that it learns."""

import json

import numpy as np
import pytest
import torch
from scipy.stats import truncnorm

from autoprune.agents import AMC, DDPG, ActorCritic, Exploration, RewardScale, make_agent
from autoprune.agents._ddpg_exploration import truncated_normal
from autoprune.agents._start import first_policies
from autoprune.envs import ChannelPruningEnv, to_action, trajectory
from autoprune.errors import UsageError
from autoprune.testing import ToyProblem

SMALL = {"hidden": 16, "updates": 3, "warmup": 3}


def play(agent, problem, episodes, folder=None):
    told = []
    for episode in episodes:
        counts = agent.ask(episode)
        told.append((episode, counts, problem.score(counts)))
        agent.tell(*told[-1])
        if folder is not None:
            agent.save(folder)
    return told


@pytest.fixture
def problem():
    return ToyProblem(4)


@pytest.fixture(autouse=True)
def one_thread():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def test_papers_settings_are_those_of_the_networks(problem):
    model = make_agent(DDPG, problem, episodes=40)._model
    widths = [m.out_features for m in model.actor.mu if isinstance(m, torch.nn.Linear)]
    assert widths == [300, 300, 1]
    assert (model.tau, model.gamma, model.batch_size) == (0.01, 1.0, 64)


def test_both_learning_rates_survive_training(problem):
    agent = make_agent(DDPG, problem, episodes=6, **SMALL)
    play(agent, problem, range(5))
    assert [group["lr"] for group in agent._model.actor.optimizer.param_groups] == [1e-4]
    assert [group["lr"] for group in agent._model.critic.optimizer.param_groups] == [1e-3]


def test_noise_is_a_truncated_normal():
    rng = np.random.default_rng(0)
    drawn = np.array([truncated_normal(rng, 0.8, 0.5, 0.1, 1.0) for _ in range(4000)])
    expected = truncnorm((0.1 - 0.8) / 0.5, (1.0 - 0.8) / 0.5, loc=0.8, scale=0.5)
    assert drawn.min() >= 0.1
    assert drawn.max() <= 1.0
    assert drawn.mean() == pytest.approx(expected.mean(), abs=4 * expected.std() / 4000**0.5)
    assert drawn.std() == pytest.approx(expected.std(), rel=0.05)
    assert np.abs(np.sort(drawn) - expected.ppf((np.arange(4000) + 0.5) / 4000)).max() < 0.03


@pytest.mark.parametrize(("mean", "sigma", "expected"), [(0.4, 0.0, 0.4), (0.05, 0.0, 0.1), (7.0, 1e-9, 1.0)])
def test_noise_of_nothing_and_means_outside(mean, sigma, expected):
    assert truncated_normal(np.random.default_rng(0), mean, sigma, 0.1, 1.0) == pytest.approx(expected, abs=1e-6)


def test_replay_holds_applied_actions_and_the_shared_reward(problem):
    agent = make_agent(DDPG, problem, episodes=10, **SMALL)
    (_, counts, score), *_ = play(agent, problem, [0])
    replay, walked = agent._model.replay, trajectory(problem, counts)
    assert replay.pos == 4
    np.testing.assert_array_equal(replay.observations[:4, 0], walked.observations[:-1])
    np.testing.assert_array_equal(replay.next_observations[:4, 0], walked.observations[1:])
    ratios = [count / group.size for count, group in zip(counts, problem.decisions, strict=True)]
    np.testing.assert_allclose(replay.actions[:4, 0, 0], 2 * np.array(ratios) - 1, atol=1e-6)
    np.testing.assert_allclose(replay.rewards[:4, 0], score.reward, rtol=1e-6)
    np.testing.assert_array_equal(replay.dones[:4, 0], [0, 0, 0, 1])


def test_rewards_are_read_relative_to_the_baseline(problem):
    agent = make_agent(DDPG, problem, episodes=40, hidden=16, updates=1, warmup=40)
    told = play(agent, problem, range(30))
    rewards = np.array([score.reward for *_, score in told])
    replay = agent._model.replay
    mean = rewards[0]
    for number, reward in enumerate(rewards[1:], start=2):
        mean += max(0.05, 1 / number) * (reward - mean)
    assert replay.baseline == pytest.approx(mean)
    assert replay.scale == pytest.approx(rewards.std(), rel=1e-5)
    sample = replay._get_samples(np.array([0, 7]))
    expected = (rewards[[0, 1]] - mean) / rewards.std()
    np.testing.assert_allclose(sample.rewards[:, 0].numpy(), expected, rtol=1e-4)


def test_state_is_one_safetensors_and_one_json(problem, tmp_path):
    agent = make_agent(DDPG, problem, episodes=8, **SMALL)
    play(agent, problem, range(5), tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["ddpg-000005.safetensors", "ddpg.json"]
    state = json.loads((tmp_path / "ddpg.json").read_text())
    assert (state["episodes"], state["tensors"]) == (5, "ddpg-000005.safetensors")


def test_restored_networks_optimisers_and_replay_are_the_same_to_the_last_bit(problem, tmp_path):
    agent = make_agent(DDPG, problem, episodes=8, **SMALL)
    told = play(agent, problem, range(6), tmp_path)
    other = make_agent(DDPG, problem, episodes=8, **SMALL)
    other._model.train = None  # restoring from the state must not learn anything again
    other.restore(tmp_path, told)
    ours, theirs = agent._model, other._model
    assert ours.policy.state_dict().keys() == theirs.policy.state_dict().keys()
    for name, tensor in ours.policy.state_dict().items():
        assert torch.equal(tensor, theirs.policy.state_dict()[name]), name
    for mine, yours in ((ours.actor, theirs.actor), (ours.critic, theirs.critic)):
        first, second = mine.optimizer.state_dict(), yours.optimizer.state_dict()
        assert first["param_groups"] == second["param_groups"]
        assert first["state"].keys() == second["state"].keys()
        for index, entries in first["state"].items():
            assert all(torch.equal(value, second["state"][index][key]) for key, value in entries.items())
    for name in ("observations", "next_observations", "actions", "rewards", "dones"):
        np.testing.assert_array_equal(getattr(ours.replay, name), getattr(theirs.replay, name))
    assert (ours.replay.pos, ours.replay.baseline) == (theirs.replay.pos, theirs.replay.baseline)


@pytest.mark.parametrize("damage", ["json", "tensors", "missing", "other history", "other options"])
def test_a_state_that_does_not_fit_is_learned_again_from_the_history(problem, tmp_path, damage):
    agent = make_agent(DDPG, problem, episodes=8, **SMALL)
    told = play(agent, problem, range(5), tmp_path)
    expected = [agent.ask(episode) for episode in (5, 6)]
    if damage == "json":
        (tmp_path / "ddpg.json").write_text('{"version": 1,')
    elif damage == "tensors":
        (tmp_path / "ddpg-000005.safetensors").write_bytes(b"not tensors")
    elif damage == "missing":
        (tmp_path / "ddpg-000005.safetensors").unlink()
    else:
        for path in tmp_path.iterdir():
            path.unlink()
        seed, options = (1, SMALL) if damage == "other history" else (0, {**SMALL, "updates": 2})
        play(make_agent(DDPG, problem, seed=seed, episodes=8, **options), problem, range(5), tmp_path)
    other = make_agent(DDPG, problem, episodes=8, **SMALL)
    other.restore(tmp_path, told)
    assert [other.ask(episode) for episode in (5, 6)] == expected


@pytest.mark.parametrize(
    ("part", "option", "value"),
    [
        (Exploration, "warmup", -1),
        (Exploration, "sigma", "abc"),
        (Exploration, "decay", float("nan")),
        (Exploration, "on_budget", 2),
        (ActorCritic, "updates", 0),
        (ActorCritic, "tau", 1.5),
        (ActorCritic, "hidden", 2.5),
        (ActorCritic, "actor_rate", float("inf")),
        (RewardScale, "baseline_rate", True),
        (RewardScale, "scaled", 2),
    ],
)
def test_options_out_of_range_are_refused(part, option, value):
    with pytest.raises(UsageError, match=f"'{option}' is {value!r}, but the ddpg agent needs"):
        part(**{option: value})


def test_the_noise_left_in_the_end_is_a_tenth_or_what_the_paper_leaves():
    ours, papers = Exploration(sigma=0.4).over(80), Exploration(sigma=0.4).over(80, published=True)
    assert (ours.warmup, papers.warmup) == (20, 20)
    assert ours.is_warm_up(19)
    assert not ours.is_warm_up(20)
    assert ours.sigma_of(20) == papers.sigma_of(20) == 0.4
    assert ours.sigma_of(80) == pytest.approx(0.04)
    assert papers.sigma_of(80) == pytest.approx(0.4 * 0.95**60)
    assert Exploration(sigma=0.4).over(8).sigma_of(8) == pytest.approx(0.4 * 0.95**6)  # never faster than the paper's


def test_an_update_moves_the_targets_by_tau(problem):
    part = ActorCritic(hidden=8, tau=0.25, updates=1, batch_size=4)
    torch.manual_seed(0)
    model = part.build(ChannelPruningEnv(problem), "LearnDDPG", transitions=8)
    counts = tuple(problem.projector.project([0.5] * 4))
    model.replay.add_episode(trajectory(problem, counts), 0.7)
    before = [value.clone() for value in model.critic_target.parameters()]
    part.update(model)
    moved = False
    for old, new, target in zip(before, model.critic.parameters(), model.critic_target.parameters(), strict=True):
        torch.testing.assert_close(target, 0.75 * old + 0.25 * new)
        moved |= not torch.equal(old, target)
    assert moved


def test_the_scale_of_rewards_is_that_of_the_replay(problem):
    model = ActorCritic(hidden=8).over(4).build(ChannelPruningEnv(problem), "LearnDDPG", transitions=20)
    counts = tuple(problem.projector.project([0.5] * 4))
    rewards = [0.2, 0.9, 0.4]
    for told, reward in enumerate(rewards, start=1):
        model.replay.add_episode(trajectory(problem, counts), reward)
        RewardScale(baseline_rate=0.1, scaled=True).update(model.replay, reward, told)
    assert model.replay.baseline == pytest.approx(np.mean(rewards))  # 1 / told is more than 0.1
    assert model.replay.scale == pytest.approx(np.std(rewards))


def test_amc_learns_from_what_was_asked_for_and_leaves_budget_over(problem):
    agent = make_agent(AMC, problem, episodes=10, **SMALL)
    told = play(agent, problem, range(6))
    replay = agent._model.replay
    again = make_agent(AMC, problem, episodes=10, **SMALL)
    for episode, counts, score in told:
        walked = trajectory(problem, counts)
        again.ask(episode)
        asked = again._asked[1]
        rows = slice(4 * episode, 4 * episode + 4)
        np.testing.assert_array_equal(replay.observations[rows, 0], walked.observations[:-1])
        np.testing.assert_allclose(replay.actions[rows, 0, 0], [to_action(ratio) for ratio in asked], rtol=1e-6)
        # Algorithm 1: every ratio is lowered as far as the later groups, at their smallest, need it, and never raised.
        for step, (ratio, group, levels) in enumerate(zip(asked, problem.decisions, problem.levels, strict=True)):
            smallest = [some[0] for some in problem.levels[step + 1 :]]
            fit = [level for level in levels if problem.projector.fits([*counts[:step], level, *smallest])]
            assert counts[step] == min(fit, key=lambda level: abs(level - ratio * group.size))
        again.tell(episode, counts, score)
    assert replay.scale == 1.0
    assert min(problem.projector.usage(counts) for _, counts, _ in told) < 0.9


def test_amc_restored_without_its_state_learns_from_the_same_actions(problem, tmp_path):
    whole = make_agent(AMC, problem, episodes=8, **SMALL)
    told = play(whole, problem, range(6))
    restored = make_agent(AMC, problem, episodes=8, **SMALL)
    restored.restore(tmp_path, told)
    size = whole._model.replay.size()
    np.testing.assert_array_equal(restored._model.replay.actions[:size], whole._model.replay.actions[:size])
    assert restored.ask(6) == whole.ask(6)


@pytest.mark.parametrize("name", ["together", "applied", "scaled", "on_budget"])
def test_each_departure_is_an_option(problem, name):
    assert make_agent(AMC, problem, episodes=4, **SMALL).options[name] is False
    assert make_agent(AMC, problem, episodes=4, **SMALL, **{name: True}).options[name] is True
    assert make_agent(DDPG, problem, episodes=4, **SMALL, **{name: False}).options[name] is False
    with pytest.raises(UsageError, match=f"takes for '{name}' a value of type bool"):
        make_agent(DDPG, problem, **{name: 2})


@pytest.mark.parametrize("start", ["rules", "statistics"])
def test_the_replay_begins_with_what_it_starts_with(problem, start):
    first = first_policies(problem, start, agent="nobody")
    agent = make_agent(DDPG, problem, episodes=8, start=start, **SMALL)
    told = play(agent, problem, range(4))
    assert [counts for _, counts, _ in told[: len(first)]] == first[:3]
    with pytest.raises(
        UsageError, match="'start' is 'luck', but the ddpg agent needs one of nothing, rules, statistics"
    ):
        make_agent(DDPG, problem, start="luck")
