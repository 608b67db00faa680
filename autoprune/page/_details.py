"""What was refused, the configuration, the versions, and the command that repeats the run."""

from __future__ import annotations

import json
import platform
import shlex
from collections.abc import Iterable

from autoprune.decisions import Restrictions
from autoprune.page._html import Html, el, join
from autoprune.page._numbers import plural, seconds
from autoprune.page._run import Run
from autoprune.reconstruct import FINISH_STEPS
from autoprune.runs import RunConfig, distinct


def notes_section(run: Run) -> Html:
    """Return what the user should know: notes of the run, what stays whole and why."""
    notes = [*((run.report or {}).get("notes", ())), *run.remarks]
    if run.part == "search":
        notes.append("No report part was given: the results are those that the search was led by, so they flatter.")
    network, parts = run.network, []
    if network is not None:
        whole = [(name, size, reason) for name, size, _, reason in network.groups if reason is not None]
        free = [name for name, _, _, reason in network.groups if reason is None and name not in run.sizes()]
        if free and run.sizes():
            notes.append(
                f"{plural(len(free), 'group')} that could be pruned stayed whole by choice (groups that cross a residual "
                f"join, without --include-residual): {', '.join(free)}."
            )
        if whole:
            parts.append(_table("Coupling groups that cannot be pruned", ("group", "channels", "why"), whole))
        if network.refusals:
            parts.append(_table("What made channels unprunable", ("where", "why"), network.refusals))
    said = el("ul", *(el("li", note) for note in notes)) if notes else None
    if said is None and not parts:
        said = el("p", "Nothing was refused: every coupling group could be pruned and was decided.")
    return join(el("h2", "What was left whole, and why"), said, *parts)


def configuration_section(run: Run) -> Html:
    """Return configuration, effort, versions and the command."""
    config = run.config.to_dict()
    pairs = [
        (key, value if isinstance(value, str) else json.dumps(value, ensure_ascii=True))
        for key, value in config.items()
    ]
    table = el(
        "table",
        el("tbody", *(el("tr", el("th", key, scope="row"), el("td", value, data_config=key)) for key, value in pairs)),
    )
    return join(
        el("h2", "How to repeat it"),
        el("pre", el("code", command(run.config))) if run.config.data != "python" else el(
            "p", "The model and the data were passed from Python (", el("code", "autoprune.search"),
            "); the same call with the options below repeats the run."),
        el("p", _effort(run)),
        el("details", el("summary", "Configuration"), el("div", table, class_="scroll wrap")),
        el("p", versions(run), class_="note"),
    )  # fmt: skip


def command(config: RunConfig) -> str:
    """Return the command line that makes the same run."""
    budget = config.budget
    plain = {
        "select": "obs",
        "score": "sequential",
        "min_keep": 0.1,
        "batch_size": 64,
        "device": "cpu",
        "finish_steps": FINISH_STEPS,
    }
    plain["round_to"] = 0 if "latency" in budget.kinds else 1
    parts = ["autoprune", "search"]
    parts += ["--budget", str(budget)] if budget.limits else []
    if budget.minimize is not None:
        parts += ["--pareto"] if budget.max_drop is None else ["--max-drop", repr(budget.max_drop)]
        parts += ["--minimize", budget.minimize]
    elif budget.mode != "exact":
        parts += ["--budget-mode", budget.mode]
    parts += ["--model", config.model]
    parts += ["--weights", config.weights] if config.weights else []
    parts += ["--data", config.data, "--agent", config.agent]
    for name, value in config.agent_options.items():
        parts += ["--agent-option", f"{name}={json.dumps(value)}"]
    parts += ["--episodes", str(config.episodes), "--seed", str(config.seed), "--reward", config.reward]
    for key, value in plain.items():
        if getattr(config, key) != value:
            parts += [f"--{key.replace('_', '-')}", str(getattr(config, key))]
    for key, value in (config.target or {}).items():
        parts += [] if key == "device" else [f"--{'target' if key == 'runtime' else key}", str(value)]
    parts += ["--include-residual"] if config.include_residual else []
    parts += ["--race"] if config.race else []
    for limit in Restrictions(config.ignore, config.bounds).options:
        parts += limit
    for key, values in (("--mean", config.mean), ("--std", config.std)):
        parts += [key, ",".join(repr(value) for value in values)] if values else []
    for key, sides in (("--resize", config.resize), ("--crop", config.crop)):
        parts += [] if sides is None else [key, "x".join(map(str, sides)) or "none"]
    parts += ["--transform", config.transform] if config.transform else []
    parts += ["--input-size", "x".join(str(size) for size in config.input_shape)] if config.input_shape else []
    return _wrapped(parts)


def versions(run: Run) -> str:
    """Return who made the run and who wrote the page."""
    import torch

    from autoprune import __version__

    made = (run.report or {}).get("autoprune")
    return (
        f"{f'Run made with autoprune {made}. ' if made else ''}Page written with autoprune {__version__}, Python "
        f"{platform.python_version()}, torch {torch.__version__}."
    )


def _effort(run: Run) -> str:
    report = run.report
    fresh = distinct(run.episodes)
    if report is None:
        spent = max((episode.elapsed_s for episode in run.episodes), default=0.0)
        return f"{plural(len(run.episodes), 'policy', 'policies')} scored so far, in {seconds(spent)}."
    return (
        f"{plural(report['policies_scored_in_all'], 'policy', 'policies')} in all, {len(fresh):,} of them scored anew: "
        f"{report['total_cost']:,.0f} passes of the dense network over the search images, {seconds(report['wall_s'])}."
    )


def _wrapped(parts: list[str]) -> str:
    lines, line = [], ""
    for place, part in enumerate(parts):
        text = shlex.quote(part)
        starts = part.startswith("--") and place > 2
        following = shlex.quote(parts[place + 1]) if starts and place + 1 < len(parts) else ""
        if starts and len(line) + len(text) + len(following) > 76:
            lines.append(line + " \\")
            line = "    " + text
        else:
            line += (" " if line else "") + text
    return "\n".join([*lines, line])


def _table(caption: str, head: Iterable[str], lines: Iterable[Iterable[object]]) -> Html:
    return el(
        "div",
        el(
            "table",
            el("caption", caption),
            el("thead", el("tr", *(el("th", text, scope="col", class_="text") for text in head))),
            el("tbody", *(el("tr", *(el("td", cell, class_="text") for cell in line)) for line in lines)),
        ),
        class_="scroll wrap",
    )
