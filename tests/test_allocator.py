from __future__ import annotations

import os
import subprocess
import sys

import pytest

from autoprune.allocator import keep_freed_memory

FAULTS = """
import resource, sys, torch
from autoprune.allocator import keep_freed_memory
kept = keep_freed_memory() if sys.argv[1] == "keep" else False
torch.ones(1 << 24)
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(20):
    torch.ones(1 << 24)
print(kept, resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def faults(mode: str, **settings: str) -> tuple[bool, int]:
    """Return whether freed memory was kept, and how many pages 20 tensors of 64 MiB, one after the other, had to be given."""
    environment = {key: value for key, value in os.environ.items() if not key.startswith("MALLOC_")} | settings
    command = [sys.executable, "-c", FAULTS, mode]
    kept, number = subprocess.run(command, env=environment, check=True, capture_output=True, text=True).stdout.split()
    return kept == "True", int(number)


@pytest.mark.skipif(not keep_freed_memory(), reason="not glibc, or with settings of its allocator")
def test_the_next_tensor_finds_the_memory_of_the_one_before() -> None:
    kept, few = faults("keep")
    _, many = faults("leave")
    assert kept
    assert many >= 20
    assert few < many / 4


def test_settings_of_the_users_are_left_alone() -> None:
    assert faults("keep", MALLOC_MMAP_MAX_="65536")[0] is False
