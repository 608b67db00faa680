"""``autoprune search``: find, apply, score and export a policy."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, cast

import typer

from autoprune.budget import Budget, Mode
from autoprune.cli import _options as options
from autoprune.cli._output import complain, result, result_json, say
from autoprune.cli._signals import stopped
from autoprune.errors import UsageError

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
    autoprune search --max-drop 3
    autoprune search --pareto --minimize params
    autoprune search --out runs/r56    (continues that run, or prints it)
"""


def search(
    budget: Annotated[
        str | None,
        typer.Option(
            "--budget",
            metavar="BUDGET",
            help="Share of the MACs that may stay, for instance 0.5; or several limits: "
            "macs=0.5,latency=12ms,params=0.6,size=4MB,memory=2MB.",
        ),
    ] = None,
    max_drop: Annotated[
        float | None,
        typer.Option(
            "--max-drop",
            metavar="POINTS",
            help="Find the smallest network that loses at most so many points of accuracy, with 95 % confidence.",
        ),
    ] = None,
    pareto: Annotated[bool, typer.Option("--pareto", help="Find a whole front of accuracy against cost.")] = False,
    minimize: Annotated[
        str | None,
        typer.Option(
            "--minimize",
            metavar="COST",
            help="What --max-drop and --pareto make small: macs, params, size, ...  [default: macs]",
        ),
    ] = None,
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
    preset: Annotated[
        str | None,
        typer.Option("--preset", help="amc: agent, budget, selection and score as He et al. published them."),
    ] = None,
    episodes: Annotated[
        int | None, typer.Option("--episodes", help="Policies the agent may propose.  [default: 100]")
    ] = None,
    seed: Annotated[int | None, typer.Option("--seed", help="The one seed of the run.  [default: 0]")] = None,
    out: Annotated[
        Path | None,
        typer.Option(
            "--out",
            help="Run folder. An unfinished run there is continued, a finished one printed. "
            "[default: runs/MODEL-AGENT-BUDGET-sSEED]",
        ),
    ] = None,
    reward: Annotated[
        str | None,
        typer.Option(
            "--reward",
            help="accuracy, accuracy-flops, accuracy-params, accuracy-latency, smallest or package.module:function.  "
            "[default: accuracy; with "
            "--max-drop smallest]",
        ),
    ] = None,
    select: Annotated[
        str | None, typer.Option("--select", help="lasso, thinet, magnitude or obs.  [default: obs]")
    ] = None,
    score: Annotated[
        str | None,
        typer.Option("--score", help="sequential (ranks like the finished network) or cached.  [default: sequential]"),
    ] = None,
    race: options.Race = None,
    finish_steps: Annotated[
        int | None,
        typer.Option(
            "--finish-steps",
            help="Steps of gradient descent for each block of a finished network, on calibration images without labels; "
            "0: closed form only.  [default: 60]",
        ),
    ] = None,
    budget_mode: Annotated[
        str | None,
        typer.Option("--budget-mode", help="exact: use all of the budget; at-most: may be smaller.  [default: exact]"),
    ] = None,
    include_residual: Annotated[
        bool | None, typer.Option("--include-residual", help="Prune groups that cross a residual join too.")
    ] = None,
    min_keep: Annotated[
        float | None, typer.Option("--min-keep", help="Least share of a group's channels that stays.  [default: 0.1]")
    ] = None,
    round_to: Annotated[
        str | None,
        typer.Option(
            "--round-to",
            help="Keep multiples of so many channels; auto: of what is fast on the target.  [default: 1; auto for latency]",
        ),
    ] = None,
    agent_option: Annotated[
        list[str] | None, typer.Option("--agent-option", metavar="NAME=VALUE", help="An option of the agent's own.")
    ] = None,
    target: Annotated[
        str | None,
        typer.Option(
            "--target",
            help="What will run the network, for budgets of latency: eager, compile or onnxruntime.  [default: eager]",
        ),
    ] = None,
    batch: Annotated[
        int | None, typer.Option("--batch", help="Images in one batch there, for latency and memory.  [default: 1]")
    ] = None,
    threads: Annotated[int | None, typer.Option("--threads", help="Threads there.  [default: PyTorch's]")] = None,
    dtype: Annotated[
        str | None, typer.Option("--dtype", help="float32, bfloat16 or float16 there.  [default: float32]")
    ] = None,
    profile: Annotated[
        str | None,
        typer.Option(
            "--profile", metavar="FILE", help="Times measured before (autoprune profile), for the same target."
        ),
    ] = None,
    mean: options.Mean = None,
    std: options.Std = None,
    input_size: options.InputSize = None,
    batch_size: Annotated[int | None, typer.Option("--batch-size", help="Images at a time.  [default: 64]")] = None,
    workers: Annotated[
        int, typer.Option("--workers", help="Processes that score policies at the same time, one thread each.")
    ] = 1,
    resize: options.Resize = None,
    crop: options.Crop = None,
    transform: options.Transform = None,
    download: options.Download = False,
    device: options.Device = None,
    finetune: Annotated[
        int | None, typer.Option("--finetune", metavar="EPOCHS", help="Then fine-tune the network found.")
    ] = None,
    distill: Annotated[
        bool | None,
        typer.Option(
            "--distill/--no-distill", help="Fine-tune from the dense network's logits too.  [default: distill]"
        ),
    ] = None,
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

    from autoprune.cli._finetune import recipe_options, tune
    from autoprune.cli._progress import RichProgress
    from autoprune.evaluation import SIZE_TRADING
    from autoprune.registry import nearest
    from autoprune.report import Progress
    from autoprune.runs import PRESETS, RunFolder
    from autoprune.searching import search_to_folder

    there = {"runtime": target, "batch": batch, "threads": threads, "dtype": dtype}
    there = {key: value for key, value in there.items() if value is not None}
    asked: dict[str, Any] = {
        "target": there or None,
        "profile": profile,
        "model": model,
        "weights": weights,
        "data": data,
        "agent": agent,
        "episodes": episodes,
        "seed": seed,
        "reward": reward,
        "select": select,
        "score": score,
        "race": race,
        "finish_steps": finish_steps,
        "include_residual": include_residual,
        "min_keep": min_keep,
        "round_to": None if round_to is None else options.multiple(round_to) or 0,
        "batch_size": batch_size,
        "device": device,
        "agent_options": options.settings(agent_option) if agent_option else None,
        "mean": options.numbers(mean, "--mean") or None,
        "std": options.numbers(std, "--std") or None,
        "input_shape": options.shape(input_size) or None,
        **options.preparation(resize, crop, transform),
    }
    asked = {key: value for key, value in asked.items() if value is not None}
    if preset is not None:
        if preset not in PRESETS:
            raise UsageError(f"Unknown preset '{preset}'.{nearest(preset, list(PRESETS))} Known: {', '.join(PRESETS)}.")
        chosen = dict(PRESETS[preset])
        preset_mode = chosen.pop("budget_mode")
        budget_mode = budget_mode or (preset_mode if budget is not None else None)
        asked = {**chosen, **asked}
    begun = RunFolder(out).read_config().budget if out is not None and RunFolder(out).exists else None
    if max_drop is not None and pareto:
        raise UsageError("--max-drop asks for one network and --pareto for a whole front; give one of them.")
    if minimize is not None and max_drop is None and not pareto:
        raise UsageError("--minimize is about --max-drop and --pareto; give one of them too.")
    if max_drop is not None or pareto:
        limits = Budget(budget).limits if budget is not None else ()
        asked["budget"] = Budget(limits, max_drop=max_drop, minimize=minimize or "macs")
    elif budget is not None or (begun is not None and budget_mode is not None):
        mode = budget_mode or ("exact" if begun is None else begun.mode)
        value = budget if budget is not None or begun is None else begun.limits
        asked["budget"] = Budget(
            value,
            cast(Mode, mode),
            max_drop=None if begun is None else begun.max_drop,
            minimize=None if begun is None else begun.minimize,
        )
    elif begun is None and (reward in SIZE_TRADING or budget_mode == "at-most"):
        asked["budget"] = Budget(1.0, "at-most")
    if not quiet and begun is None and model is None and data is None:
        say(
            "No --model or --data given: using the embedded default, a small residual network for scikit-learn's "
            "handwritten digits, trained on first use and cached."
        )
    recipe = {
        key: value for key, value in recipe_options(epochs=finetune, distill=distill).items() if value is not None
    }
    if finetune is None and distill is not None:
        raise UsageError("--distill and --no-distill are about fine-tuning; give --finetune EPOCHS too.")
    if finetune is not None:
        from autoprune.finetuning import Recipe

        Recipe.from_dict(recipe)  # a slip is to be reported before the search
    with ExitStack() as stack:
        progress = stack.enter_context(RichProgress(quiet=quiet))
        events: Progress = progress
        if tensorboard:
            from autoprune.report import SearchEvents

            events = stack.enter_context(SearchEvents(progress))
        try:
            folder = search_to_folder(asked, out, progress=events, download=download, workers=workers)
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
    if finetune is not None:
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
    show(folder, as_json=as_json)
    return 0


def show(folder: Any, *, as_json: bool) -> None:
    """Print a finished run."""
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
    result(f"Policy, weights and report are in {folder.path}")
