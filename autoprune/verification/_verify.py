"""Comparison of an exported file with the network it was made from, in numbers and in time."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from autoprune.errors import AutopruneError, UsageError
from autoprune.exporting import SUFFIXES, ExportedModel, export_model
from autoprune.finetuning import finetuned_weights
from autoprune.models import state_fingerprint
from autoprune.registry import only_named_by
from autoprune.runs import Rebuilt, RunFolder, rebuild_run
from autoprune.support.checksums import file_digest
from autoprune.support.packages import require
from autoprune.timing import eager_runner, measuring, onnx_runner, rows_of
from autoprune.verification._compare import compare
from autoprune.verification._images import Images, find_images
from autoprune.verification._load import format_of, load_back
from autoprune.verification._record import read_record

Say = Callable[[str], None]
SLOWER = 1.05
SLOWER_NOTE = (
    "It takes up to {:.2f} of the dense network's time in {}, although it computes less: kernels work on blocks of 8 or 16 "
    "channels, and odd numbers of them fall back to slow ones; search with --round-to 8 (or 16)"
)
_BATCH = 64


@dataclass(frozen=True, eq=False)
class Source:
    """The network that a file was, or is to be, made from.

    Attributes:
        folder: The run.
        rebuilt: Its network.
        model: Specification of the dense network, if it was passed from Python.
        finetuned: Which fine-tuning; None for the network as the search left it.
        fingerprint: SHA-256 of the network's parameters and buffers.
    """

    folder: RunFolder
    rebuilt: Rebuilt
    model: str | None
    finetuned: str | None
    fingerprint: str


@only_named_by("model")
def load_source(run: Path, *, finetuned: str | None, model: str | None) -> Source:
    """Rebuild the network of a run.

    Raises:
        UsageError: if there is no finished run or fine-tuning, or the model cannot be made.
    """
    folder = RunFolder(run)
    weights = None if finetuned is None else finetuned_weights(folder, finetuned)
    rebuilt = rebuild_run(folder, model=model, weights=weights)
    return Source(folder, rebuilt, model, finetuned, state_fingerprint(rebuilt.model.state_dict()))


def check_file(
    file: Path, format: str, source: Source, images: Images, *, dynamic: bool, policy: Path | None = None
) -> dict[str, Any]:
    """Read a file back and compare what it computes with the run's network.

    Args:
        file: The file.
        format: Its format.
        source: The run's network.
        images: What both are run on.
        dynamic: Whether the file takes any batch size; if not, it takes that of the example.
        policy: The policy of a safetensors file; None for the one beside it.

    Returns:
        JSON-ready figures.

    Raises:
        UsageError: if what reads the file is not installed.
        AutopruneError: if the file cannot be read or does not compute the same; one sentence without the file's name.
    """
    if format == "onnx":
        require("ONNX needs", "onnx", "onnxruntime")
    fixed = None if dynamic else len(source.rebuilt.example_input)
    try:
        network = load_back(file, format, source.rebuilt, model=source.model, policy=policy)
        found = compare(source.rebuilt.model, network, images.batches(fixed or _BATCH), batch=fixed)
    except UsageError as error:
        why = str(error).rstrip(".").replace(f"The file '{file}'", "it").replace(f"The weights file '{file}'", "it")
        raise AutopruneError(f"it cannot be read back: {why}") from error
    except AutopruneError:
        raise
    except Exception as error:  # torch and onnxruntime raise many kinds here
        why = " ".join(str(error).split())[:200] or type(error).__name__
        raise AutopruneError(f"it cannot be run ({why.rstrip('.')})") from error
    wrong = found.failure()
    if wrong is not None:
        raise AutopruneError(f"{wrong} ({images.description})")
    return {"on": images.description, "remark": images.remark, **asdict(found), "tolerance": found.tolerance}


def against_dense(
    file: Path,
    format: str,
    source: Source,
    *,
    dynamic: bool,
    time: bool,
    threads: int | None,
    budget_s: float,
    say: Say,
) -> dict[str, Any]:
    """Export the dense network likewise and compare size and, if wanted, time.

    Args:
        file: The file.
        format: Its format.
        source: The run's network.
        dynamic: Whether the file takes any batch size; if not, it takes that of the example.
        time: Whether the two are timed in turn: ONNX in onnxruntime, pt2 and safetensors in PyTorch.
        threads: Threads; None for as many as torch uses now.
        budget_s: About how long one batch size may take.
        say: Told what the user should know.

    Returns:
        JSON-ready figures.
    """
    dense = source.rebuilt.loaded.model
    with tempfile.TemporaryDirectory() as scratch:
        other = Path(scratch) / f"dense{SUFFIXES[format]}"
        export_model(dense, source.rebuilt.example_input, other, format=format)
        size, dense_size = file.stat().st_size, other.stat().st_size
        sizes = {"size_bytes": size, "dense_size_bytes": dense_size, "size_ratio": size / dense_size}
        if not time or source.rebuilt.example_input is None:
            return {**sizes, "timing": None}
        with measuring(threads, say) as machine:
            if format == "onnx":
                target = "onnxruntime"
                runners = {
                    "dense": onnx_runner(other, machine["threads"]),
                    "file": onnx_runner(file, machine["threads"]),
                }
            elif format == "pt2":
                target = "pt2"
                runners = {"dense": eager_runner(ExportedModel(other)), "file": eager_runner(ExportedModel(file))}
            else:
                target = "eager"
                runners = {"dense": eager_runner(dense), "file": eager_runner(source.rebuilt.model)}
            batches = (1, 32) if dynamic else (len(source.rebuilt.example_input),)
            rows = rows_of(target, runners, source.rebuilt.example_input, batches, budget_s=budget_s)
            slowest = max(row["ratio"] for row in rows)
            if slowest > SLOWER:
                say(SLOWER_NOTE.format(slowest, target))
        return {**sizes, "timing": {**machine, "rows": rows}}


@only_named_by("model", "data", "run_function")
def verify_file(
    file: Path,
    *,
    run: Path | None = None,
    finetuned: str | None = None,
    model: str | None = None,
    data: str | None = None,
    limit: int | None = None,
    download: bool = False,
    time: bool = False,
    threads: int | None = None,
    budget_s: float = 5.0,
    say: Say | None = None,
    run_function: str | None = None,
) -> dict[str, Any]:
    """Verify an exported file again: that it is what was exported, and that it computes what the run's network does.

    Args:
        file: The ``.onnx``, ``.pt2`` or ``.safetensors`` file.
        run: The run it was exported from; None for the one its record names, or whose folder it lies in.
        finetuned: Which fine-tuning of the run; None for what the record says.
        model: Specification of the dense network, for one that was passed from Python.
        data: Specification of the data; None for the run's.
        limit: Most report images, evenly spaced; None for all of them.
        download: Whether the data may be downloaded.
        time: Whether it is timed against the dense network, too.
        threads: Threads of the timing; None for as many as torch uses now.
        budget_s: About how long the timing of one batch size may take.
        say: Told what the user should know.
        run_function: Runs the network on a batch of the data; None for the run's own, if it has one.

    Returns:
        JSON-ready figures.

    Raises:
        UsageError: if something is missing: the file, the run, the images, what reads the file.
        AutopruneError: if the file is not what was exported, or does not compute the same; one sentence with figures.
    """
    say = say or (lambda text: None)
    if limit is not None and limit < 1:
        raise UsageError(f"The number of images is {limit}, but must be at least 1.")
    if not file.is_file():
        raise UsageError(f"The file '{file}' does not exist.")
    record = read_record(file)
    format = record["format"] if record is not None else format_of(file)
    if record is None:
        say(f"No record beside {file}: its checksum is not known, so it is only compared with the run's network")
    if finetuned is None and record is not None and run is None:
        finetuned = record.get("finetuned")
    source = load_source(_run_of(file, record) if run is None else run, finetuned=finetuned, model=model)
    images = find_images(source.folder, source.rebuilt, data=data, limit=limit, download=download, run=run_function)
    if images.remark:
        say(f"Verifying on {images.description}: {images.remark}")
    digest = file_digest(file)
    wrong = []
    if record is not None and digest != record["sha256"]:
        wrong.append(f"its SHA-256 is {digest[:12]}… where {record['sha256'][:12]}… was exported")
    if record is not None and source.fingerprint != record["network"]:
        wrong.append(f"the network in '{source.folder.path}' is no longer the one that was exported")
    dynamic = record["dynamic_batch"] if record is not None else True
    try:
        checked = check_file(file, format, source, images, dynamic=dynamic)
    except UsageError:
        raise
    except AutopruneError as error:
        wrong.append(str(error))
    if wrong:
        raise AutopruneError(f"The file '{file}' failed: {'; '.join(wrong)}; export it again.")
    compared = against_dense(
        file, format, source, dynamic=dynamic, time=time, threads=threads, budget_s=budget_s, say=say
    )
    return {"path": str(file), "format": format, "sha256": digest, "dynamic_batch": dynamic, **checked, **compared}


def _run_of(file: Path, record: dict[str, Any] | None) -> Path:
    """Return the run that a file was exported from: what its record says, or else the folder that it lies in."""
    named = record.get("run") if record is not None else None
    folders: list[Path] = [file.parent / named] if isinstance(named, str) else []
    for folder in (*folders, *list(file.absolute().parents)[:3]):
        if (folder / "policy.json").is_file():
            return folder
    raise UsageError(f"The run that '{file}' was exported from is not where its record says; give it with --run.")
