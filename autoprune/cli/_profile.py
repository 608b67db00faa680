"""``autoprune profile``: what a network's layers take on the target that will run it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.progress import MofNCompleteColumn

from autoprune.budget import amount
from autoprune.cli import _options as options
from autoprune.cli._output import result, result_json
from autoprune.errors import UsageError
from autoprune.support.bar import StderrBar
from autoprune.support.tables import aligned

if TYPE_CHECKING:
    from torch import Tensor

    from autoprune.models import LoadedModel

_SHOWN = 12
_WIDTH = 60
EPILOG = """\b
Examples:
    autoprune profile --model cifar-resnet56 --out cpu.jsonl
    autoprune profile --model torchvision:mobilenet_v2 --target onnxruntime --threads 1 --out phone.jsonl
    autoprune profile --model cifar-resnet56 --batch 32 --round-to 8 --out batch32.jsonl
"""


def profile(
    out: Annotated[Path, typer.Option("--out", metavar="FILE", help="The profile, made or continued.")],
    model: options.Model = None,
    weights: options.Weights = None,
    input_size: options.InputSize = None,
    run: options.Run = None,
    target: Annotated[str, typer.Option("--target", help="eager, compile or onnxruntime.")] = "eager",
    device: Annotated[str, typer.Option("--device", help="cpu, cuda or cuda:N.")] = "cpu",
    batch: Annotated[int, typer.Option("--batch", help="Images in one batch.")] = 1,
    threads: Annotated[
        int | None, typer.Option("--threads", help="Threads that compute.  [default: PyTorch's]")
    ] = None,
    dtype: Annotated[str, typer.Option("--dtype", help="float32, bfloat16 or (on a GPU) float16.")] = "float32",
    include_residual: Annotated[
        bool, typer.Option("--include-residual", help="Vary groups that cross a residual join, too.")
    ] = False,
    min_keep: Annotated[float, typer.Option("--min-keep", help="Least share of a group's channels that stays.")] = 0.1,
    round_to: Annotated[
        str, typer.Option("--round-to", help="Measure multiples of so many channels; auto: of what is fast here.")
    ] = "auto",
    networks: Annotated[int, typer.Option("--networks", help="How many networks are measured.")] = 34,
    seconds: Annotated[float, typer.Option("--seconds", help="About how long, once there are 14 networks.")] = 150.0,
    seed: Annotated[int, typer.Option("--seed", help="Of the choice of networks.")] = 0,
    as_json: options.Json = False,
    quiet: options.Quiet = False,
    debug: options.Debug = False,
) -> int:
    """Measure pruned variants of a network on a target, so that a search can hold a budget of latency.

    The dense network, the smallest and others in between are called in turn, whole and layer by layer, and written down one
    by one: interrupted, the same command continues. Several models of one target may share a file.
    """
    from autoprune.graph import build_graph, prove
    from autoprune.latency import LatencyCost, Profile, Target, best_multiple, profile_model
    from autoprune.models import load_model
    from autoprune.problem import decidable

    multiple = options.multiple(round_to)
    wanted = Target(target, device, batch, threads, dtype)
    loaded = load_model(
        model if model is not None else "digits", weights=weights, input_size=options.shape(input_size) or None
    )
    example = _example(loaded, run)
    kept = Profile.open(wanted, out)
    with ProfileProgress(quiet=quiet) as progress:
        progress.stage("Tracing the network")
        graph = prove(loaded.model, build_graph(loaded.model, example), example)
        decisions = decidable(graph, include_residual=include_residual)
        if multiple is None:
            multiple = best_multiple(
                kept, loaded.model, graph, decisions, example, min_keep=min_keep, say=progress.stage
            )
        levels = [group.levels(min_keep=min_keep, round_to=multiple) for group in decisions]
        kept = profile_model(
            loaded.model,
            graph,
            decisions,
            levels,
            example,
            wanted,
            path=out,
            networks=networks,
            budget_s=seconds,
            seed=seed,
            progress=progress.measured,
            say=progress.stage,
        )
    cost = LatencyCost(kept, graph, decisions)
    smallest = [allowed[0] for allowed in levels]
    found = {
        "model": loaded.spec,
        "target": kept.target.to_dict(),
        "machine": dict(kept.machine),
        "dense_s": cost.dense,
        "smallest_s": cost(smallest),
        "smallest_ratio": cost(smallest) / cost.dense,
        "error": cost.error,
        "block": cost.block,
        "round_to": multiple,
        "multiples": list(kept.multiples.get(cost.network, ())),
        "networks": len(kept.of(cost.network)),
        "segments": _shares(cost.by_segment(cost.sizes)),
    }
    if as_json:
        result_json(found)
    else:
        result(_text(found, out))
    return 0


def _example(loaded: LoadedModel, run: str | None) -> Tensor:
    """Return images that a network is timed on.

    Raises:
        UsageError: if it is called with anything but one tensor.
    """
    from autoprune.runs import check_run

    advice = (
        "times are measured of networks that are called with one tensor of images; give --model a module whose forward(images) "
        "makes the rest itself, or search within a budget of macs, params, size or memory"
    )
    if run is not None:
        raise UsageError(f"autoprune profile cannot call a network by --run {run}: {advice}.")
    try:
        example = loaded.example_input()
        check_run(loaded.model, example)
    except UsageError as error:
        raise UsageError(f"{str(error).rstrip('.')}; {advice}.") from error
    return example


class ProfileProgress(StderrBar):
    """A bar with the networks measured and the time left on a terminal, plain lines elsewhere. Used in a ``with`` statement.

    Args:
        quiet: Show nothing.
    """

    def __init__(self, *, quiet: bool = False) -> None:
        super().__init__(MofNCompleteColumn(), quiet=quiet)

    def measured(self, done: int, total: int) -> None:
        """Move the bar."""
        self._bar.update(self._task, completed=done, total=total)


def _shares(segments: Sequence[tuple[str, str, float]]) -> list[dict[str, Any]]:
    """Return the kinds of segments with their share of the time, the largest first."""
    total = sum(seconds for _, _, seconds in segments)
    found: dict[str, dict[str, Any]] = {}
    for layer, key, seconds in segments:
        entry = found.setdefault(key, {"key": key, "layers": [], "share": 0.0})
        entry["layers"].append(layer)
        entry["share"] += seconds / total
    return sorted(found.values(), key=lambda entry: -float(entry["share"]))


def _text(found: Mapping[str, Any], out: Path) -> str:
    """Return the table for people."""
    from autoprune.latency import Target

    kinds = found["segments"]
    lines = [
        (
            entry["layers"][0] + (f" and {len(entry['layers']) - 1} like it" if len(entry["layers"]) > 1 else ""),
            entry["key"] if len(entry["key"]) <= _WIDTH else entry["key"][: _WIDTH - 1] + "…",
            f"{100 * entry['share']:.1f} %",
        )
        for entry in kinds[:_SHOWN]
    ]
    if rest := kinds[_SHOWN:]:
        number = sum(len(entry["layers"]) for entry in rest)
        lines.append((f"{number} more layers", "", f"{100 * sum(entry['share'] for entry in rest):.1f} %"))
    text = [
        f"{found['model']}, {Target.from_dict(found['target'])}: {amount('latency', found['dense_s'])} a batch",
        "",
        aligned(("segments", "a layer > and what follows it", "time"), lines, left=2),
        "",
        f"Latency can be {found['smallest_ratio']:.3f} ({amount('latency', found['smallest_s'])}) to 1 of the dense network's.",
        f"Predicted from {found['networks']} measured networks; of ten left out, nine were predicted to within "
        f"{found['error']:.3f} of the dense network's time.",
    ]
    if found["multiples"]:
        tried = ", ".join(f"{entry.multiple}: {entry.at_equal_macs:.3f}" for entry in found["multiples"])
        text.append(f"Time at half of the MACs by multiple of channels: {tried}; --round-to {found['round_to']}.")
    text.append(f"Wrote {out}; search with --budget latency=RATIO --profile {out}")
    return "\n".join(text)
