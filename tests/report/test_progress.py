"""The progress of a search: how much is left, who sees it, and that a pipe stays as it was."""

from __future__ import annotations

import io
import os
import pty
import subprocess
import sys
from contextlib import suppress
from threading import Thread

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from autoprune import search
from autoprune.report import Progress, progress_of
from autoprune.report._workload import Workload


@given(
    policies=st.integers(1, 20),
    cost=st.floats(0.1, 10),
    steps=st.lists(st.floats(0.1, 30), max_size=5),
    pace=st.floats(0.01, 10),
)
def test_time_left_is_exact_where_all_is_as_planned(
    policies: int, cost: float, steps: list[float], pace: float
) -> None:
    work, whole = Workload(), policies * cost + sum(steps)
    work.plan(policies, sum(steps))
    assert work.seconds_left(1.0) is None
    for scored in range(1, policies + 1):
        work.score(cost)
        assert work.done == pytest.approx(scored * cost)
        assert work.seconds_left(pace * work.done) == pytest.approx(pace * (whole - work.done), abs=1e-6)
    for number, step in enumerate(steps):
        work.step(step)
        assert work.done == pytest.approx(policies * cost + sum(steps[:number]))  # one that runs is not done
        assert work.left == pytest.approx(whole - work.done, abs=1e-6)


def test_a_search_that_ends_early_has_only_its_finish_left() -> None:
    work = Workload()
    work.plan(100, 25.0)
    work.step(1.0)
    work.score(2.0)
    assert (work.done, work.left) == (3.0, 99 * 2.0 + 24.0)
    work.plan(0, 24.0)
    assert work.left == 24.0
    work.step(12.0)
    work.step(12.0)
    assert (work.done, work.left) == (15.0, 12.0)
    work.step(12.0)  # one more than planned
    assert (work.done, work.left) == (27.0, 12.0)


def test_steps_are_told_as_stages_to_who_knows_no_steps() -> None:
    class Stages(Progress):
        def __init__(self) -> None:
            self.said: list[str] = []

        def stage(self, text: str) -> None:
            self.said.append(text)

    told = Stages()
    with progress_of(told) as events:
        assert events is told
        events.plan(3, 1.0)
        events.step("Probing", 1.0)
    assert told.said == ["Probing"]


@pytest.mark.parametrize("asked", [None, False])
def test_a_pipe_gets_nothing(asked: bool | None, monkeypatch: pytest.MonkeyPatch) -> None:
    pipe = io.StringIO()
    monkeypatch.setattr(sys, "stderr", pipe)
    with progress_of(asked) as events:
        events.stage("Tracing")
        events.begin(3, 0)
        events.plan(3, 1.0)
        events.step("Probing", 1.0)
    assert pipe.getvalue() == ""


CODE = """
import torch
from torch import nn
from autoprune import search
torch.manual_seed(0)
net = nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Conv2d(4, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(64, 2)).eval()
images = torch.randn(24, 1, 8, 8)
search(net, images[:2], calibration=images, evaluate=images, agent="auto", episodes=2, finish_steps=0)
print("done")
"""


def test_python_shows_a_bar_on_a_terminal() -> None:
    ours, theirs = pty.openpty()
    drawn = bytearray()

    def read() -> None:
        with suppress(OSError):  # the end of a terminal
            while some := os.read(ours, 4096):
                drawn.extend(some)

    reader = Thread(target=read)
    reader.start()
    done = subprocess.run(
        [sys.executable, "-c", CODE],
        stdout=subprocess.PIPE,
        stderr=theirs,
        text=True,
        check=True,
        env=os.environ | {"COLUMNS": "150", "TERM": "xterm"},
    )
    os.close(theirs)
    reader.join()
    os.close(ours)
    assert done.stdout == "done\n"
    assert "left" in drawn.decode()


def test_a_search_says_what_it_does_beside_the_scores() -> None:
    class Steps(Progress):
        def __init__(self) -> None:
            self.steps: list[tuple[str, float]] = []

        def step(self, text: str, passes: float) -> None:
            self.steps.append((text, passes))

    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Conv2d(4, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(64, 2))
    images = torch.randn(24, 1, 8, 8)
    told = Steps()
    search(
        *(net.eval(), images[:2]),
        calibration=images,
        evaluate=images,
        agent="auto",
        episodes=2,
        finish_steps=0,
        progress=told,
    )
    assert [text.split(":")[0] for text, _ in told.steps][:2] == [
        "Probing how much each group matters",
        "Final reconstruction 1",
    ]
    assert all(passes > 0 for _, passes in told.steps)
