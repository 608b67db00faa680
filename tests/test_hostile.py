"""Hostile files of every kind: one sentence, and nothing is written elsewhere, nothing runs, nothing hangs."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from autoprune.runs import RunConfig

from . import _hostile
from ._sample import pick


def wrong(found: dict[str, Any]) -> list[str]:
    """Return what is not as it should be about how a case ended."""
    rules = {
        "it ended otherwise than with an error, or not in time": found["code"] in (1, 2),
        "it wrote a traceback": not found["traceback"],
        "its last line is no error's": found["said"].startswith("Error: ") and "Unexpected" not in found["said"],
        f"it wrote elsewhere or started something: {found['elsewhere']}": not found["elsewhere"],
        "a file outside was changed or made": found["victim"],
        "a stranger's code ran": not found["ran"],
        f"it changed files that were there: {found['changed']}": not found["changed"],
    }
    return [name for name, kept in rules.items() if not kept]


def test_nothing_happens_but_a_sentence(tmp_path: Path) -> None:
    names = pick(list(_hostile.CASES), 4)
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-m", f"{__package__}._hostile", str(tmp_path), *names],
        cwd=Path(__file__).parent.parent,
        env={**os.environ, "OMP_NUM_THREADS": "1"},  # forks of a process with threads may wait for them
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    found = json.loads(done.stdout)
    assert list(found) == names
    for name, ended in found.items():
        sys.stdout.write(f"{name:45} {ended['seconds']:5.1f} s  {ended['said']}\n")
    assert not {name: (wrong(ended), ended) for name, ended in found.items() if wrong(ended)}


def test_the_table_has_every_key_of_a_configuration_that_names_code() -> None:
    named = {"model", "data", "reward", "agent", "select", "transform", "budget"}
    assert named <= set(RunConfig.__dataclass_fields__)


def test_the_watch_sees_what_it_should(tmp_path: Path) -> None:
    """The table is worth nothing if a case that does harm would pass."""
    code = f"""
import os, subprocess, sys
from pathlib import Path
from tests._hostile import watch
box = Path({str(tmp_path / "box")!r})
box.mkdir()
seen = watch(box)
os.chdir(box)
Path("inside").write_text("x")
assert not seen(), seen()
for harm in (
    lambda: Path("../outside").write_text("x"),
    lambda: os.rename("inside", "../moved"),
    lambda: os.mkdir("../folder"),
    lambda: os.remove("../outside"),
    lambda: subprocess.run(["true"]),
):
    count = len(seen())
    harm()
    assert len(seen()) > count
"""
    subprocess.run([sys.executable, "-W", "ignore", "-c", code], cwd=Path(__file__).parent.parent, check=True)
