"""The options of a search, which a comparison takes too, and what they ask for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer

from autoprune.cli import _options as options
from autoprune.errors import UsageError

if TYPE_CHECKING:
    from autoprune.searching import Ending

Budget = Annotated[
    str | None,
    typer.Option(
        "--budget",
        metavar="BUDGET",
        help="Share of the MACs that may stay, for instance 0.5; or several limits: "
        "macs=0.5,latency=12ms,params=0.6,size=4MB,memory=2MB.",
    ),
]
MaxDrop = Annotated[
    float | None,
    typer.Option(
        "--max-drop",
        metavar="POINTS",
        help="Find the smallest network that loses at most so many points of accuracy, with 95 % confidence.",
    ),
]
Pareto = Annotated[bool | None, typer.Option("--pareto", help="Find a whole front of accuracy against cost.")]
Minimize = Annotated[
    str | None,
    typer.Option(
        "--minimize",
        metavar="COST",
        help="What --max-drop and --pareto make small: macs, params, size, ...  [default: macs]",
    ),
]
Preset = Annotated[
    str | None,
    typer.Option("--preset", help="amc: agent, budget, selection and score as He et al. published them."),
]
Episodes = Annotated[int | None, typer.Option("--episodes", help="Policies the agent may propose.  [default: 100]")]
Reward = Annotated[
    str | None,
    typer.Option(
        "--reward",
        help="accuracy (the metric), divergence, accuracy-flops, accuracy-params, accuracy-latency, smallest or "
        "package.module:function.  "
        "[default: accuracy; without labels divergence; with --max-drop smallest]",
    ),
]
Labels = Annotated[
    bool | None,
    typer.Option(
        "--labels/--no-labels",
        help="Whether labels are read; without them networks are compared with the dense network's outputs.  [default: where "
        "the data have some]",
    ),
]
Maximize = Annotated[
    str | None,
    typer.Option(
        "--maximize",
        metavar="NAME",
        help="What is measured, where more is better: psnr, ssim, miou, dice, or a number that an evaluate function returns.",
    ),
]
MinimizeMetric = Annotated[
    str | None,
    typer.Option(
        "--minimize-metric", metavar="NAME", help="Instead, where less is better: mae, rmse, or such a number."
    ),
]
Divergence = Annotated[
    str | None,
    typer.Option(
        "--divergence",
        metavar="NAME",
        help="How outputs are compared with the dense network's: kl, relative, cosine or package.module:function; with commas "
        "between one for each tensor.  [default: kl for class scores (N, classes), else relative]",
    ),
]
Select = Annotated[str | None, typer.Option("--select", help="lasso, thinet, magnitude or obs.  [default: obs]")]
Score = Annotated[
    str | None,
    typer.Option("--score", help="sequential (ranks like the finished network) or cached.  [default: sequential]"),
]
FinishSteps = Annotated[
    str | None,
    typer.Option(
        "--finish",
        "--finish-steps",
        metavar="HOW",
        help="How the networks found are trained towards the dense one, on calibration images without labels: fast (closed "
        "form only), normal, best (about four times the passes), or steps of gradient descent, 0 or more.  [default: normal]",
    ),
]
BudgetMode = Annotated[
    str | None,
    typer.Option("--budget-mode", help="exact: use all of the budget; at-most: may be smaller.  [default: exact]"),
]
IncludeResidual = Annotated[
    bool | None, typer.Option("--include-residual", help="Prune groups that cross a residual join too.")
]
Decide = Annotated[
    str | None,
    typer.Option(
        "--decide",
        metavar="A,B,..",
        help="Kinds of decisions: channels, and others as package.module:name.  [default: channels]",
    ),
]
MinKeep = Annotated[
    float | None, typer.Option("--min-keep", help="Least share of a group's channels that stays.  [default: 0.1]")
]
RoundTo = Annotated[
    str | None,
    typer.Option(
        "--round-to",
        help="Keep multiples of so many channels; auto: of what is fast on the target.  [default: 1; auto for latency]",
    ),
]
AgentOption = Annotated[
    list[str] | None, typer.Option("--agent-option", metavar="NAME=VALUE", help="An option of the agent's own.")
]
Target = Annotated[
    str | None,
    typer.Option(
        "--target",
        help="What will run the network, for budgets of latency: eager, compile or onnxruntime.  [default: eager]",
    ),
]
Batch = Annotated[
    int | None, typer.Option("--batch", help="Images in one batch there, for latency and memory.  [default: 1]")
]
TargetThreads = Annotated[int | None, typer.Option("--threads", help="Threads there.  [default: PyTorch's]")]
Dtype = Annotated[str | None, typer.Option("--dtype", help="float32, bfloat16 or float16 there.  [default: float32]")]
Profile = Annotated[
    str | None,
    typer.Option("--profile", metavar="FILE", help="Times measured before (autoprune profile), for the same target."),
]
BatchSize = Annotated[int | None, typer.Option("--batch-size", help="Images at a time.  [default: 64]")]
Workers = Annotated[
    int, typer.Option("--workers", help="Processes that score policies at the same time, one thread each.")
]
Baselines = Annotated[
    str | None,
    typer.Option(
        "--baselines",
        metavar="SET",
        help="What is scored beside the agent: none, rules (one policy each), all (random search with as many policies too), or "
        "names with commas between.  [default: rules]",
    ),
]
FinishPolicies = Annotated[
    int | None,
    typer.Option(
        "--finish-policies",
        help="How many of the best policies are finished at most, whoever proposed them.  [default: 2]",
    ),
]
MostTried = Annotated[
    int | None,
    typer.Option(
        "--most-tried",
        help="How many are finished at most until one is within the drop, or measured to be fast enough.  [default: 8]",
    ),
]
Timeout = Annotated[
    str | None,
    typer.Option(
        "--timeout",
        metavar="TIME",
        help="End with the best so far after 90s, 10m, 1.5h; the same command with more goes on.",
    ),
]
MaxPasses = Annotated[
    float | None,
    typer.Option(
        "--max-passes", help="End after so many passes of the dense network over the search images, scores included."
    ),
]
Patience = Annotated[
    str,
    typer.Option(
        "--patience",
        help="End after so many policies without a better one; converged: once the agent expects none that is better by more "
        "than the noise (auto alone can tell); none: after all --episodes.",
    ),
]
Row = Annotated[
    str | None,
    typer.Option(
        "--row",
        metavar="NAME",
        help="Make the best network of this agent or rule the result.  [default: the best of all]",
    ),
]
AcceptDense = Annotated[
    bool,
    typer.Option(
        "--accept-dense",
        help="Search even if the dense network is no better than chance, or far below what its published weights promise.",
    ),
]
Finetune = Annotated[int | None, typer.Option("--finetune", metavar="EPOCHS", help="Then fine-tune the network found.")]
Distill = Annotated[
    bool | None,
    typer.Option("--distill/--no-distill", help="Fine-tune from the dense network's logits too.  [default: distill]"),
]


NOT_OF_THE_SEARCH = {
    *("agents", "seeds", "out", "workers", "download", "finetune", "distill"),
    *("tensorboard", "allow", "as_json", "quiet", "debug"),
    *("timeout", "max_passes", "patience", "row", "no_time", "accept_dense"),
}
"""Options of the verbs that decide nothing about a single search."""
READ_HERE = {
    *("target", "batch", "threads", "dtype", "mean", "std", "input_size", "resize", "crop", "transform"),
    *("round_to", "agent_option", "decide", "ignore", "bounds", "part"),
    *("maximize", "minimize_metric"),
}
"""Options whose text is read before it is asked for; the others are asked for as they are."""


def asked(given: Mapping[str, Any]) -> dict[str, Any]:
    """Return what a verb's options ask for, as `autoprune.searching.resolve` takes it.

    Args:
        given: All options of the verb by the names of its parameters, Typer's ``Context.params``. What a verb lacks is not
            asked for.

    Raises:
        UsageError: if a value cannot be read.
    """
    from autoprune.searching import metric_asked

    text = {key: given.get(key) for key in READ_HERE}
    there = {"runtime": text["target"], **{key: text[key] for key in ("batch", "threads", "dtype")}}
    return {
        **{key: value for key, value in given.items() if key not in NOT_OF_THE_SEARCH | READ_HERE},
        "target": {key: value for key, value in there.items() if value is not None} or None,
        "mean": options.numbers(text["mean"], "--mean") or None,
        "std": options.numbers(text["std"], "--std") or None,
        "input_shape": options.shape(text["input_size"]) or None,
        **options.preparation(text["resize"], text["crop"], text["transform"]),
        "round_to": None if text["round_to"] is None else options.multiple(text["round_to"]) or 0,
        "agent_options": options.settings(text["agent_option"]) if text["agent_option"] else None,
        **metric_asked(text["maximize"], text["minimize_metric"]),
        "decide": None if text["decide"] is None else names(text["decide"]),
        "part": tuple(text["part"]) if text["part"] else None,
        "ignore": tuple(text["ignore"]) if text["ignore"] else None,
        "bounds": options.bounds(text["bounds"]),
    }


def ending(given: Mapping[str, Any]) -> Ending:
    """Return when and how a search is to end, of a verb's options.

    Raises:
        UsageError: if a value cannot be read, or is out of its range.
    """
    from autoprune.searching import CONVERGED, Ending, parse_seconds

    patience = given["patience"]
    if patience not in (CONVERGED, "none"):
        try:
            patience = int(patience)
        except ValueError:
            raise UsageError(
                f"The value of --patience is '{patience}', but must be a whole number, converged or none."
            ) from None
    return Ending(
        timeout_s=None if given["timeout"] is None else parse_seconds(given["timeout"]),
        max_passes=given["max_passes"],
        patience=None if patience == "none" else patience,
        row=given["row"],
    )


def names(text: str) -> tuple[str, ...]:
    """Read ``auto, tpe``."""
    return tuple(name for part in text.split(",") if (name := part.strip()))


def agent_settings(pairs: Sequence[str], agents: Sequence[str]) -> dict[str, dict[str, Any]]:
    """Read ``["ddpg.noise=0.5"]`` to each agent's options.

    Raises:
        UsageError: if one has no equals sign, or is of no agent.
    """
    found: dict[str, dict[str, Any]] = {}
    for pair in pairs:
        agent = max((name for name in agents if pair.startswith(f"{name}.")), key=len, default=None)
        if agent is None:
            raise UsageError(
                f"The value of --agent-option is '{pair}', but must be like {agents[0] if agents else 'ddpg'}.name=value, "
                f"with one of the agents compared: {', '.join(agents)}."
            )
        found.setdefault(agent, {}).update(options.settings([pair.removeprefix(f"{agent}.")]))
    return found
