"""Ctrl-C and SIGTERM at random moments of a search: what is there can be exported, and the same command goes on."""

from __future__ import annotations

import json
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from autoprune.cli import main
from autoprune.runs import RunFolder
from autoprune.support.strict_json import read_json
from autoprune.support.tensors import load_safetensors
from autoprune.surgery import Policy

from .._sample import pick

EPISODES = 40
MOMENTS = [(name, moment) for moment in range(10) for name in ("SIGINT", "SIGTERM")]
OPTIONS = ("--budget", "0.5", "--agent", "tpe", "--episodes", str(EPISODES), "--finish-steps", "2")


def started(out: Path) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "autoprune", "search", *OPTIONS, "--out", str(out)]
    return subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # a shell's background jobs ignore it
    )


@pytest.mark.parametrize(("name", "moment"), pick(MOMENTS, 2))
def test_stopped_at_any_moment_there_is_a_network_or_a_run_that_goes_on(name: str, moment: int, tmp_path: Path) -> None:
    draw = random.Random(f"{name} {moment}")
    lines, later = draw.randrange(EPISODES + 3), draw.random() / 2
    out = tmp_path / "run"
    folder = RunFolder(out)
    with started(out) as process:
        while not folder.exists or (folder.episodes_path.is_file() is False and lines):
            assert process.poll() is None, process.communicate()[1]
            time.sleep(0.01)
        while process.poll() is None and lines and folder.episodes_path.read_bytes().count(b"\n") < lines:
            time.sleep(0.01)
        time.sleep(later)
        process.send_signal(getattr(signal, name))
        _, said = process.communicate(timeout=120)
    assert "Traceback" not in said
    scored = folder.read_episodes()
    if folder.finished:  # Ctrl-C after a policy, or too late
        assert process.returncode == 0
        report = read_json(folder.report_path)
        assert report["stopped"] is None or report["stopped"]["why"] == "interrupted"
        assert (report["stopped"] is not None) == ("Ending with the best so far" in said) or len(scored) == EPISODES + 3
    else:
        assert process.returncode == (130 if name == "SIGINT" else 143)
        assert "nothing was kept" in said or f"autoprune search --out {out}" in said
    if scored:
        file = tmp_path / "net.safetensors"
        assert main(["export", str(out), "--format", "safetensors", "--out", str(file), "--no-verify"]) == 0
        counts = Policy.load(file.with_suffix(".json")).counts()
        assert list(counts) in [list(episode.counts.values()) for episode in scored]
        assert len(load_safetensors(file)["blocks.0.conv1.weight"]) == counts[0]
    assert main(["search", *OPTIONS, "--out", str(out), "--quiet"]) == 0
    ended = folder.read_episodes()
    assert [json.dumps(e.counts) for e in ended[: len(scored)]] == [json.dumps(e.counts) for e in scored]
    assert read_json(folder.report_path)["stopped"] is None
    assert not folder.best_path.exists()
