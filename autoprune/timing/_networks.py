"""Networks on the timer: in PyTorch and in onnxruntime, at several batch sizes."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar, cast

import torch
from torch import Tensor, nn
from torch import _dynamo as dynamo

from autoprune.errors import AutopruneError, UsageError
from autoprune.exporting import ONNX_MODULES, export_model, onnx_session
from autoprune.model_guard import ModelInputs, as_inputs, eval_mode, unchanged
from autoprune.registry import nearest
from autoprune.support.packages import missing
from autoprune.timing._machine import measuring, processors
from autoprune.timing._measure import measure

TARGETS = ("eager", "onnxruntime")
TIMING_VERSION = 1
Say = Callable[[str], None]
BatchT = TypeVar("BatchT", bound=Tensor | ModelInputs)
Batch = Tensor | ModelInputs
"""A batch of images, or of inputs of any nesting."""
Prepared = Callable[[Batch], Callable[[], object]]
"""Takes a batch and returns what runs the network on it."""


def time_networks(
    networks: Mapping[str, nn.Module],
    example: Batch,
    *,
    batches: Sequence[int] = (1, 32),
    targets: Sequence[str] = TARGETS,
    threads: int | None = None,
    budget_s: float = 5.0,
    progress: Say | None = None,
) -> dict[str, Any]:
    """Time networks in turn, each target and batch size by itself.

    Args:
        networks: By name, all on the example's device; the others are compared with the first, the dense one.
        example: Images to run on, shape (B, C, H, W), or inputs of any nesting, repeated as often as a batch needs.
        batches: Batch sizes.
        targets: "eager" is PyTorch as it is, on the device of the example; "onnxruntime" is on the CPU.
        threads: Threads of either; None for as many as torch uses now.
        budget_s: About how long one target and batch size may take.
        progress: Told what is being done and what is left out.

    Returns:
        JSON-ready values: ``version``, ``threads``, ``device``, ``torch``, ``onnxruntime`` (None where it is not installed: its
        rows are missing then), ``cpu``, ``processors``, ``load`` (processes that wanted one in the minute before) and ``rows``.
        A row has ``name``, ``target``, ``batch``, ``ms`` (median of one batch), ``ms_iqr``, ``ratio`` (median over the rounds of
        the time divided by the dense network's in the same round), ``rounds`` and ``precise`` (whether the ratios of this target
        and batch size are known to 2 %).

    Raises:
        UsageError: for no network, unknown targets, or numbers below 1.
    """
    say = progress or (lambda text: None)
    _check(networks, batches, targets)
    rows: list[dict[str, Any]] = []
    with measuring(threads, say) as machine, unchanged(*networks.values()), eval_mode(*networks.values()):
        if "eager" in targets:
            say(f"Timing {len(networks)} networks in PyTorch")
            eager = {name: eager_runner(network) for name, network in networks.items()}
            rows += rows_of("eager", eager, example, batches, budget_s=budget_s)
        if "onnxruntime" in targets and (lacking := missing(ONNX_MODULES)):
            say(f"No times in onnxruntime: {lacking} is not installed (pip install 'autoprune[onnx]')")
        elif "onnxruntime" in targets:
            say(f"Timing {len(networks)} networks in onnxruntime")
            try:
                rows += _onnx_rows(networks, example, batches, machine["threads"], budget_s)
            except AutopruneError as error:
                say(f"No times in onnxruntime: {error}")
    device = str(example.device) if example.device.type == "cpu" else torch.cuda.get_device_name(example.device)
    return {"version": TIMING_VERSION, **machine, "device": device, "processors": processors(), "rows": rows}


def _onnx_rows(
    networks: Mapping[str, nn.Module], example: Batch, batches: Sequence[int], threads: int, budget_s: float
) -> list[dict[str, Any]]:
    with tempfile.TemporaryDirectory() as folder:
        files = _OnnxFiles(Path(folder), threads)
        rows = []
        for batch in batches:
            runners = files.runners(networks, example, batch)
            rows += rows_of("onnxruntime", runners, example.to("cpu"), (batch,), budget_s=budget_s)
        return rows


def rows_of(
    target: str,
    prepared: Mapping[str, Prepared],
    example: Batch,
    batches: Sequence[int],
    *,
    budget_s: float = 5.0,
) -> list[dict[str, Any]]:
    """Return the rows of one target; see `time_networks`."""
    rows = []
    for batch in batches:
        images = batch_of(example, batch)
        measured = measure({name: prepare(images) for name, prepare in prepared.items()}, budget_s=budget_s)
        base = next(iter(measured.timings.values()))
        rows += [
            {
                "name": name,
                "target": target,
                "batch": batch,
                "ms": 1e3 * timing.median_s,
                "ms_iqr": 1e3 * timing.iqr_s,
                "ratio": timing.ratio(base),
                "rounds": measured.rounds,
                "precise": measured.precise,
            }
            for name, timing in measured.timings.items()
        ]
    return rows


def batch_of(example: BatchT, batch: int) -> BatchT:
    """Return so many images: the first ones, repeated as often as needed."""
    some = example[torch.arange(batch, device=example.device) % len(example)]
    return cast(BatchT, some.contiguous() if isinstance(some, Tensor) else some.map(Tensor.contiguous))


def eager_runner(network: nn.Module) -> Prepared:
    """Return what runs a module in PyTorch; on a GPU it waits for the result."""

    def prepare(images: Batch) -> Callable[[], object]:
        inputs = as_inputs(images)

        def run() -> None:
            with torch.inference_mode():
                network(*inputs.args, **inputs.kwargs)
            if inputs.device.type == "cuda":
                torch.cuda.synchronize(inputs.device)

        return run

    return prepare


def compile_runner(network: nn.Module) -> Prepared:
    """Return what runs a module in `torch.compile`, compiled for the shape of the images.

    Raises:
        AutopruneError: where it cannot be compiled (on the CPU that takes a C++ compiler).
    """

    def prepare(images: Batch) -> Callable[[], object]:
        run = eager_runner(cast(nn.Module, torch.compile(network, dynamic=False)))(images)
        try:
            with dynamo.config.patch(recompile_limit=10_000, accumulated_recompile_limit=10_000):  # others count, too
                run()
        except Exception as error:  # whatever the compiler raises
            why = " ".join(str(error).split())[:200] or type(error).__name__
            raise AutopruneError(
                f"torch.compile does not compile the network ({why}); on the CPU it needs a C++ compiler (g++): install one, "
                "or use another target."
            ) from error
        return run

    return prepare


def onnx_runner(path: Path, threads: int) -> Prepared:
    """Return what runs an ONNX file in onnxruntime on the CPU."""
    session = onnx_session(path, threads=threads)
    names = [each.name for each in session.get_inputs()]

    def prepare(images: Batch) -> Callable[[], object]:
        batch = {name: tensor.numpy() for name, tensor in zip(names, as_inputs(images).tensors, strict=True)}
        return lambda: session.run(None, batch)

    return prepare


class _OnnxFiles:
    """ONNX files of networks, made where they are first needed: one for all batch sizes, or one for each."""

    def __init__(self, folder: Path, threads: int) -> None:
        self._folder = folder
        self._threads = threads
        self._any: dict[str, Prepared] = {}

    def runners(self, networks: Mapping[str, nn.Module], example: Batch, batch: int) -> dict[str, Prepared]:
        """Return what runs each network on batches of this size.

        Raises:
            AutopruneError: if one cannot be exported.
        """
        found = {}
        for number, (name, network) in enumerate(networks.items()):
            runner = self._any.get(name)
            if runner is None:
                path = self._folder / f"{number}-{batch}.onnx"
                if _write(network, example, path, 2):
                    runner = self._any[name] = onnx_runner(path, self._threads)
                else:
                    _write(network, example, path, batch)
                    runner = onnx_runner(path, self._threads)
            found[name] = runner
        return found


def _write(network: nn.Module, example: Batch, path: Path, batch: int) -> bool:
    """Export a network from the CPU, where onnxruntime runs; returns whether the file takes any batch size."""
    images = batch_of(example, batch).to("cpu")
    try:
        return export_model(network.cpu(), images, path, format="onnx")
    finally:
        network.to(example.device)


def _check(networks: Mapping[str, nn.Module], batches: Sequence[int], targets: Sequence[str]) -> None:
    if not networks:
        raise UsageError("There is no network to time; give at least the dense one.")
    for batch in batches:
        if batch < 1:
            raise UsageError(f"A batch size is {batch}, but must be at least 1.")
    for target in targets:
        if target not in TARGETS:
            raise UsageError(f"Unknown target '{target}'.{nearest(target, list(TARGETS))} Known: {', '.join(TARGETS)}.")
