"""A run folder that others move, link or leave things in, and a lock that outlives nobody."""

from __future__ import annotations

import errno
import os
import signal
import stat
import subprocess
import sys
import time
import warnings
from pathlib import Path
from typing import Any

import pytest
import torch

from autoprune.errors import AutopruneError, UsageError
from autoprune.runs import Episode, Lock, RunFolder
from autoprune.support.jsonl import append_jsonl, repair_jsonl
from autoprune.support.strict_json import write_json_atomic
from autoprune.support.tensors import save_safetensors_atomic

from .._driven import run


@pytest.mark.parametrize(
    "name",
    [".lock", "config.json", "episodes.jsonl", "policy.json", "model.safetensors", "report.json", "profile.jsonl"],
)
def test_nothing_is_written_through_a_link_in_place_of_a_file(tmp_path: Path, name: str) -> None:
    victim = tmp_path / "victim"
    victim.write_text("precious", encoding="utf-8")
    path = tmp_path / "run"
    run("uniform", path)
    (path / "report.json").unlink()  # to be continued
    (path / name).unlink(missing_ok=True)
    (path / name).symlink_to(victim)
    with pytest.raises(AutopruneError, match=r"symbolic link|is damaged|cannot be read|not valid"):
        run("uniform", path)
    assert victim.read_text(encoding="utf-8") == "precious"
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["run", "victim"]


@pytest.mark.parametrize("name", ["rows", "agents", "finished", "front"])
def test_nothing_is_written_through_a_link_in_place_of_a_folder(tmp_path: Path, name: str) -> None:
    elsewhere, path = tmp_path / "elsewhere", tmp_path / "run"
    elsewhere.mkdir()
    path.mkdir()
    (path / ".lock").touch()
    (path / name).symlink_to(elsewhere, target_is_directory=True)
    with pytest.raises(UsageError, match=r"symbolic link|not a run's"):
        run("uniform", path)
    assert not list(elsewhere.iterdir())


@pytest.mark.parametrize("dangling", [False, True])
def test_appending_cutting_and_locking_refuse_links(tmp_path: Path, dangling: bool) -> None:
    victim, link = tmp_path / "victim", tmp_path / "link"
    if not dangling:
        victim.write_bytes(b'{"torn')
    link.symlink_to(victim)
    with pytest.raises(AutopruneError, match=r"is a symbolic link, and nothing is written through one"):
        append_jsonl(link, {"a": 1})
    if not dangling:
        with pytest.raises(AutopruneError, match="symbolic link"):
            repair_jsonl(link)
    with pytest.raises(AutopruneError, match="symbolic link"), Lock(link):
        pass
    write_json_atomic(link, {"a": 1})  # puts a file in the place of the link
    assert not link.is_symlink()
    assert victim.exists() != dangling
    assert dangling or victim.read_bytes() == b'{"torn'


@pytest.mark.parametrize("what", ["moved", "deleted", "replaced"])
@pytest.mark.parametrize("after", [0, 3, 6])
def test_a_folder_that_is_moved_away_is_not_made_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, what: str, after: int
) -> None:
    path, away = tmp_path / "run", tmp_path / "away"
    append, lines = RunFolder.append, 0

    def moving(self: RunFolder, episode: Episode) -> None:
        nonlocal lines
        append(self, episode)
        if lines == after:
            self.path.rename(away)
            if what == "replaced":
                path.mkdir()
                (path / ".lock").touch()
        lines += 1

    with monkeypatch.context() as patch:
        patch.setattr(RunFolder, "append", moving)
        with pytest.raises(AutopruneError, match="was moved away or deleted while the search ran"):
            run("random", path)
    assert sorted(entry.name for entry in path.iterdir()) == [".lock"] if what == "replaced" else not path.exists()
    if what == "moved":  # it goes on where it is
        assert len(RunFolder(away).read_episodes()) == after + 1
        assert run("random", away)["policies_scored"] == 5


def test_temporary_files_of_killed_processes_go_and_others_stay(tmp_path: Path) -> None:
    run("uniform", tmp_path)
    (tmp_path / "report.json").unlink()
    ours = [".policy.json.0123abcd.tmp", "rows/.uniform.json.01234567.tmp", "agents/a/.x.safetensors.89abcdef.tmp",
            ".write-test.00000000.tmp", "finished/.x.safetensors.89abcdef.tmp"]  # fmt: skip
    others = [".report.html.0123abcd.tmp", "notes.tmp", ".policy.json.tmp"]
    for name in (*ours, *others):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    run("uniform", tmp_path)
    assert not any((tmp_path / name).exists() for name in ours)
    assert all((tmp_path / name).exists() for name in others)


