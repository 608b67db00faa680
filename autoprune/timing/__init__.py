"""Measured time of dense and pruned networks, called in turn in one process."""

from autoprune.timing._machine import measuring
from autoprune.timing._measure import Measured, Timing, measure
from autoprune.timing._networks import TARGETS, eager_runner, onnx_runner, rows_of, time_networks
from autoprune.timing._run import FILE, read_timing, time_run
from autoprune.timing._table import timing_table

__all__ = [
    "FILE",
    "TARGETS",
    "Measured",
    "Timing",
    "eager_runner",
    "measure",
    "measuring",
    "onnx_runner",
    "read_timing",
    "rows_of",
    "time_networks",
    "time_run",
    "timing_table",
]
