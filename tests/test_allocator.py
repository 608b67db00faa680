from __future__ import annotations

import os
import subprocess
import sys

import pytest

from autoprune.allocator import can_keep_memory

FAULTS = """
import resource, torch
from autoprune.allocator import kept_memory

def faults():
    for _ in range(20):  # the heap grows at first: a freed block next to a small one is too short for the next, aligned one
        torch.ones(1 << 24)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(20):
        torch.ones(1 << 24)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

before = faults()
with kept_memory() as kept:
    within = faults()
print(int(kept), before, within, faults())
"""


def faults(**settings: str) -> tuple[bool, int, int, int]:
    """Return whether memory was kept, and how many pages 20 tensors of 64 MiB (after 20) needed before, meanwhile and after."""
    environment = {key: value for key, value in os.environ.items() if not key.startswith("MALLOC_")} | settings
    command = [sys.executable, "-c", FAULTS]
    said = subprocess.run(command, env=environment, check=True, capture_output=True, text=True).stdout.split()
    kept, before, within, after = map(int, said)
    return bool(kept), before, within, after


@pytest.mark.skipif(not can_keep_memory(), reason="not glibc, or with settings of its allocator")
def test_the_next_tensor_finds_the_memory_of_the_one_before_for_a_while() -> None:
    kept, before, within, after = faults()
    assert kept
    assert min(before, after) >= 20
    assert within < min(before, after) / 4


def test_settings_of_the_users_are_left_alone() -> None:
    assert faults(MALLOC_MMAP_MAX_="65536")[0] is False