def test_folders_are_synced_into_their_parents(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In order: what is in a folder after its files, a new folder in the one above it."""
    sync = os.fsync
    synced: list[Path] = []

    def recording(handle: int) -> None:
        sync(handle)
        if stat.S_ISDIR(os.fstat(handle).st_mode):
            here = os.fstat(handle).st_ino
            known = [tmp_path, *(path for path in tmp_path.rglob("*") if path.is_dir())]
            synced.append(next(path for path in known if path.stat().st_ino == here))
            if synced[-1] == tmp_path / "a" / "b":
                assert (tmp_path / "a" / "b" / name).exists()  # the rename, or the first line, came before

    monkeypatch.setattr(os, "fsync", recording)
    for name, write in (
        ("x.json", lambda path: write_json_atomic(path, {})),
        ("x.safetensors", lambda path: save_safetensors_atomic(path, {"a": torch.zeros(1)})),
        ("x.jsonl", lambda path: append_jsonl(path, {})),
    ):
        synced.clear()
        write(tmp_path / "a" / "b" / name)
        expected = [tmp_path / "a" / "b"]
        assert synced == ([tmp_path, tmp_path / "a", *expected] if name == "x.json" else expected)


def test_a_full_or_unwritable_disk_is_one_sentence_for_the_lock(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(AutopruneError, match=r"Cannot lock the run folder .*: (Not a directory|File exists)\. Choose"):
        Lock(tmp_path / "file" / ".lock").__enter__()

    def full(handle: int, data: Any) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "write", full)
        with pytest.raises(AutopruneError, match=r"Cannot lock the run folder .*: No space left on device"):
            Lock(tmp_path / ".lock").__enter__()
    with Lock(tmp_path / ".lock"):  # which the failure did not keep
        pass


@pytest.mark.skipif(sys.platform == "win32", reason="flock")
@pytest.mark.parametrize("code", [errno.ENOSYS, errno.ENOLCK])
def test_a_file_system_that_cannot_lock_is_not_another_process(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    """As some network file systems: `flock` itself fails."""

    def flock(*_: Any) -> None:
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr("fcntl.flock", flock)
    with pytest.raises(AutopruneError, match=rf"Cannot lock the run folder .*: {os.strerror(code)}"):
        Lock(tmp_path / ".lock").__enter__()


HOLDER = """
import sys, time
from pathlib import Path
from autoprune.runs import Lock
from autoprune.workers import Workers
def score(counts):
    print(counts, flush=True)
    time.sleep(600)
with Lock(Path(sys.argv[1])), Workers(score, 2) as workers:
    for number in (1, 2):
        workers.submit((number,))
    workers.wait()
"""


def test_lock_and_workers_end_with_a_process_that_is_killed(tmp_path: Path) -> None:
    """In the middle of scores; the workers' ends close the pipe that they print to."""
    lock = tmp_path / ".lock"
    command = [sys.executable, "-c", HOLDER, str(lock)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as owner:
        assert owner.stdout is not None
        assert sorted(owner.stdout.readline() for _ in range(2)) == ["(1,)\n", "(2,)\n"]
        owner.send_signal(signal.SIGKILL)
        owner.wait()
        with Lock(lock):  # at once
            pass
        assert owner.stdout.read() == ""  # returns once no process holds the pipe


SEARCHING = """
import os, sys, time
from autoprune.cli import main
from autoprune import problem
what, *arguments = sys.argv[1:]
plain = getattr(problem.Problem, what)
def slow(self, *given):
    os.write(1, b"here" + bytes([10]))
    time.sleep(0.05)
    return plain(self, *given)
setattr(problem.Problem, what, slow)
sys.exit(main(arguments))
"""


def test_sigterm_ends_other_verbs_with_the_same_code() -> None:
    code = """
import atexit, sys, time
from autoprune.evaluation import _evaluate as evaluate
from autoprune.cli import run
def slow(self, model):
    print("here", flush=True)
    time.sleep(600)
evaluate.Evaluator.__call__ = slow
atexit.register(time.sleep, 600)  # what takes the interpreter down may take long
sys.argv = ["autoprune", "eval"]
run()
"""
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        assert process.stdout.readline() == b"here\n"
        process.terminate()
        assert process.stderr.read().split() == [b"Error:", b"Terminated."]
        assert process.wait() == 143


@pytest.mark.parametrize(("what", "workers"), [("score", "1"), ("score", "2"), ("finish", "1")])
def test_sigterm_ends_a_search_cleanly(tmp_path: Path, what: str, workers: str) -> None:
    path = tmp_path / "run"
    search = ["search", "--budget", "0.5", "--agent", "random", "--episodes", "6", "--finish-steps", "0", "--quiet"]
    search += ["--workers", workers, "--out", str(path)]
    command = [sys.executable, "-c", SEARCHING, what, *search]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        for _ in range(2):
            assert process.stdout.readline() == "here\n"
        process.terminate()
        said = process.stderr.read()  # ends when no worker holds it either
        assert process.wait() == 143
    assert f"Terminated; continue with: autoprune search --out {path}" in said
    assert "Traceback" not in said
    with RunFolder(path).lock():
        assert not list(path.rglob("*.tmp"))


def test_a_process_that_computes_on_is_ended_by_sigterm_too() -> None:
    """Python's handlers do not run while one call computes, here for many seconds."""
    code = """
import time, torch
from autoprune.cli import _signals
_signals.PATIENCE_S = 0.2
with _signals.ends_on_sigterm():
    try:
        print("here", flush=True)
        torch.linalg.svd(torch.randn(4000, 4000))
    finally:
        time.sleep(600)
"""
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "here\n"
        process.terminate()
        assert process.wait() == 143


def test_a_fork_has_the_usual_sigterm() -> None:
    from autoprune.cli._signals import ends_on_sigterm

    with ends_on_sigterm():
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # of threads, of which the child uses none
            child = os.fork()
        if child == 0:
            time.sleep(60)
            os._exit(0)
        time.sleep(0.05)
        os.kill(child, signal.SIGTERM)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGTERM
