"""``autoprune compare``: several agents with equal effort on one problem."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from autoprune.cli import _options as options
from autoprune.cli import _search_options as search_options
from autoprune.cli._output import complain, result, result_json, say
from autoprune.cli._signals import stopped
from autoprune.errors import UsageError

EPILOG = """\b
Examples:
    autoprune compare --budget 0.5 --agents auto,tpe,random,uniform --episodes 30 --seeds 2 --out runs/compare
    autoprune compare --budget 0.5 --model cifar-resnet20 --weights resnet20.safetensors \\
        --data cifar10:data/cifar10 --agents auto,ddpg,tpe,random,uniform,shallow --seeds 4 --out runs/r20
    autoprune compare --budget 0.5 --agents auto,ddpg --agent-option ddpg.warmup=20 --finetune 10 --out runs/tuned
"""


def compare(
    ctx: typer.Context,
    out: Annotated[Path, typer.Option("--out", help="Folder of the runs; what is there is not done again.")],
    budget: search_options.Budget = None,
    max_drop: search_options.MaxDrop = None,
    pareto: search_options.Pareto = None,
    minimize: search_options.Minimize = None,
    agents: Annotated[
        str, typer.Option("--agents", metavar="A,B,..", help="Agents to compare.")
    ] = "auto,ddpg,tpe,random,uniform,shallow",
    episodes: search_options.Episodes = None,
    seeds: Annotated[int, typer.Option("--seeds", help="Seeds, from 0.")] = 1,
    reward: search_options.Reward = None,
    labels: search_options.Labels = None,
    maximize: search_options.Maximize = None,
    minimize_metric: search_options.MinimizeMetric = None,
    divergence: search_options.Divergence = None,
    run: options.Run = None,
    select: search_options.Select = None,
    score: search_options.Score = None,
    race: options.Race = None,
    decide: search_options.Decide = None,
    ignore: options.Ignore = None,
    bounds: options.Bounds = None,
    part: options.Part = None,
    finish_policies: search_options.FinishPolicies = None,
    most_tried: search_options.MostTried = None,
    finish_steps: search_options.FinishSteps = None,
    budget_mode: search_options.BudgetMode = None,
    preset: search_options.Preset = None,
    include_residual: search_options.IncludeResidual = None,
    min_keep: search_options.MinKeep = None,
    round_to: search_options.RoundTo = None,
    agent_option: Annotated[
        list[str] | None,
        typer.Option("--agent-option", metavar="AGENT.NAME=VALUE", help="An option of one agent's own."),
    ] = None,
    target: search_options.Target = None,
    batch: search_options.Batch = None,
    threads: search_options.TargetThreads = None,
    dtype: search_options.Dtype = None,
    profile: search_options.Profile = None,
    model: options.Model = None,
    weights: options.Weights = None,
    data: options.Data = None,
    mean: options.Mean = None,
    std: options.Std = None,
    input_size: options.InputSize = None,
    batch_size: search_options.BatchSize = None,
    resize: options.Resize = None,
    crop: options.Crop = None,
    transform: options.Transform = None,
    workers: search_options.Workers = 1,
    download: options.Download = False,
    device: options.Device = None,
    accept_dense: search_options.AcceptDense = False,
    finetune: search_options.Finetune = None,
    distill: search_options.Distill = None,
    tensorboard: options.TensorBoard = False,
    allow: options.Allow = None,
    as_json: options.Json = False,
    quiet: options.Quiet = False,
    debug: options.Debug = False,
) -> int:
    """Compare agents: means over seeds, paired intervals on the report part, best-so-far curves against policies and cost."""
    from contextlib import ExitStack

    from autoprune.cli._finetune import checked_recipe, progress_of
    from autoprune.cli._progress import search_progress
    from autoprune.comparison import compare as compare_agents
    from autoprune.comparison import draw, sentences, table
    from autoprune.finetuning import FinetuneProgress
    from autoprune.runs import RunFolder

    if seeds < 1:
        raise UsageError(f"The number of seeds is {seeds}, but must be at least 1.")
    names = search_options.names(agents)
    own = search_options.agent_settings(agent_option or [], names)
    asked = search_options.asked({**ctx.params, "agent_option": None})
    recipe = checked_recipe(finetune, distill, labels=labels)
    with ExitStack() as stack:
        progress, events = search_progress(stack, tensorboard=tensorboard, quiet=quiet)

        def tuning(folder: RunFolder) -> FinetuneProgress:
            progress.stop()
            return progress_of(folder, stack, tensorboard=tensorboard, quiet=quiet)

        try:
            found = compare_agents(
                asked,
                out,
                agents=names,
                seeds=range(seeds),
                progress=events,
                download=download,
                workers=workers,
                agent_options=own,
                recipe=recipe,
                tuning=tuning,
                accept_dense=accept_dense,
            )
        except KeyboardInterrupt as stop:
            if debug:
                raise
            progress.stop()
            word, code = stopped(stop)
            complain(f"{word}; the same command goes on with '{out}'.")
            return code
    try:
        draw(found, out / "curves.png")
    except UsageError as error:
        say(str(error))
    if as_json:
        result_json(found)
        return 0
    result(table(found))
    result("")
    for sentence in sentences(found):
        result(sentence)
    result(f"Runs, comparison.json and curves.png are in {out}")
    return 0
