"""``autoprune finetune``: train the small network of a run to its best."""

from __future__ import annotations

import os
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from autoprune.cli import _options as options
from autoprune.cli import _search_options as search_options
from autoprune.cli._output import complain, result, result_json
from autoprune.cli._signals import stopped
from autoprune.errors import UsageError

if TYPE_CHECKING:
    from autoprune.finetuning import FinetuneProgress
    from autoprune.runs import RunFolder

EPILOG = """\b
Examples:
    autoprune finetune runs/digits-auto-0.5-s0 --epochs 10
    autoprune finetune runs/r56 --epochs 6
    autoprune finetune runs/r56 --epochs 6 --no-distill
    autoprune finetune runs/detector --epochs 6 --no-labels
    autoprune finetune runs/r56 --epochs 6 --from-scratch --no-distill
    autoprune export runs/r56 --finetuned distilled --format onnx
"""


def finetune(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="Folder of a finished search or of `prune`.")],
    epochs: Annotated[
        int | None, typer.Option("--epochs", help="Passes over the training images.  [default: 10]")
    ] = None,
    distill: Annotated[
        bool | None,
        typer.Option("--distill/--no-distill", help="Learn from the dense network's logits too.  [default: distill]"),
    ] = None,
    labels: Annotated[
        bool | None,
        typer.Option(
            "--labels/--no-labels",
            help="Whether the labels of the training images are learned from; without them the network learns the dense one's "
            "outputs alone.  [default: as in the search, where there are some]",
        ),
    ] = None,
    from_scratch: Annotated[
        bool | None, typer.Option("--from-scratch", help="Train the architecture from random weights, as a control.")
    ] = None,
    name: Annotated[
        str | None,
        typer.Option(
            "--name", help="Folder in RUN/finetune.  [default: distilled, plain, scratch-distilled or scratch]"
        ),
    ] = None,
    lr: Annotated[
        float | None, typer.Option("--lr", help="Highest learning rate.  [default: 0.03, from scratch 0.1]")
    ] = None,
    batch_size: Annotated[int | None, typer.Option("--batch-size", help="Images per step.  [default: 128]")] = None,
    accumulate: Annotated[
        int | None, typer.Option("--accumulate", help="Parts a batch is cut in, to save memory.  [default: 1]")
    ] = None,
    precision: Annotated[
        str | None, typer.Option("--precision", help="auto (measured), bf16 or fp32.  [default: auto]")
    ] = None,
    patience: Annotated[
        int | None,
        typer.Option(
            "--patience",
            help="End after so many epochs without a better one on the search part; 0: never.  [default: 0]",
        ),
    ] = None,
    seed: Annotated[int | None, typer.Option("--seed", help="The one seed.  [default: the run's]")] = None,
    setting: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            metavar="NAME=VALUE",
            help="Another setting of autoprune.Recipe: momentum, weight-decay, warmup, label-smoothing, clip, ema, distill, "
            "temperature, feature-weight, augment.",
        ),
    ] = None,
    model: options.Model = None,
    weights: options.Weights = None,
    data: options.Data = None,
    divergence: search_options.Divergence = None,
    run_function: options.Run = None,
    mean: options.Mean = None,
    std: options.Std = None,
    workers: Annotated[
        int | None, typer.Option("--workers", help="Processes that decode images of an image folder.")
    ] = None,
    resize: options.Resize = None,
    crop: options.Crop = None,
    transform: options.Transform = None,
    download: options.Download = False,
    device: options.Device = None,
    devices: Annotated[
        int, typer.Option("--devices", help="How many devices, through Lightning Fabric if more than one.")
    ] = 1,
    tensorboard: options.TensorBoard = False,
    allow: options.Allow = None,
    as_json: options.Json = False,
    quiet: options.Quiet = False,
    debug: options.Debug = False,
) -> int:
    """Fine-tune a run's network, distilling from the dense one; the same command again continues where it was stopped.

    Without labels, and where no loss is known (outputs that are no class scores, targets of a metric), it learns the dense
    network's outputs by the run's divergence. The epoch that is best on the search part is kept and measured once on the report
    part. The result is in RUN/finetune/NAME and in the run's report.
    """
    from autoprune.data import Preparation

    asked: dict[str, Any] = {
        **options.settings(setting or [], option="--set"),
        **recipe_options(epochs=epochs, distill=distill),
        "from_scratch": from_scratch,
        "lr": lr,
        "batch_size": batch_size,
        "accumulate": accumulate,
        "precision": precision,
        "patience": patience,
        "seed": seed,
    }
    return tune(
        run,
        {key: value for key, value in asked.items() if value is not None},
        name=name,
        tensorboard=tensorboard,
        as_json=as_json,
        quiet=quiet,
        debug=debug,
        model=model,
        weights=weights,
        data=data,
        labels=labels,
        divergence=divergence,
        run_function=run_function,
        mean=options.numbers(mean, "--mean"),
        std=options.numbers(std, "--std"),
        workers=workers,
        download=download,
        device=device,
        devices=devices,
        preparation=Preparation(**options.preparation(resize, crop, transform)),
    )


