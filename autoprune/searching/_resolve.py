"""From what was asked, on the command line, from Python or by a comparison, to the configuration of a run."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from typing import Any

from autoprune.budget import Budget
from autoprune.errors import UsageError
from autoprune.evaluation import ACCURACY, PIXEL_ACCURACY, SIZE_TRADING, Metric, default_reward
from autoprune.latency import Target
from autoprune.reconstruct import FINISHES
from autoprune.registry import nearest
from autoprune.runs import BASELINES, PRESETS, RunConfig

DEFAULT_BUDGET = 0.5
"""Share of the dense MACs that may stay where nothing is said from Python; the command line asks for one."""
GOALS = ("budget", "budget_mode", "max_drop", "pareto", "minimize")
"""Keys that are asked for beside those of `RunConfig` (and "preset"): together they are its budget."""


def resolve(asked: Mapping[str, Any], stored: RunConfig | None = None) -> RunConfig:
    """Return the configuration that was asked for. It reads no file and imports no plug-in.

    Args:
        asked: Values for keys of `RunConfig`, and for "budget" (a share, text, or `Budget`), "budget_mode", "max_drop" (points of
            accuracy), "pareto", "minimize" (a cost) and "preset". None, like what is left out: the stored run's, or the default.
        stored: The configuration of a run that goes on.

    Returns:
        The configuration; without a stored run its fingerprints are empty until model and data are loaded.

    Raises:
        UsageError: if what is asked contradicts itself, or a value is out of its range.

    Example:
        >>> resolve({"budget": 0.5, "budget_mode": "at-most"}).agent
        'ddpg'
    """
    given = {key: value for key, value in asked.items() if value is not None}
    given = {**_preset(given.pop("preset", None), given), **given}
    if isinstance(given.get("baselines"), str):
        given["baselines"] = _baselines(given["baselines"])
    if isinstance(given.get("finish_steps"), str):
        given["finish_steps"] = _finish(given["finish_steps"])
    budget = _budget({key: given.pop(key) for key in GOALS if key in given}, given.get("reward"), stored)
    if stored is not None:
        values = {item.name: getattr(stored, item.name) for item in fields(stored)} | _as_recorded(given, stored)
    else:
        data = {"data": "digits"} if given.get("model", "digits") == "digits" else {"data": ""}
        values = {"model": "digits", "model_fingerprint": "", "data_fingerprint": "", **data, **given}
        labels = given.get("labels") is not False
        values = {
            "reward": default_reward(budget, labels=labels),
            "round_to": 0 if "latency" in budget.kinds else 1,
            **values,
        }
        values = {"agent": _default_agent(budget, values["reward"]), **values}
    unknown = sorted(set(values) - {item.name for item in fields(RunConfig)})
    if unknown:
        known = [item.name for item in fields(RunConfig)]
        raise UsageError(f"Unknown option '{unknown[0]}' of a search.{nearest(unknown[0], known)}")
    target = _target(budget, values.get("target"), values.get("device", RunConfig.device))
    return RunConfig(**{**values, "budget": budget, "target": target})


BASELINE_SETS = {"none": (), "rules": BASELINES, "all": (*BASELINES, "random")}
"""What is scored beside the agent, by one word: nothing, the simple rules, or random search with as many policies too."""


def _baselines(text: str) -> tuple[str, ...]:
    """Read "none", "rules", "all" or names with commas between."""
    names = tuple(name for part in text.split(",") if (name := part.strip()))
    return BASELINE_SETS[names[0]] if len(names) == 1 and names[0] in BASELINE_SETS else names


def _finish(text: str) -> int:
    """Read "fast", "normal", "best" or a number of steps.

    Raises:
        UsageError: if it is none of these.
    """
    if text in FINISHES:
        return FINISHES[text]
    try:
        return int(text)
    except ValueError:
        words = ", ".join(FINISHES)
        raise UsageError(
            f"Unknown final reconstruction '{text}'.{nearest(text, list(FINISHES))} Known: {words}, or a number of steps."
        ) from None


def asks_no_size(asked: Mapping[str, Any], stored: RunConfig | None = None) -> bool:
    """Return whether nothing says how small the network must get, so that `DEFAULT_BUDGET` does."""
    sizes = ("budget", "max_drop", "pareto", "minimize")
    named = any(asked.get(key) is not None for key in sizes) or asked.get("budget_mode") == "at-most"
    return stored is None and not named and asked.get("reward") not in SIZE_TRADING


def metric_asked(maximize: str | None, minimize: str | None) -> dict[str, Any]:
    """Return the keys of `RunConfig` that name the number to maximise, or to minimise, of a function that evaluates.

    Raises:
        UsageError: if both are named.
    """
    found = Metric.asked(maximize, minimize)
    return {"metric": None if found is None else found.name, "maximize": None if found is None else found.maximize}


def _preset(name: str | None, given: Mapping[str, Any]) -> dict[str, Any]:
    """Return what a preset asks for; how its budget is meant counts only where a budget is given."""
    if name is None:
        return {}
    if name not in PRESETS:
        raise UsageError(f"Unknown preset '{name}'.{nearest(name, list(PRESETS))} Known: {', '.join(PRESETS)}.")
    chosen = dict(PRESETS[name])
    if given.get("budget") is None or isinstance(given["budget"], Budget):
        del chosen["budget_mode"]
    return chosen


def _budget(goals: Mapping[str, Any], reward: Any, stored: RunConfig | None) -> Budget:
    """Return the budget that was asked for, that of the stored run, or what a reward that trades size leads to."""
    given, mode, begun = goals.get("budget"), goals.get("budget_mode"), None if stored is None else stored.budget
    max_drop, pareto, minimize = goals.get("max_drop"), bool(goals.get("pareto")), goals.get("minimize")
    if isinstance(given, Budget) and len(goals) > 1:
        other = next(key for key in GOALS[1:] if key in goals)
        raise UsageError(f"A Budget was given, which says what {other} does; give either that or numbers.")
    if max_drop is not None and pareto:
        raise UsageError("--max-drop asks for one network and --pareto for a whole front; give one of them.")
    if minimize is not None and max_drop is None and not pareto:
        raise UsageError("--minimize is about --max-drop and --pareto; give one of them too.")
    if isinstance(given, Budget):
        return given
    if max_drop is not None or pareto:
        limits = () if given is None else Budget(given).limits
        return Budget(limits, max_drop=max_drop, minimize=minimize or "macs")
    if begun is not None:
        if given is None and mode is None:
            return begun
        value = begun.limits if given is None else given
        return Budget(value, mode or begun.mode, max_drop=begun.max_drop, minimize=begun.minimize)
    if given is not None:
        return Budget(given, mode or "exact")
    if reward in SIZE_TRADING or mode == "at-most":
        return Budget(1.0, "at-most")
    raise UsageError(
        "No budget was given; say how much of the MACs may stay, for instance --budget 0.5, or how much accuracy may be "
        "lost, --max-drop 0.5, or ask for a whole front with --pareto."
    )


def _default_agent(budget: Budget, reward: object) -> str:
    """Return who searches where nobody is named.

    ``auto`` models the loss at one budget; what is to be made of several sizes, or of a reward that is not the accuracy, is
    for agents that are led by that.
    """
    if budget.max_drop is not None:
        return "sensitivity"
    if budget.minimize is not None:
        return "tpe"
    return "auto" if budget.mode == "exact" and reward in ("accuracy", "divergence") else "ddpg"


def _target(budget: Budget, asked: Mapping[str, Any] | None, device: str) -> dict[str, Any] | None:
    """Return the target that a run records, None where nothing depends on it.

    Args:
        budget: The budget.
        asked: What was asked for of `autoprune.latency.Target`; the rest is the default.
        device: Where the search computes.

    Raises:
        UsageError: if a target was asked for that the budget has nothing to do with, or that is none.
    """
    if {"latency", "memory"} & set(budget.kinds):
        return Target.from_dict({**Target(device=device).to_dict(), **(asked or {})}).resolved.to_dict()
    if asked:
        raise UsageError(
            "The target (--target, --batch, --threads, --dtype, --profile) is about a budget of latency or memory; give one, for "
            "instance --budget latency=0.7."
        )
    return None


def _as_recorded(asked: Mapping[str, Any], stored: RunConfig) -> dict[str, Any]:
    """Return what was asked the way a run records it: one value per channel, the input's channels with its size."""
    found = dict(asked)
    for key in ("mean", "std"):
        if len(found.get(key, ())) == 1:
            found[key] = tuple(found[key]) * max(len(getattr(stored, key)), 1)
    asked_shape, full = tuple(found.get("input_shape", ())), stored.input_shape
    if len(asked_shape) == 1:
        found["input_shape"] = (*full[:1], *asked_shape * (len(full) - 1))
    elif 0 < len(asked_shape) == len(full) - 1:
        found["input_shape"] = (*full[:1], *asked_shape)
    if found.get("metric") == ACCURACY.name and stored.metric == PIXEL_ACCURACY.name:  # what it is of maps
        found["metric"] = stored.metric
    if found.get("target") and stored.target is not None:
        found["target"] = {**stored.target, **found["target"]}
    return found
