"""Measured time of dense and pruned networks, called in turn in one process."""

from autoprune.timing._machine import cpu_name
from autoprune.timing._measure import Measured, Timing, measure
from autoprune.timing._networks import TARGETS, rows_of, time_networks
from autoprune.timing._run import FILE, read_timing, time_run
from autoprune.timing._table import timing_table

__all__ = [
    "FILE",
    "TARGETS",
    "Measured",
    "Timing",
    "cpu_name",
    "measure",
    "read_timing",
    "rows_of",
    "time_networks",
    "time_run",
    "timing_table",
]
