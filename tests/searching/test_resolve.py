"""The command line, Python and comparisons lead to the same search, option by option."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

import autoprune
from autoprune import Budget, UsageError
from autoprune.cli import _compare as compare_verb
from autoprune.cli import _search as search_verb
from autoprune.cli import main
from autoprune.latency import Target
from autoprune.models import load_model
from autoprune.runs import PRESETS, RunConfig, load_inputs
from autoprune.searching import _api, _session, resolve

BY_ITS_PATH = "autoprune.evaluation:accuracy"
A_FINDER = "autoprune.decisions:channel_groups"  # is called when the problem is made, which here is never
A_RUN = f"{__name__}:on_images"
OPTIONS: Mapping[str, tuple[list[str], Mapping[str, Any]]] = {
    "budget": (["--budget", "macs=0.4,size=20kB"], {"budget": "macs=0.4,size=20kB"}),
    "budget_mode": (["--budget", "0.4", "--budget-mode", "at-most"], {"budget": 0.4, "budget_mode": "at-most"}),
    "budget_mode alone": (["--budget-mode", "at-most"], {"budget_mode": "at-most"}),
    "max_drop": (["--max-drop", "1.5"], {"max_drop": 1.5}),
    "max_drop within": (["--max-drop", "1.5", "--budget", "params=0.8"], {"max_drop": 1.5, "budget": "params=0.8"}),
    "pareto": (["--pareto"], {"pareto": True}),
    "minimize": (["--pareto", "--minimize", "params"], {"pareto": True, "minimize": "params"}),
    "preset": (["--budget", "0.5", "--preset", "amc"], {"budget": 0.5, "preset": "amc"}),
    "agent": (["--budget", "0.5", "--agent", "tpe"], {"budget": 0.5, "agent": "tpe"}),
    "agent_options": (
        ["--budget", "0.5", "--agent", "ddpg", "--agent-option", "noise=0.3"],
        {"budget": 0.5, "agent": "ddpg", "agent_options": {"noise": 0.3}},
    ),
    "episodes": (["--budget", "0.5", "--episodes", "7"], {"budget": 0.5, "episodes": 7}),
    "reward": (["--budget", "0.5", "--reward", BY_ITS_PATH], {"budget": 0.5, "reward": BY_ITS_PATH}),
    "reward alone": (["--reward", "accuracy-params"], {"reward": "accuracy-params"}),
    "labels": (["--budget", "0.5", "--no-labels"], {"budget": 0.5, "labels": False}),
    "maximize": (
        ["--budget", "0.5", "--no-labels", "--maximize", "agreement"],
        {"budget": 0.5, "labels": False, "maximize": "agreement"},
    ),
    "minimize_metric": (
        ["--budget", "0.5", "--no-labels", "--minimize-metric", "divergence"],
        {"budget": 0.5, "labels": False, "minimize_metric": "divergence"},
    ),
    "divergence": (["--budget", "0.5", "--divergence", "kl"], {"budget": 0.5, "divergence": "kl"}),
    "run": (["--budget", "0.5", "--run", A_RUN], {"budget": 0.5, "run": A_RUN}),
    "select": (["--budget", "0.5", "--select", "lasso"], {"budget": 0.5, "select": "lasso"}),
    "score": (["--budget", "0.5", "--score", "cached"], {"budget": 0.5, "score": "cached"}),
    "race": (["--budget", "0.5", "--race"], {"budget": 0.5, "race": True}),
    "baselines": (["--budget", "0.5", "--baselines", "deep,random"], {"budget": 0.5, "baselines": ["deep", "random"]}),
    "finish_policies": (["--budget", "0.5", "--finish-policies", "3"], {"budget": 0.5, "finish_policies": 3}),
    "most_tried": (["--budget", "0.5", "--most-tried", "5"], {"budget": 0.5, "most_tried": 5}),
    "finish_steps": (["--budget", "0.5", "--finish-steps", "0"], {"budget": 0.5, "finish_steps": 0}),
    "finish_steps by a word": (["--budget", "0.5", "--finish", "best"], {"budget": 0.5, "finish_steps": 1600}),
    "include_residual": (["--budget", "0.5", "--include-residual"], {"budget": 0.5, "include_residual": True}),
    "decide": (
        ["--budget", "0.5", "--decide", f"channels,{A_FINDER}"],
        {"budget": 0.5, "decide": ["channels", A_FINDER]},
    ),
    "part": (["--budget", "0.5", "--part", "blocks"], {"budget": 0.5, "part": ["blocks"]}),
    "ignore": (
        ["--budget", "0.5", "--ignore", "blocks.0.*", "--ignore", "conv1"],
        {"budget": 0.5, "ignore": ["blocks.0.*", "conv1"]},
    ),
    "bounds": (
        ["--budget", "0.5", "--bounds", "blocks.2.*=0.5:1.0", "--bounds", "blocks.3.conv1=0.5"],
        {"budget": 0.5, "bounds": {"blocks.2.*": (0.5, 1.0), "blocks.3.conv1": 0.5}},
    ),
    "min_keep": (["--budget", "0.5", "--min-keep", "0.3"], {"budget": 0.5, "min_keep": 0.3}),
    "round_to": (["--budget", "0.5", "--round-to", "2"], {"budget": 0.5, "round_to": 2}),
    "batch_size": (["--budget", "0.5", "--batch-size", "9"], {"budget": 0.5, "batch_size": 9}),
    "device": (["--budget", "0.5", "--device", "cpu"], {"budget": 0.5, "device": "cpu"}),
    "seed": (["--budget", "0.5", "--seed", "3"], {"budget": 0.5, "seed": 3}),
    "target": (
        ["--budget", "latency=0.8", "--target", "onnxruntime", "--batch", "4", "--threads", "1"],
        {"budget": "latency=0.8", "target": Target("onnxruntime", batch=4, threads=1)},
    ),
    "profile": (["--budget", "latency=0.8", "--profile", "p.json"], {"budget": "latency=0.8", "profile": "p.json"}),
}
"""For each option what to type, and what to pass from Python."""

OF_DATA = {"model", "weights", "data", "mean", "std", "input_size", "resize", "crop", "transform", "download"}
"""What Python passes as objects."""
OF_THE_TERMINAL = {"no_time", "allow", "as_json", "quiet", "debug", "finetune", "distill", "tensorboard"}
OF_THE_CALL = {"accept_dense", "out", "workers"}
OF_THE_END = {"timeout", "max_passes", "patience", "row"}
"""When a search ends, which is no part of what it is; a comparison has none of it, as effort is equal."""
NAMED_IN_PYTHON = {"agent_option": "agent_options", "batch": "target", "threads": "target", "dtype": "target"}
"""Options of the command line that are one argument from Python."""


def options_of(verb: Callable[..., Any]) -> set[str]:
    return set(inspect.signature(verb).parameters) - {"ctx"}


def test_every_option_is_in_the_table() -> None:
    named = {name.split()[0] for name in OPTIONS}
    typed = {
        NAMED_IN_PYTHON.get(name, name)
        for name in options_of(search_verb.search) - OF_DATA - OF_THE_TERMINAL - OF_THE_CALL - OF_THE_END
    }
    passed = options_of(autoprune.search) - OF_THE_CALL - OF_THE_END
    assert options_of(search_verb.search) & options_of(autoprune.search) >= OF_THE_END
    assert typed == named
    assert passed == named | {"model", "example_input", "calibration", "evaluate", "report", "progress"}
    own = {"agent", "seed", "baselines", "no_time"} | OF_THE_END
    assert options_of(compare_verb.compare) == options_of(search_verb.search) - own | {"agents", "seeds"}


def on_images(model: Any, batch: Any) -> Any:
    return model(batch[0] if isinstance(batch, list) else batch)


class _EnoughError(Exception):
    pass


def asked_for(monkeypatch: pytest.MonkeyPatch, module: Any, call: Callable[[], Any]) -> dict[str, Any]:
    """Return the configuration that a search would begin with."""
    seen: list[RunConfig] = []

    def begin(config: RunConfig, *given: Any, **more: Any) -> None:
        seen.append(config)
        raise _EnoughError

    monkeypatch.setattr(module, "execute", begin)
    with pytest.raises(_EnoughError):
        call()
    of_data = ("model", "data", "model_fingerprint", "data_fingerprint", "mean", "std", "prepared")
    return {key: value for key, value in seen[0].to_dict().items() if key not in of_data}


@pytest.mark.parametrize("name", OPTIONS)
def test_command_line_and_python_begin_the_same_search(
    name: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    typed, passed = OPTIONS[name]
    out = tmp_path / "run"
    inputs = load_inputs("digits", "digits")
    from_the_shell = asked_for(
        monkeypatch, _session, lambda: main(["search", *typed, "--out", str(out), "--quiet", "--debug"])
    )
    from_python = asked_for(
        monkeypatch,
        _api,
        lambda: autoprune.search(
            load_model("digits").model,
            inputs.example_input,
            calibration=inputs.calibration,
            evaluate=inputs.search,
            out=out,
            **passed,
        ),
    )
    assert from_the_shell == from_python
    key = name.split()[0]
    if key in from_python and key not in ("device", "maximize"):
        assert from_python[key] != resolve({"budget": 0.5}).to_dict()[key], "the table asks for the default"


def test_what_is_left_out_is_that_of_the_run_that_goes_on() -> None:
    stored = resolve({"budget": "macs=0.4", "episodes": 9, "reward": "accuracy-flops", "seed": 4})
    assert resolve({}, stored) == stored
    assert resolve({"episodes": 9, "budget": "macs=0.4", "seed": None}, stored) == stored
    assert stored.differences(resolve({"episodes": 10}, stored)) == ["episodes: 9 in the run, 10 now"]
    assert resolve({"budget_mode": "at-most"}, stored).budget == Budget("macs=0.4", "at-most")


def test_a_preset_gives_way_to_what_is_said() -> None:
    for name, chosen in PRESETS.items():
        plain = resolve({"budget": 0.5, "preset": name})
        assert (plain.agent, plain.episodes, plain.budget.mode) == (
            chosen["agent"],
            chosen["episodes"],
            chosen["budget_mode"],
        )
        own = resolve({"budget": 0.5, "preset": name, "episodes": 3, "budget_mode": "exact", "agent": "random"})
        assert (own.agent, own.episodes, own.budget.mode, own.select) == ("random", 3, "exact", chosen["select"])


def test_where_no_size_is_asked_for_python_takes_half_of_the_macs_and_the_command_line_asks(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    inputs = load_inputs("digits", "digits")

    def begun(**options: Any) -> dict[str, Any]:
        parts = {"calibration": inputs.calibration, "evaluate": inputs.search}
        model = load_model("digits").model
        return asked_for(monkeypatch, _api, lambda: autoprune.search(model, inputs.example_input, **parts, **options))

    assert begun() == begun(budget=0.5)
    assert begun(preset="amc") == begun(budget=0.5, preset="amc")
    assert begun(reward="accuracy-params") == begun(budget=Budget(1.0, "at-most"), reward="accuracy-params")
    with pytest.raises(UsageError, match="No budget was given"):
        resolve({})
    stored = resolve({"budget": "params=0.3"})
    assert resolve({}, stored).budget == stored.budget


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ({"preset": "amc"}, "No budget was given"),
        ({"max_drop": 1.0, "pareto": True}, "give one of them"),
        ({"minimize": "macs", "budget": 0.5}, "--minimize is about"),
        ({"budget": Budget(0.5), "budget_mode": "at-most"}, "A Budget was given, which says what budget_mode does"),
        ({"budget": 0.5, "preset": "amcc"}, "Unknown preset 'amcc'. Did you mean 'amc'"),
        ({"budget": 0.5, "epsiodes": 3}, "Unknown option 'epsiodes'"),
        ({"budget": 0.5, "target": {"batch": 2}}, "--budget latency"),
        ({"budget": 0.5, "finish_policies": 9}, "most-tried is 8, but must be at least 9"),
    ],
)
def test_what_contradicts_itself_is_refused(asked: Mapping[str, Any], said: str) -> None:
    with pytest.raises(UsageError, match=said):
        resolve(asked)
