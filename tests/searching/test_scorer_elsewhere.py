"""A scorer is made again in another process from the run folder and its specification, and scores the same."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

from autoprune.cli import main
from autoprune.runs import RunFolder

ELSEWHERE = """
import json, sys
from pathlib import Path
from autoprune.runs import RunFolder
from autoprune.searching import inputs_of, problem_of
config = RunFolder(Path(sys.argv[1])).read_config()
problem = problem_of(config, inputs_of(config))
for counts in json.loads(sys.argv[2]):
    score = problem.score(counts)
    print(json.dumps([score.accuracy, score.loss, score.reward, score.macs, score.params]))
"""


def test_a_scorer_made_from_the_run_folder_in_another_process_scores_the_same(tmp_path: Path) -> None:
    run = tmp_path / "run"
    options = [
        "--budget",
        "0.5",
        "--agent",
        "random",
        "--episodes",
        "2",
        "--baselines",
        "uniform",
        "--finish-steps",
        "0",
    ]
    assert main(["search", *options, "--out", str(run), "--quiet"]) == 0
    episodes = RunFolder(run).read_episodes()
    counts = [list(episode.counts.values()) for episode in episodes]
    command = [sys.executable, "-c", ELSEWHERE, str(run), json.dumps(counts)]
    lines = subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()
    scores = [episode.score for episode in episodes]
    expected = [[score.accuracy, score.loss, score.reward, score.macs, score.params] for score in scores]
    assert [json.loads(line) for line in lines] == expected
