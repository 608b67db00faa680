"""Measured times of the networks of a run, kept in ``RUN/timing.json``."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from torch import nn

from autoprune.agents import RULES
from autoprune.decisions import applied, decisions_of
from autoprune.errors import UsageError
from autoprune.registry import only_named_by
from autoprune.runs import RunFolder, example_of, graph_of, load_dense
from autoprune.support.strict_json import read_json, write_json_atomic
from autoprune.surgery import Policy
from autoprune.timing import TARGETS, TIMING_VERSION, time_networks

FILE = "timing.json"
NO_FASTER = 0.97
"""Share of the dense network's time from which on a network is hardly faster."""
DISPATCHED_MS = 0.05
"""Milliseconds a module below which PyTorch spends more on calling kernels (some of 5 to 10 microseconds each) than in them."""
FAST_MULTIPLE = 8
"""Channels that vectorised kernels compute at a time: 8 float32 in AVX2, 8 float16 in tensor cores."""


@only_named_by("model")
def time_run(
    run: Path,
    *,
    model: str | None = None,
    batches: Sequence[int] = (1, 32),
    targets: Sequence[str] = TARGETS,
    threads: int | None = None,
    budget_s: float = 5.0,
    progress: Callable[[str], None] | None = None,
) -> dict[str, Any]:
    """Time a finished run's dense network, the simple rules' and the agent's, and write ``timing.json``.

    The networks are rebuilt from the number of channels that each keeps; which channels these are, and the weights, do not
    matter for the time. Fine-tuned networks are as fast as the agent's.

    Args:
        run: The run folder.
        model: Specification of the dense network, for one that was passed from Python.
        batches: See `autoprune.timing.time_networks`, as for the rest.
        targets: See there.
        threads: See there.
        budget_s: See there.
        progress: See there.

    Returns:
        What was written.

    Raises:
        UsageError: if there is no finished run, or its model cannot be made.
        AutopruneError: if the file cannot be written.
    """
    folder = RunFolder(run).require()
    networks, example = _networks(folder, model, (*RULES, folder.read_report()["agent"]))
    found = time_networks(
        networks,
        example,
        batches=batches,
        targets=targets,
        threads=threads,
        budget_s=budget_s,
        progress=progress,
    )
    write_json_atomic(folder.path / FILE, found)
    return found


@only_named_by("model")
def time_result(run: Path, *, model: str | None = None, budget_s: float = 1.5) -> str:
    """Return a sentence on how long a finished run's network takes beside the dense one, in PyTorch, one item at a time.

    Args:
        run: The run folder.
        model: Specification of the dense network, for one that was passed from Python.
        budget_s: About how long that may take.

    Raises:
        UsageError: if there is no finished run, or its model cannot be made.
        AutopruneError: if it cannot be timed.
    """
    networks, example = _networks(RunFolder(run).require(), model, ())
    found = time_networks(networks, example, batches=(1,), targets=("eager",), budget_s=budget_s)
    dense, small = found["rows"][0], found["rows"][-1]
    about, threads = "" if small["precise"] else "about ", int(found["threads"])
    said = (
        f"Measured in PyTorch on this machine, one item at a time, {threads} thread{'s' if threads > 1 else ''}: {about}"
        f"{small['ratio']:.2f} of the dense network's time ({dense['ms']:.3g} ms)."
    )
    if len(networks) > 1 and small["ratio"] > NO_FASTER:
        rows = {row["name"]: row["counts"] for row in RunFolder(run).read_report()["rows"]}
        modules = sum(not list(module.children()) for module in networks["dense"].modules())
        said += (
            f" It is hardly faster: {why_no_faster(dense['ms'] / max(1, modules), rows['dense'], rows[small['name']])}"
        )
    return said


def why_no_faster(module_ms: float, sizes: Mapping[str, int], counts: Mapping[str, int]) -> str:
    """Return why a pruned network is not faster, as far as its size and counts tell, and the option that changes it.

    Args:
        module_ms: Milliseconds that the dense network takes for each module without children, in the mean.
        sizes: Channels of every group.
        counts: How many of them stay.
    """
    if module_ms < DISPATCHED_MS:
        return (
            "layers as small as these take as long as calling them; in larger batches it may be (autoprune report), and "
            "--budget latency=0.8 searches for what is measured to be faster."
        )
    odd = sum(count < sizes[name] and count % FAST_MULTIPLE > 0 for name, count in counts.items())
    if odd:
        return (
            f"{odd} of {len(counts)} groups keep a number of channels that is no multiple of {FAST_MULTIPLE}, so kernels are "
            f"slow; --round-to {FAST_MULTIPLE} keeps multiples."
        )
    return "what it computes less hardly counts on this machine; --budget latency=0.8 searches for what is measured to be faster."


def _networks(folder: RunFolder, model: str | None, names: Collection[str]) -> tuple[dict[str, nn.Module], Any]:
    """Return the dense network, those of some rows and the run's result by name, and an example for them.

    The networks are rebuilt from the number of channels that each keeps.
    """
    report, policy = folder.read_report(), Policy.load(folder.policy_path)
    dense = load_dense(policy.model, model=model)
    example = example_of(policy, dense)
    if example is None:
        raise UsageError(
            f"The run in '{folder.path}' prunes a part, and its files do not tell what the whole network is called with, so that "
            "it cannot be timed; give --no-time."
        )
    graph = graph_of(policy, dense)
    decisions = decisions_of(policy, dense.model, graph)
    networks: dict[str, nn.Module] = {"dense": dense.model}
    for row in report["rows"]:
        if row["name"] in (*names, report["exported"]) and row["name"] != "dense":
            units = {name: np.arange(count, dtype=np.int64) for name, count in row["counts"].items()}  # the first ones
            networks[row["name"]] = applied(dense.model, graph, decisions, units)
    return networks, example


def read_timing(run: Path) -> dict[str, Any] | None:
    """Return what `time_run` wrote, None if there is nothing.

    Raises:
        UsageError: if it is damaged or of another version.
    """
    path = run / FILE
    if not path.is_file():
        return None
    values = read_json(path, "timing")
    version = values.get("version") if isinstance(values, dict) else None
    if version != TIMING_VERSION:
        raise UsageError(f"The timing '{path}' has version {version!r}, but this autoprune reads {TIMING_VERSION}.")
    return dict(values)
