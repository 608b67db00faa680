"""The run folder on disk, its configuration, and what is made again from it."""

from autoprune.runs._config import DEFAULT_EPISODES, PRESETS, RunConfig
from autoprune.runs._inputs import (
    Inputs,
    check_device,
    check_output,
    check_run,
    classes_of,
    load_inputs,
    load_parts,
    prepared_as,
)
from autoprune.runs._lock import Lock
from autoprune.runs._rebuild import (
    Rebuilt,
    finished_policy,
    graph_of,
    load_dense,
    part_of,
    rebuild,
    rebuild_run,
    weights_beside,
)
from autoprune.runs._run import Episode, RunFolder, distinct

__all__ = [
    "DEFAULT_EPISODES",
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
    "finished_policy",
    "graph_of",
    "load_dense",
    "load_inputs",
    "load_parts",
    "part_of",
    "prepared_as",
    "rebuild",
    "rebuild_run",
    "weights_beside",
]
