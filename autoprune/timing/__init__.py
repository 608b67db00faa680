"""Measured time of dense and pruned networks, called in turn in one process."""

from autoprune.timing._allocator import can_keep_memory
from autoprune.timing._machine import busy_note, cpu_name, load_average, measuring, package_version
from autoprune.timing._measure import Measured, Timing, measure
from autoprune.timing._networks import (
    TARGETS,
    TIMING_VERSION,
    batch_of,
    compile_runner,
    eager_runner,
    onnx_runner,
    rows_of,
    time_networks,
)
from autoprune.timing._table import timing_table

__all__ = [
    "TARGETS",
    "TIMING_VERSION",
    "Measured",
    "Timing",
    "batch_of",
    "busy_note",
    "can_keep_memory",
    "compile_runner",
    "cpu_name",
    "eager_runner",
    "load_average",
    "measure",
    "measuring",
    "onnx_runner",
    "package_version",
    "rows_of",
    "time_networks",
    "timing_table",
]
