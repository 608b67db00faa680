"""Export of a run's network: nothing is put in its place before it has been read back and computes the same."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from autoprune.errors import AutopruneError, UsageError
from autoprune.exporting import SUFFIXES, check_format, export_model
from autoprune.finetuning import finetuned_weights
from autoprune.registry import only_named_by
from autoprune.runs import RunFolder, lay_out_best
from autoprune.support.checksums import file_digest
from autoprune.support.files import write_atomic
from autoprune.surgery import Policy
from autoprune.verification._images import BOUND, Images, find_images
from autoprune.verification._load import policy_beside
from autoprune.verification._record import record_path, write_record
from autoprune.verification._verify import Source, against_dense, check_file, load_source


@only_named_by("model", "data", "run_function")
def export_run(
    run: Path,
    *,
    format: str,
    out: Path | None = None,
    finetuned: str | None = None,
    model: str | None = None,
    verify: bool = True,
    data: str | None = None,
    limit: int | None = BOUND,
    download: bool = False,
    time: bool = True,
    threads: int | None = None,
    budget_s: float = 5.0,
    say: Callable[[str], None] | None = None,
    run_function: str | None = None,
) -> dict[str, Any]:
    """Write a run's network to a file that other tools read, and see that it computes the same.

    Beside the file goes ``FILE.json`` with its SHA-256 and the figures, for `verify_file`, and beside a safetensors file its
    policy, if it lies elsewhere than in the run. If the verification fails, nothing is written, and what was there stays.

    Args:
        run: Folder of a finished search or of ``prune``.
        format: "onnx", "pt2" or "safetensors".
        out: The file; None for ``model.SUFFIX`` in the folder.
        finetuned: Which fine-tuning of the run; None for the network as the search left it.
        model: Specification of the dense network, for one that was passed from Python.
        verify: Whether the file is read back, compared with the network and with the dense one's size and time.
        data: Specification of the data; None for the run's.
        limit: Most report images, evenly spaced; None for all of them.
        download: Whether the data may be downloaded.
        time: Whether the file is timed against the dense network, too.
        threads: Threads of the timing; None for as many as torch uses now.
        budget_s: About how long the timing of one batch size may take.
        say: Told what the user should know.
        run_function: Runs the network on a batch of the data (``--run``); None for the run's own, if it has one.

    Returns:
        JSON-ready figures; ``verification`` is None if there was none.

    Raises:
        UsageError: if something is missing: the run, the images, what ONNX needs.
        AutopruneError: if the network cannot be exported or the verification fails; one sentence with figures.
    """
    say = say or (lambda text: None)
    check_format(format)
    if limit is not None and limit < 1:
        raise UsageError(f"The number of images is {limit}, but must be at least 1.")
    best = lay_out_best(RunFolder(run), say)
    if best is not None:
        known = RunFolder(run).read_config().data
        data, run = data or (None if known == "python" else known), best
    source = load_source(run, finetuned=finetuned, model=model)
    folder = source.folder.path
    weights = source.folder.model_path if finetuned is None else finetuned_weights(source.folder, finetuned)
    if format != "safetensors" and source.rebuilt.example_input is None:
        raise UsageError(
            f"The run in '{folder}' prunes a part, and its files do not tell what the whole network is called with, so that it "
            f"cannot be exported as {format}; give safetensors, or export what autoprune.load_pruned returns from Python."
        )
    path = out if out is not None else weights.with_name(f"model{SUFFIXES[format]}")
    policy = _policy_path(path, source) if format == "safetensors" else None
    images = None
    if verify:
        images = find_images(source.folder, source.rebuilt, data=data, limit=limit, download=download, run=run_function)
        if images.remark:
            say(f"Verifying on {images.description}: {images.remark}")
    if path.exists() and path.samefile(weights):  # exported already: it is what the network was read from
        dynamic, checked = True, _checked(path, path, format, source, images, True)
    else:
        dynamic, checked = _write(path, format, source, images)
    if policy is not None and policy != source.folder.policy_path:
        source.rebuilt.policy.save(policy)
    found: dict[str, Any] = {
        "path": str(path),
        "format": format,
        "dynamic_batch": dynamic,
        "size_bytes": path.stat().st_size,
        "sha256": file_digest(path),
    }
    verification = None
    if checked is not None:
        compared = against_dense(
            path, format, source, dynamic=dynamic, time=time, threads=threads, budget_s=budget_s, say=say
        )
        verification = {**checked, **compared}
    record = {
        **{key: value for key, value in found.items() if key != "path"},
        "network": source.fingerprint,
        "run": os.path.relpath(folder.resolve(), path.parent.resolve()),
        "finetuned": finetuned,
        "input_shape": list(source.rebuilt.loaded.input_shape),
        "torch": torch.__version__,
        "verification": verification,
    }
    write_record(path, record)
    return {**found, "verification": verification}


def _write(path: Path, format: str, source: Source, images: Images | None) -> tuple[bool, dict[str, Any] | None]:
    """Write the file under a temporary name, check it, and put it in its place."""
    outcome: list[tuple[bool, dict[str, Any] | None]] = []

    def write(temporary: Path) -> None:
        rebuilt = source.rebuilt
        dynamic = export_model(rebuilt.model, rebuilt.example_input, temporary, format=format)
        outcome.append((dynamic, _checked(temporary, path, format, source, images, dynamic)))
        record_path(path).unlink(missing_ok=True)  # of another file, in a moment

    write_atomic(path, write)
    return outcome[0]


def _policy_path(path: Path, source: Source) -> Path:
    """Return where the policy of a safetensors file goes.

    Raises:
        UsageError: if something else is there that must not be overwritten.
    """
    policy = policy_beside(path)
    if not policy.exists() or policy.samefile(source.folder.policy_path):
        return source.folder.policy_path if policy.exists() else policy
    try:
        same = Policy.load(policy) == source.rebuilt.policy
        ours = policy.name != "policy.json"
    except UsageError:
        same = ours = False
    if not (same or ours):
        raise UsageError(f"'{policy}' is in the way of the policy that goes beside '{path}'; choose another --out.")
    return policy


def _checked(
    file: Path, path: Path, format: str, source: Source, images: Images | None, dynamic: bool
) -> dict[str, Any] | None:
    if images is None:
        return None
    try:
        return check_file(file, format, source, images, dynamic=dynamic, policy=source.folder.policy_path)
    except UsageError:
        raise
    except AutopruneError as error:
        raise AutopruneError(
            f"The export to '{path}' failed its verification: {error}; nothing was written (--no-verify writes it all the same)."
        ) from error
