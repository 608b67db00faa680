"""The run folder on disk, its configuration, and what is made again from it."""

from autoprune.runs._checks import check_device, check_output, check_run, classes_of
from autoprune.runs._best import lay_out_best, remove_best, write_best
from autoprune.runs._config import BASELINES, DEFAULT_EPISODES, PRESETS, RunConfig
from autoprune.runs._inputs import (
    Inputs,
    inputs_for,
    load_inputs,
    load_parts,
    nested_inputs,
    prepared_as,
)
from autoprune.runs._lock import Lock
from autoprune.runs._rebuild import (
    Rebuilt,
    example_of,
    finished_policy,
    graph_of,
    load_dense,
    part_of,
    rebuild,
    rebuild_run,
    weights_beside,
)
from autoprune.runs._run import Episode, RunFolder, distinct
from autoprune.runs._task import run_function, task_of

__all__ = [
    "DEFAULT_EPISODES",
    "BASELINES",
    "PRESETS",
    "Episode",
    "Inputs",
    "Lock",
    "Rebuilt",
    "RunConfig",
    "RunFolder",
    "check_device",
    "check_output",
    "check_run",
    "classes_of",
    "distinct",
    "example_of",
    "finished_policy",
    "graph_of",
    "inputs_for",
    "lay_out_best",
    "load_dense",
    "load_inputs",
    "load_parts",
    "nested_inputs",
    "part_of",
    "prepared_as",
    "rebuild",
    "rebuild_run",
    "run_function",
    "task_of",
    "remove_best",
    "weights_beside",
    "write_best",
]
