"""How much accuracy one group costs: one coupling group at a time at a few keep ratios, all others whole.

Kept in ``RUN/sensitivity.json``, written after every score, so that it goes on where it was stopped.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from autoprune.errors import UsageError
from autoprune.evaluation import Score
from autoprune.problem import Problem
from autoprune.registry import only_named_by
from autoprune.runs import Episode, RunConfig, RunFolder
from autoprune.searching import inputs_of, problem_of
from autoprune.support.reading import reading
from autoprune.support.strict_json import read_json, write_json_atomic

SENSITIVITY_VERSION = 1
FILE = "sensitivity.json"
RATIOS = (0.25, 0.5, 0.75)


@dataclass(frozen=True)
class Probe:
    """One score.

    Attributes:
        group: The only group that is not whole.
        size: Its channels in the dense network.
        kept: How many stay.
        accuracy: Top-1 accuracy in [0, 1] on the search part.
        loss: Mean loss there, in nats; None if it was not finite.
    """

    group: str
    size: int
    kept: int
    accuracy: float
    loss: float | None


def read_probes(path: Path) -> list[Probe]:
    """Return what is in a ``sensitivity.json``; nothing if there is none.

    Raises:
        UsageError: if it is damaged.
    """
    return _read(path)[0]


def _read(path: Path) -> tuple[list[Probe], bool]:
    """Return the probes, and whether nothing is left to measure."""
    if not path.is_file():
        return [], False
    content = read_json(path, "sensitivity file")
    with reading(f"The sensitivity file '{path}'", "remove it and measure again"):
        complete = content["complete"] is True
        if content["version"] != SENSITIVITY_VERSION:
            raise ValueError(f"version {content['version']!r:.40} is not {SENSITIVITY_VERSION}")
        probes = [Probe(**entry) for entry in content["probes"]]
        for probe in probes:
            if not (0 < probe.kept <= probe.size and math.isfinite(probe.accuracy)):
                raise ValueError(f"impossible entry for '{probe.group}'")
    return probes, complete


def _probe(group: str, size: int, kept: int, score: Score) -> Probe:
    return Probe(group, size, kept, score.accuracy, score.loss if math.isfinite(score.loss) else None)


def probes_among(episodes: Sequence[Episode], sizes: Mapping[str, int]) -> list[Probe]:
    """Return those of a run's policies that leave all groups whole but one (the agent ``sensitivity`` proposes such)."""
    found: dict[tuple[str, int], Probe] = {}
    for episode in episodes:
        smaller = [name for name, count in episode.counts.items() if count < sizes.get(name, count)]
        if len(smaller) == 1 and len(sizes) > 1:
            name = smaller[0]
            probe = _probe(name, sizes[name], episode.counts[name], episode.score)
            found.setdefault((name, probe.kept), probe)
    return list(found.values())


@only_named_by()
def measure(folder: RunFolder, *, download: bool = False, say: Callable[[str], None] | None = None) -> list[Probe]:
    """Score every group of a run at each of ``RATIOS``, all others whole, and keep it in the folder.

    Args:
        folder: A run whose model and data can be loaded by name.
        download: Whether the data may be downloaded.
        say: Told what is done.

    Raises:
        UsageError: if the run's model or data were passed from Python, have changed, or a file is damaged.
    """
    config = folder.read_config()
    path = folder.path / FILE
    if config.data == "python":
        raise UsageError(
            f"The run in '{folder.path}' was made from Python, so its data cannot be loaded by name; "
            "search with --agent sensitivity there to see sensitivity curves."
        )
    with folder.lock():
        probes, complete = _read(path)
        if complete:
            return probes
        known = {(probe.group, probe.kept): probe for probe in probes}
        problem = _problem(folder, config, download=download, say=say)
        return measure_problem(problem, path, known, say=say)


def measure_problem(
    problem: Problem,
    path: Path,
    known: Mapping[tuple[str, int], Probe],
    *,
    say: Callable[[str], None] | None = None,
) -> list[Probe]:
    """Score what of a problem's probes is not known, writing the file after each.

    Args:
        problem: The problem.
        path: The file.
        known: What was scored before, by (group, kept).
        say: Told what is done.
    """
    wanted = plan([(group.name, group.size) for group in problem.decisions], problem.levels)
    found = {key: known[key] for key in wanted if key in known}
    whole = [group.size for group in problem.decisions]
    place = {group.name: number for number, group in enumerate(problem.decisions)}
    missing = [key for key in wanted if key not in found]
    for number, (name, kept) in enumerate(missing, start=1):
        if say is not None:
            say(f"Sensitivity, {number} of {len(missing)}: {name} with {kept} of {whole[place[name]]} channels")
        counts = list(whole)
        counts[place[name]] = kept
        found[name, kept] = _probe(name, whole[place[name]], kept, problem.score(counts))
        ordered = [found[key] for key in wanted if key in found]
        content = {"version": SENSITIVITY_VERSION, "complete": number == len(missing)}
        write_json_atomic(path, {**content, "probes": [asdict(probe) for probe in ordered]})
    return [found[key] for key in wanted]


def plan(groups: Sequence[tuple[str, int]], levels: Sequence[Sequence[int]]) -> list[tuple[str, int]]:
    """Return (group, channels kept) for each of ``RATIOS``, at the nearest count that the group may have.

    Args:
        groups: Name and size of every group.
        levels: The counts that each may have.
    """
    wanted = []
    for (name, size), allowed in zip(groups, levels, strict=True):
        for ratio in RATIOS:
            kept = min(allowed, key=lambda count: (abs(count - ratio * size), count))
            if kept < size:
                wanted.append((name, int(kept)))
    return list(dict.fromkeys(wanted))


def _problem(folder: RunFolder, config: RunConfig, *, download: bool, say: Callable[[str], None] | None) -> Problem:
    inputs = inputs_of(config, download=download, say=say)
    values: dict[str, Any] = {key: inputs.recorded[key] for key in ("model_fingerprint", "data_fingerprint")}
    for key, value in values.items():
        if value != getattr(config, key):
            what = "model" if key == "model_fingerprint" else "data"
            raise UsageError(
                f"The {what} of the run in '{folder.path}' changed since it was made; restore it to measure sensitivity."
            )
    return problem_of(config, inputs, profile=folder.profile_path, say=say)
