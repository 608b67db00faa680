"""``autoprune search``: find, apply, score and export a policy."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from autoprune.cli import _options as options
from autoprune.cli import _search_options as search_options
from autoprune.cli._output import complain, result, result_json, say
from autoprune.cli._signals import ends_early, stopped

EPILOG = """\b
Examples:
    autoprune search --budget 0.5
    autoprune search --budget 0.5 --model cifar-resnet56 \\
        --weights resnet56.safetensors --data cifar10:data/cifar10 \\
        --episodes 200 --seed 1 --workers 2 --out runs/r56
    autoprune search --budget 0.5 --finetune 10 --workers 4
    autoprune search --budget macs=0.5,params=0.6,size=4MB
    autoprune search --budget latency=0.8 --target onnxruntime --batch 1
    autoprune search --budget 0.5 --preset amc
    autoprune search --budget 0.6 --ignore conv1 --bounds 'blocks.2.*=0.5:1.0'
    autoprune search --max-drop 3
    autoprune search --pareto --minimize params
    autoprune search --out runs/r56    (continues that run, or prints it)
"""


def search(
    ctx: typer.Context,
    budget: search_options.Budget = None,
    max_drop: search_options.MaxDrop = None,
    pareto: search_options.Pareto = None,
    minimize: search_options.Minimize = None,
    model: options.Model = None,
    weights: options.Weights = None,
    data: options.Data = None,
    agent: Annotated[
        str | None,
        typer.Option(
            "--agent",
            help="auto, ddpg, amc, td3, sac, tpe, gp, cmaes, nsga2, evolution, netadapt, sensitivity, uniform, shallow, deep or "
            "random.  [default: auto; with another reward or --budget-mode at-most ddpg, with "
            "--max-drop sensitivity, with --pareto tpe]",
        ),
    ] = None,
    preset: search_options.Preset = None,
    episodes: search_options.Episodes = None,
    seed: Annotated[int | None, typer.Option("--seed", help="The one seed of the run.  [default: 0]")] = None,
    out: Annotated[
        Path | None,
        typer.Option(
            "--out",
            help="Run folder. An unfinished run there is continued, a finished one printed. "
            "[default: runs/MODEL-AGENT-BUDGET-sSEED]",
        ),
    ] = None,
    reward: search_options.Reward = None,
    labels: search_options.Labels = None,
    maximize: search_options.Maximize = None,
    minimize_metric: search_options.MinimizeMetric = None,
    divergence: search_options.Divergence = None,
    run: options.Run = None,
    select: search_options.Select = None,
    score: search_options.Score = None,
    race: options.Race = None,
    baselines: search_options.Baselines = None,
    decide: search_options.Decide = None,
    ignore: options.Ignore = None,
    bounds: options.Bounds = None,
    part: options.Part = None,
    finish_policies: search_options.FinishPolicies = None,
    most_tried: search_options.MostTried = None,
    finish_steps: search_options.FinishSteps = None,
    budget_mode: search_options.BudgetMode = None,
    include_residual: search_options.IncludeResidual = None,
    min_keep: search_options.MinKeep = None,
    round_to: search_options.RoundTo = None,
    agent_option: search_options.AgentOption = None,
    target: search_options.Target = None,
    batch: search_options.Batch = None,
    threads: search_options.TargetThreads = None,
    dtype: search_options.Dtype = None,
    profile: search_options.Profile = None,
    mean: options.Mean = None,
    std: options.Std = None,
    input_size: options.InputSize = None,
    batch_size: search_options.BatchSize = None,
    workers: search_options.Workers = 1,
    timeout: search_options.Timeout = None,
    max_passes: search_options.MaxPasses = None,
    patience: search_options.Patience = "converged",
    row: search_options.Row = None,
    resize: options.Resize = None,
    crop: options.Crop = None,
    transform: options.Transform = None,
    download: options.Download = False,
    device: options.Device = None,
    no_time: options.NoTime = False,
    accept_dense: search_options.AcceptDense = False,
    finetune: search_options.Finetune = None,
    distill: search_options.Distill = None,
    tensorboard: options.TensorBoard = False,
    allow: options.Allow = None,
    as_json: options.Json = False,
    quiet: options.Quiet = False,
    debug: options.Debug = False,
) -> int:
    """Search for the best network within a budget, and compare it with the simple rules.

    Without --model and --data it runs on a small residual network for scikit-learn's handwritten digits, which needs no
    download: the network is trained on first use, in seconds, and cached.
    """
    from contextlib import ExitStack

    from autoprune.cli._finetune import checked_recipe, tune
    from autoprune.cli._progress import search_progress
    from autoprune.runs import RunFolder
    from autoprune.searching import search_to_folder

    wanted, ending = search_options.asked(ctx.params), search_options.ending(ctx.params)
    if not quiet and not (out is not None and RunFolder(out).exists) and model is None and data is None:
        say(
            "No --model or --data given: using the embedded default, a small residual network for scikit-learn's "
            "handwritten digits, trained on first use and cached."
        )
    recipe = checked_recipe(finetune, distill, labels=labels)
    with ExitStack() as stack:
        progress, events = search_progress(stack, tensorboard=tensorboard, quiet=quiet)
        try:
            with ends_early(ending.stop, lambda: progress.begun):
                folder = search_to_folder(
                    wanted,
                    out,
                    progress=events,
                    download=download,
                    workers=workers,
                    ending=ending,
                    accept_dense=accept_dense,
                )
        except KeyboardInterrupt as stop:
            if debug:
                raise
            progress.stop()
            word, code = stopped(stop)
            if progress.folder is not None and progress.folder.exists:
                complain(f"{word}; continue with: autoprune search --out {progress.folder.path}")
            else:
                complain(f"{word} before the first policy was scored; nothing was kept.")
            return code
    if recipe is not None:
        ended = tune(
            folder.path,
            recipe,
            name=None,
            tensorboard=tensorboard,
            as_json=as_json,
            quiet=quiet,
            debug=debug,
            show=False,
            weights=weights,
            download=download,
        )
        if ended != 0:
            return ended
    show(folder, as_json=as_json, time=not (no_time or quiet))
    return 0


def show(folder: Any, *, as_json: bool, time: bool = False) -> None:
    """Print a finished run, with what its network takes beside the dense one if that is wanted and can be measured."""
    from autoprune.errors import AutopruneError
    from autoprune.report import front_table, sentences, table
    from autoprune.support.reading import reading

    report = folder.read_report()
    if as_json:
        result_json(report)
        return
    with reading(f"The report '{folder.report_path}'", "restore it or run the search again"):
        lines = [table(report), "", *([front_table(report), ""] if "front" in report else []), *sentences(report)]
    for line in lines:
        result(line)
    if time:
        from autoprune.report import time_result

        try:
            result(time_result(folder.path))
        except AutopruneError as error:
            say(f"Its time was not measured: {error}")
    result(f"Policy, weights and report are in {folder.path}")