def recipe_options(*, epochs: int | None, distill: bool | None) -> dict[str, Any]:
    """Return the settings that two options stand for; None where nothing was said."""
    return {"epochs": epochs, **({"distill": 0.0, "feature_weight": 0.0} if distill is False else {})}


def checked_recipe(epochs: int | None, distill: bool | None, *, labels: bool | None = None) -> dict[str, Any] | None:
    """Return the settings of a fine-tuning that follows a search, None for none; a slip is reported before the search.

    Args:
        epochs: How long; None for no fine-tuning.
        distill: Whether it learns from the dense network.
        labels: Whether the search reads labels.

    Raises:
        UsageError: if a value is out of its range, or says how to do what was not asked for.
    """
    if epochs is None:
        if distill is not None:
            raise UsageError("--distill and --no-distill are about fine-tuning; give --finetune EPOCHS too.")
        return None
    if labels is False and distill is False:
        raise UsageError("Without labels a network learns the dense one's outputs alone: leave --no-distill out.")
    from autoprune.finetuning import Recipe

    recipe = recipe_options(epochs=epochs, distill=distill)
    Recipe.from_dict(recipe)
    return recipe


def progress_of(folder: RunFolder, stack: ExitStack, *, tensorboard: bool, quiet: bool) -> FinetuneProgress:
    """Return what shows a run's fine-tuning, and writes event files if they are wanted, until ``stack`` is closed."""
    from autoprune.cli._finetune_progress import RichFinetuneProgress
    from autoprune.finetuning import Several

    bar = stack.enter_context(RichFinetuneProgress(quiet=quiet))
    if not tensorboard:
        return bar
    from autoprune.report import FinetuneEvents

    return Several(bar, stack.enter_context(FinetuneEvents(folder.path)))


def tune(
    run: Path,
    asked: dict[str, Any],
    *,
    name: str | None,
    tensorboard: bool,
    as_json: bool,
    quiet: bool,
    debug: bool,
    show: bool = True,
    **sources: Any,
) -> int:
    """Fine-tune and, if wanted, print the result; ``sources`` are those of ``autoprune.finetuning.finetune_run``."""
    from autoprune.finetuning import finetune_run
    from autoprune.runs import RunFolder

    folder = RunFolder(run)
    try:
        with ExitStack() as stack:
            progress = progress_of(folder, stack, tensorboard=tensorboard, quiet=quiet)
            found = finetune_run(folder, asked, name=name, progress=progress, **sources)
    except KeyboardInterrupt as stop:
        if debug:
            raise
        word, code = stopped(stop)
        complain(f"{word}; the same command continues after the last whole epoch.")
        return code
    if os.environ.get("LOCAL_RANK", "0") != "0":  # of several devices the first one speaks
        return 0
    if as_json and show:
        result_json(found)
    elif show:
        _print(folder, found)
    return 0


def _print(folder: Any, found: dict[str, Any]) -> None:
    from autoprune.finetuning import finetuned_weights
    from autoprune.report import finetuned_sentence, table
    from autoprune.support.reading import reading

    if folder.finished:
        with reading(f"The report '{folder.report_path}'", "restore it or run the search again"):
            lines = table(folder.read_report())
        result(lines)
        result("")
    result(finetuned_sentence(found))
    result(f"Weights and history are in {finetuned_weights(folder, found['name']).parent}")
