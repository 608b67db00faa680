"""What networks are judged by in a run, and the function of the user's that runs batches."""

from __future__ import annotations

from typing import Any, cast

from autoprune.errors import UsageError
from autoprune.evaluation import Run, Task
from autoprune.registry import import_object
from autoprune.runs._config import RunConfig


def run_function(named: Any) -> Run | None:
    """Return the function that runs a batch: what ``package.module:function`` or ``file.py:function`` names, or as it is.

    Raises:
        UsageError: if it cannot be imported or called, or is named by a file only.
    """
    found = import_object(named, "run function") if isinstance(named, str) else named
    if found is not None and not callable(found):
        raise UsageError(f"The run function {named!r} cannot be called; give a function run(model, batch).")
    return cast(Run | None, found)


def task_of(config: RunConfig | None, run: str | None = None) -> Task:
    """Return what networks are judged by in a run.

    Args:
        config: The run's configuration; None for a folder that has none, whose labels are seen from the data.
        run: Another function that runs a batch.

    Raises:
        UsageError: if the function cannot be imported, or is named by the run only, or was passed from Python.
    """
    if config is None:
        return Task(labels=None, run=run_function(run))
    named = run if run is not None else config.run
    if run is None and named is not None and ("<" in named or named.startswith("__main__:")):
        raise UsageError(
            f"The function that runs a batch was passed from Python ({named}) and cannot be found by name; give --run "
            "package.module:function or path/to/file.py:function."
        )
    return Task(config.labels, config.measure, config.divergence, run_function(named))
