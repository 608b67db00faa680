from __future__ import annotations

import json
import math
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from autoprune.budget import Budget
from autoprune.errors import AutopruneError, UsageError
from autoprune.evaluation import Score
from autoprune.runs import Episode, RunConfig, RunFolder

CONFIG = RunConfig(
    model="digits",
    model_fingerprint="a" * 64,
    data="digits",
    data_fingerprint="b" * 64,
    budget=Budget(0.5),
    mean=(0.5,),
    std=(0.25,),
)


def episode(number: int, *, loss: float = 0.1, agent: str = "random") -> Episode:
    score = Score(accuracy=0.1 * number, loss=loss, macs=100 + number, params=7, reward=-0.3, seconds=1 / 3, cost=0.7)
    return Episode(agent, number, {"conv1": number + 1, "conv2": 4}, score, feasible=True, reused=False, elapsed_s=2.5)


def test_config_round_trips_json() -> None:
    config = replace(CONFIG, agent_options={"noise": 0.5}, episodes=7, weights="w.pth", include_residual=True)
    assert RunConfig.from_dict(json.loads(json.dumps(config.to_dict()))) == config


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"episodez": 3}, "unknown key 'episodez'. Did you mean 'episodes'"),
        ({"version": 99}, "version 99"),
        ({"episodes": "many"}, "'episodes' is 'many'"),
        ({"episodes": True}, "'episodes' is True"),
        ({"budget": {"value": 0.5, "kindd": 1}}, "is damaged (no 'limits')"),
        ({"episodes": 0}, "episodes is 0"),
        ({"min_keep": 1.5}, "min-keep is 1.5"),
        ({"score": "sequentiel"}, "Did you mean 'sequential'"),
    ],
)
def test_config_refuses(change: dict[str, object], message: str) -> None:
    with pytest.raises(UsageError) as caught:
        RunConfig.from_dict({**CONFIG.to_dict(), **change})
    assert message in str(caught.value)


def test_config_refuses_missing_key() -> None:
    values = CONFIG.to_dict()
    del values["reward"]
    with pytest.raises(UsageError, match="lacks the key 'reward'"):
        RunConfig.from_dict(values)


def test_differences_name_key_and_both_values() -> None:
    other = replace(CONFIG, seed=3, model_fingerprint="c" * 64, weights="elsewhere.pth")
    assert CONFIG.differences(other) == [
        f"model_fingerprint: {'a' * 12}… in the run, {'c' * 12}… now",
        "seed: 0 in the run, 3 now",
    ]


def test_default_name_tells_runs_apart() -> None:
    assert CONFIG.default_name() == "digits-auto-0.5-s0"
    others = [{"episodes": 3}, {"budget": Budget(0.5, "at-most")}, {"round_to": 8}]
    assert len({CONFIG.default_name(), *(replace(CONFIG, **change).default_name() for change in others)}) == 4
    assert replace(CONFIG, model="nets/my.py:make").default_name() == "my-py-make-auto-0.5-s0"


def test_episodes_round_trip_and_are_strict_json(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    written = [episode(0), episode(1, loss=math.inf)]
    for item in written:
        folder.append(item)
    read = folder.read_episodes()
    assert read[0] == written[0]
    assert math.isnan(read[1].score.loss)  # JSON has no infinity
    lines = folder.episodes_path.read_text().splitlines()
    counts = [json.loads(line, parse_constant=pytest.fail)["counts"] for line in lines]
    assert counts == [{"conv1": 1, "conv2": 4}, {"conv1": 2, "conv2": 4}]


@pytest.mark.parametrize("cut", [1, 10, 60])
def test_torn_last_line_is_dropped_and_the_journal_goes_on(tmp_path: Path, cut: int) -> None:
    folder = RunFolder(tmp_path)
    for number in range(3):
        folder.append(episode(number))
    content = folder.episodes_path.read_bytes()
    folder.episodes_path.write_bytes(content[:-cut])
    assert [e.episode for e in folder.read_episodes()] == [0, 1]
    assert folder.episodes_path.read_bytes() == content[:-cut]  # reading alone changes nothing
    folder.read_episodes(repair=True)
    folder.append(episode(2))
    assert folder.episodes_path.read_bytes() == content


def test_damage_in_the_middle_is_reported_with_its_line(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    for number in range(3):
        folder.append(episode(number))
    lines = folder.episodes_path.read_text().splitlines()
    folder.episodes_path.write_text("\n".join([lines[0], lines[1][:20], lines[2]]) + "\n")
    with pytest.raises(AutopruneError, match=r"Line 2 of .* is damaged"):
        folder.read_episodes()


def test_begin_twice_with_equal_and_other_configuration(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path / "runs" / "one")
    folder.begin(CONFIG)
    folder.begin(CONFIG)
    assert folder.read_config() == CONFIG
    assert not folder.finished
    with pytest.raises(UsageError, match="seed: 0 in the run, 1 now"):
        folder.begin(replace(CONFIG, seed=1))


def test_a_folder_with_other_files_is_not_taken(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").touch()
    with pytest.raises(UsageError, match="holds files that are not a run's"):
        RunFolder(tmp_path).begin(CONFIG)


def test_a_folder_left_by_a_process_killed_before_its_first_file_is_taken(tmp_path: Path) -> None:
    for name in (".lock", ".write-test.12ab34cd.tmp", ".config.json.12ab34cd.tmp"):
        (tmp_path / name).touch()
    RunFolder(tmp_path).begin(CONFIG)
    assert RunFolder(tmp_path).read_config() == CONFIG


def test_unwritable_folder(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(UsageError, match="cannot be written"):
        RunFolder(tmp_path / "file" / "run").begin(CONFIG)


def test_what_is_not_a_run_or_not_finished_says_so(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    with pytest.raises(UsageError, match="There is no run in"):
        folder.read_config()
    folder.begin(CONFIG)
    with pytest.raises(UsageError, match=f"continue it with: autoprune search --out {tmp_path}"):
        folder.read_report()


def test_rows_are_kept_under_safe_names(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    assert folder.read_row("pkg.mod:Agent") is None
    folder.write_row("pkg.mod:Agent", {"accuracy": 0.5})
    assert folder.read_row("pkg.mod:Agent") == {"accuracy": 0.5}
    assert [path.name for path in (tmp_path / "rows").iterdir()] == ["pkg.mod-Agent.json"]


def test_lock_keeps_a_second_process_out_and_dies_with_its_owner(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    hold = "import pathlib, sys, autoprune.runs as m\nwith m.Lock(pathlib.Path(sys.argv[1])):\n print(1, flush=1)\n input()"
    command = [sys.executable, "-c", hold, str(tmp_path / ".lock")]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as owner:
        assert owner.stdout is not None
        assert owner.stdout.readline() == "1\n"
        with pytest.raises(AutopruneError, match=rf"another process \(id {owner.pid}\)"), folder.lock():
            pass
        owner.kill()
    with folder.lock():  # the file is still there, the lock is not
        assert (tmp_path / ".lock").is_file()
