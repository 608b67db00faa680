"""A fine-tuning that SIGTERM ends, and every verb on a run folder that cannot be written."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from autoprune.cli import main
from autoprune.support.jsonl import read_jsonl
from autoprune.support.strict_json import read_json

from .._sample import pick

TUNING = """
import os, sys
from autoprune.cli import main
from autoprune.finetuning._trainer import Trainer
plain = Trainer._step
def told(self, *given):
    if self._history:
        os.write(1, b"here" + bytes([10]))
    return plain(self, *given)
Trainer._step = told
sys.exit(main(sys.argv[1:]))
"""
READ_ONLY = """
import errno, os, sys
from autoprune.cli import main
home = os.path.realpath(sys.argv[1]) + "/"
def refuse(event, given):
    flags = (given[2] or 0) if event == "open" else 0
    if flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND) or event in (
        "os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.truncate", "os.link", "os.symlink", "os.chmod"
    ):
        if not isinstance(given[0], int) and (os.path.realpath(os.fsdecode(given[0])) + "/").startswith(home):
            raise OSError(errno.EROFS, os.strerror(errno.EROFS), given[0])
sys.addaudithook(refuse)
sys.exit(main(sys.argv[2:]))
"""


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    run = tmp_path_factory.mktemp("runs") / "uniform"
    search = ["search", "--budget", "0.4", "--agent", "uniform", "--episodes", "1", "--finish-steps", "0", "--quiet"]
    assert main([*search, "--out", str(run)]) == 0
    return run


def test_sigterm_ends_a_fine_tuning_that_continues(made: Path, tmp_path: Path) -> None:
    run = shutil.copytree(made, tmp_path / "run")
    tune = ["finetune", str(run), "--epochs", "2", "--precision", "fp32", "--quiet"]
    command = [sys.executable, "-c", TUNING, *tune]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        assert process.stdout.readline() == "here\n"  # in the second epoch
        process.terminate()
        process.stdout.close()
        said = process.stderr.read()
        assert process.wait() == 143
    assert said == "Error: Terminated; the same command continues after the last whole epoch.\n"
    folder = run / "finetune" / "distilled"
    before = read_jsonl(folder / "history.jsonl")
    assert len(before) == 1
    assert not (folder / "result.json").exists()
    assert main(tune) == 0
    assert read_jsonl(folder / "history.jsonl")[:1] == before
    assert read_json(folder / "result.json")["epochs_done"] == 2
    assert not list(run.rglob("*.tmp"))


RUN, NEW = "RUN", "NEW"
VERBS: dict[str, tuple[list[str], int]] = {
    "a search that is done": (["search", "--out", RUN], 0),
    "a search that goes on": (["search", "--out", "UNFINISHED"], 2),
    "fine-tuning": (["finetune", RUN, "--epochs", "1"], 1),
    "a report": (["report", RUN], 1),
    "a report elsewhere": (["report", RUN, "--out", NEW], 0),
    "evaluation": (["eval", RUN], 0),
    "pruning into it": (["prune", "--policy", f"{RUN}/policy.json", "--out", f"{RUN}/small"], 1),
    "export": (["export", RUN, "--format", "safetensors"], 1),
    "export elsewhere": (["export", RUN, "--format", "safetensors", "--to", NEW], 0),
    "a comparison": (
        ["compare", "--agents", "uniform,shallow", "--seeds", "1", "--budget", "0.4", "--out", f"{RUN}/runs"],
        2,
    ),
    "a profile": (["profile", "--model", "digits", "--out", f"{RUN}/profile.jsonl"], 1),
}


@pytest.mark.parametrize("name", pick(list(VERBS), 1))
def test_a_run_that_cannot_be_written_is_read_or_said(made: Path, tmp_path: Path, name: str) -> None:
    run, new = shutil.copytree(made, tmp_path / "run"), tmp_path / "new.html"
    unfinished = shutil.copytree(made, tmp_path / "run" / "unfinished")
    for path in ("report.json", "policy.json", "model.safetensors"):
        (unfinished / path).unlink()
    before = {path: path.read_bytes() for path in run.rglob("*") if path.is_file()}
    verb, code = VERBS[name]
    places = {"UNFINISHED": str(unfinished), RUN: str(run), NEW: str(new)}
    for word, place in places.items():
        verb = [part.replace(word, place) if part.isupper() or part.startswith(word) else part for part in verb]
    command = [sys.executable, "-c", READ_ONLY, str(run), *verb]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == code, done.stderr
    assert {path: path.read_bytes() for path in run.rglob("*") if path.is_file()} == before
    if code == 0:
        assert new.exists() == (NEW in VERBS[name][0])
    else:
        last = done.stderr.splitlines()[-1]
        assert last.startswith("Error: "), done.stderr
        assert "Unexpected" not in last
        assert "Read-only file system" in last
        assert "Traceback" not in done.stderr
