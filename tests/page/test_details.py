from __future__ import annotations

import shlex
from dataclasses import replace
from pathlib import Path

import pytest
from typer.main import get_command

from autoprune.budget import Budget
from autoprune.cli._app import app
from autoprune.cli._options import bounds
from autoprune.latency import Target
from autoprune.page._details import command
from autoprune.runs import RunConfig, RunFolder

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
    ignore=("head.*", "a[[]0]"),
    bounds={"layer4.*": (0.5, 1.0), "stem": (0.1, 0.1)},
)


FAST = replace(
    PLAIN,
    budget=Budget("latency=12ms,size=0.5"),
    round_to=0,
    target=Target("onnxruntime", batch=8, threads=2).to_dict(),
)
SMALLEST = replace(PLAIN, budget=Budget(max_drop=0.5, size="4MB"), reward="smallest")
FRONT = replace(PLAIN, budget=Budget(minimize="params"))
RACE = replace(PLAIN, race=True, finish_steps=0)


@pytest.mark.parametrize("config", [PLAIN, ODD, FAST, SMALLEST, FRONT, RACE])
def test_command_asks_for_the_same_run(config: RunConfig) -> None:
    parts = shlex.split(command(config).replace("\\\n", " "))
    assert parts[:2] == ["autoprune", "search"]
    search = get_command(app).commands["search"]  # type: ignore[attr-defined]
    asked = search.make_context("search", parts[2:]).params
    goal = (asked["max_drop"] is not None or asked["pareto"]) and (asked["minimize"] or "macs")
    limits = asked["budget"] if asked["budget"] is not None else ()
    mode = asked["budget_mode"] or "exact"
    assert Budget(limits, mode, max_drop=asked["max_drop"], minimize=goal or None) == config.budget
    for name in ("batch", "threads", "dtype"):
        assert asked[name] == (config.target or {}).get(name)
    assert asked["target"] == (config.target or {}).get("runtime")
    for name in ("model", "weights", "data", "agent", "episodes", "seed", "reward"):
        assert asked[name] == getattr(config, name)
    assert int(asked["round_to"] or ("latency" not in config.budget.kinds)) == config.round_to
    for name in ("select", "score", "min_keep", "batch_size", "device", "include_residual", "race"):
        assert (asked[name] if asked[name] is not None else getattr(PLAIN, name)) == getattr(config, name)
    assert int(asked["finish_steps"] or PLAIN.finish_steps) == config.finish_steps
    assert asked["mean"] == (",".join(map(str, config.mean)) or None)
    assert asked["input_size"] == "x".join(map(str, config.input_shape))
    assert len(asked["agent_option"] or ()) == len(config.agent_options)
    assert (tuple(asked["ignore"] or ()), bounds(asked["bounds"]) or {}) == (config.ignore, config.bounds)


def test_runs_made_by_hand_are_what_a_search_would_read(tmp_path: Path) -> None:
    folder = RunFolder(make_run(tmp_path / "run"))
    assert folder.read_report()["final"]["name"] == folder.read_config().agent
    assert len(folder.read_episodes()) == 2 * 12 + 3
