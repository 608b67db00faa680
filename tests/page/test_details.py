from __future__ import annotations

import shlex
from dataclasses import replace
from pathlib import Path

import pytest
from typer.main import get_command

from autoprune.budget import Budget
from autoprune.cli._app import app
from autoprune.config import RunConfig
from autoprune.page._details import command
from autoprune.run import RunFolder

from ._runs import make_run

PLAIN = RunConfig(
    model="digits",
    model_fingerprint="m",
    data="digits",
    data_fingerprint="d",
    budget=Budget(0.5),
    input_shape=(1, 8, 8),
)
ODD = replace(
    PLAIN,
    model="my nets/n.py:make 'it'",
    weights="a b.safetensors",
    data="cifar10:some where",
    budget=Budget(0.7, "at-most"),
    agent="ddpg",
    agent_options={"noise": 0.5, "name": "x y"},
    reward="accuracy-flops",
    select="lasso",
    score="cached",
    include_residual=True,
    min_keep=0.2,
    round_to=8,
    batch_size=32,
    mean=(0.485, 0.456, 0.406),
    std=(0.229, 0.224, 0.225),
    seed=7,
    episodes=33,
)


@pytest.mark.parametrize("config", [PLAIN, ODD])
def test_command_asks_for_the_same_run(config: RunConfig) -> None:
    parts = shlex.split(command(config).replace("\\\n", " "))
    assert parts[:2] == ["autoprune", "search"]
    search = get_command(app).commands["search"]  # type: ignore[attr-defined]
    asked = search.make_context("search", parts[2:]).params
    assert Budget(asked["budget"], asked["budget_mode"] or "exact") == config.budget
    for name in ("model", "weights", "data", "agent", "episodes", "seed", "reward"):
        assert asked[name] == getattr(config, name)
    for name in ("select", "score", "min_keep", "round_to", "batch_size", "device", "include_residual"):
        assert (asked[name] if asked[name] is not None else getattr(PLAIN, name)) == getattr(config, name)
    assert asked["mean"] == (",".join(map(str, config.mean)) or None)
    assert asked["input_size"] == "x".join(map(str, config.input_shape))
    assert len(asked["agent_option"] or ()) == len(config.agent_options)


def test_runs_made_by_hand_are_what_a_search_would_read(tmp_path: Path) -> None:
    folder = RunFolder(make_run(tmp_path / "run"))
    assert folder.read_report()["final"]["name"] == folder.read_config().agent
    assert len(folder.read_episodes()) == 2 * 12 + 3
