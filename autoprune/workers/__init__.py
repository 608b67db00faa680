"""Processes that score policies at the same time."""

from autoprune.workers._workers import Workers, check_workers

__all__ = [
    "Workers",
    "check_workers",
]
