from __future__ import annotations

import os
import subprocess
import sys

import pytest

from autoprune.timing import can_keep_memory

MEASURE = """
import resource, torch
from autoprune.timing._allocator import kept_memory

def pages():
    for _ in range(20):  # the heap grows at first: a freed block next to a small one is too short for the next, aligned one
        torch.ones(1 << 24)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(20):
        torch.ones(1 << 24)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

def resident():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * resource.getpagesize()

before = pages()
with kept_memory() as kept:
    within = pages()
    held = resident()
print(int(kept), before, within, held, resident())
"""


def measured(**settings: str) -> tuple[bool, int, int, int, int]:
    """Return whether memory was kept, how many pages 20 tensors of 64 MiB (after 20) needed before and meanwhile, and the
    bytes that the process held in the end and afterwards."""
    environment = {key: value for key, value in os.environ.items() if not key.startswith("MALLOC_")} | settings
    command = [sys.executable, "-c", MEASURE]
    said = subprocess.run(command, env=environment, check=True, capture_output=True, text=True).stdout.split()
    kept, before, within, held, after = map(int, said)
    return bool(kept), before, within, held, after


@pytest.mark.skipif(not can_keep_memory(), reason="not glibc, or with settings of its allocator")
def test_the_next_tensor_finds_the_memory_of_the_one_before_for_a_while() -> None:
    kept, before, within, held, after = measured()
    assert kept
    assert before >= 20
    assert within < before / 4
    assert held - after > 1 << 25  # a tensor of 64 MiB went back to the system


def test_settings_of_the_users_are_left_alone() -> None:
    assert measured(MALLOC_MMAP_MAX_="65536")[0] is False
