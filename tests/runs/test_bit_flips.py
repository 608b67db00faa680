"""Single bits that flip in a run's files: each is noticed by the verb that reads the file, or changes nothing that it says."""

from __future__ import annotations

import os
import random
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from autoprune.cli import main
from autoprune.errors import AutopruneError
from autoprune.runs import RunFolder
from autoprune.support.strict_json import read_json

from .._driven import Problem, comparable, run
from .._sample import SEED, count

SEARCH = ("search", "--budget", "0.5", "--agent", "uniform", "--finish-steps", "0", "--finetune", "1", "--no-distill")
VERBS: Mapping[str, tuple[str, ...]] = {
    "search": ("search", "--out", "RUN", "--json", "--quiet"),
    "report": ("report", "RUN", "--no-time", "--out", "OUT/page.html"),
    "eval": ("eval", "RUN", "--json"),
    "eval-tuned": ("eval", "RUN", "--finetuned", "plain", "--json"),
    "eval-file": ("eval", "RUN/model.pt2", "--json"),
    "verify": ("verify", "RUN/model.pt2", "--no-time", "--images", "16", "--json"),
    "prune": ("prune", "--policy", "RUN/policy.json", "--out", "OUT/small"),
    "export": ("export", "RUN", "--format", "safetensors", "--no-verify", "--out", "OUT/x.safetensors"),
    "finetune": ("finetune", "RUN", "--epochs", "1", "--no-distill", "--json", "--quiet"),
}
READERS: Mapping[str, tuple[str, ...]] = {
    "config.json": ("search", "report", "eval", "finetune"),
    "report.json": ("search", "report", "eval", "export", "finetune"),
    "policy.json": ("search", "eval", "prune", "export"),
    "model.safetensors": ("search", "eval", "prune", "export"),
    "episodes.jsonl": ("report",),
    "model.pt2": ("eval-file", "verify"),
    "model.pt2.json": ("eval-file", "verify"),
    "network.json": ("report",),
    "finetune/plain/result.json": ("report", "eval-tuned", "finetune"),
    "finetune/plain/model.safetensors": ("eval-tuned", "finetune"),
    "finetune/plain/history.jsonl": ("report",),
    "finetune/plain/config.json": ("finetune",),
}


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("flips") / "run"
    assert main([*SEARCH, "--out", str(path), "--quiet"]) == 0
    assert main(["export", str(path), "--format", "pt2", "--no-verify"]) == 0
    assert main(["report", str(path), "--no-time"]) == 0
    return path


def contents(folder: Path) -> dict[str, bytes]:
    paths = [path for path in folder.rglob("*") if path.is_file()] if folder.is_dir() else []
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in sorted(paths)}


def restore(folder: Path, was: Mapping[str, bytes]) -> None:
    for name, content in contents(folder).items():
        if was.get(name) != content:
            (folder / name).unlink()
    for name, content in was.items():
        if not (folder / name).is_file():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_bytes(content)


def flipped(rng: random.Random, content: bytes) -> bytes:
    bit = rng.randrange(8 * len(content))
    changed = bytearray(content)
    changed[bit // 8] ^= 1 << bit % 8
    return bytes(changed)


def test_every_flip_in_a_finished_run_is_noticed_or_without_effect(
    finished: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    was = contents(finished)
    rng = random.Random(SEED)
    known: dict[str, Any] = {}

    def said(verb: str) -> Any:
        """Return what a verb says and writes; None if it notices something."""
        out = tmp_path / "out"
        restore(out, {})
        arguments = [part.replace("RUN", str(finished)).replace("OUT", str(out)) for part in VERBS[verb]]
        code = main(arguments)
        printed, complained = capsys.readouterr()
        if code != 0:
            assert "Unexpected" not in complained, complained
            assert len(complained.strip().splitlines()) <= 2, complained
            return None
        return printed, contents(out)

    for place in range(count(350, 15)):
        name = sorted(was)[place % len(was)] if place < len(was) else rng.choice(sorted(was))
        if not was[name]:
            continue
        verb = rng.choice(READERS.get(name, ("search", "report")))
        if verb not in known:
            known[verb] = said(verb)
            assert known[verb] is not None, verb
            restore(finished, was)
        (finished / name).write_bytes(flipped(rng, was[name]))
        found = said(verb)
        assert found is None or found == known[verb], (name, verb)
        restore(finished, was)


class Stopped(BaseException):
    pass


def stopped(agent: str, path: Path, monkeypatch: pytest.MonkeyPatch, at: int, **options: Any) -> int:
    """Search until the at-th sync of a file; returns how many there were."""
    sync, syncs = os.fsync, 0

    def stopping(handle: int) -> None:
        nonlocal syncs
        syncs += 1
        if syncs == at:
            raise Stopped
        sync(handle)

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", stopping)
        with suppress(Stopped):
            run(agent, path, **options)
    return syncs


def test_every_flip_in_a_stopped_run_is_noticed_or_without_effect(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Continued, it ends as it would have; ``report`` and ``search`` find nothing that was not written."""
    rng = random.Random(SEED)
    agents = ("random", "tpe")
    whole = {agent: comparable(run(agent, tmp_path / agent)) for agent in agents}
    syncs = {agent: stopped(agent, tmp_path / f"{agent}-counted", monkeypatch, -1) for agent in agents}
    results = {agent: contents(tmp_path / agent) for agent in agents}
    places: dict[tuple[str, int], Path] = {}
    for _ in range(count(150, 10)):
        agent, share = rng.choice(agents), rng.choice((0.3, 0.5, 0.7, 0.85, 0.95))
        at = int(share * syncs[agent])
        path = places.get((agent, at)) or tmp_path / f"{agent}-{at}"
        if (agent, at) not in places:
            assert stopped(agent, path, monkeypatch, at) == at
            places[agent, at] = path
        was = contents(path)
        name = rng.choice([name for name in sorted(was) if was[name]])
        (path / name).write_bytes(flipped(rng, was[name]))
        try:
            found = comparable(run(agent, path, problem=Problem()))
        except AutopruneError:
            pass
        else:
            assert found == whole[agent], name
            for kept in ("policy.json", "model.safetensors"):
                assert (path / kept).read_bytes() == results[agent][kept], (name, kept)
        restore(path, was)


def resealed(change: Callable[[dict[str, Any]], object]) -> Callable[[list[dict[str, Any]]], None]:
    """Return a change of the journal's third line."""

    def changing(lines: list[dict[str, Any]]) -> None:
        change(lines[2])

    return changing


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (
            resealed(lambda line: line["counts"].update(conv0=4000)),
            "group 'conv0' has 16 channels and cannot keep 4000",
        ),
        (resealed(lambda line: line["counts"].update(conv0=-4)), "the count of group 'conv0' is -4"),
        (resealed(lambda line: line["counts"].update(conv0="4")), "the count of group 'conv0' is '4'"),
        (resealed(lambda line: line["counts"].update(conv0=True)), "the count of group 'conv0' is True"),
        (resealed(lambda line: line["counts"].update(conv0=5)), "5 channels of group 'conv0'|multiply-adds"),
        (resealed(lambda line: line.update(counts={"a": 4})), "its groups are not"),
        (resealed(lambda line: line.update(counts=[4])), "wrong type"),
        (resealed(lambda line: line.update(episode=7)), "episode 7 of random, 2 is next"),
        (resealed(lambda line: line.update(episode="2")), "the episode is '2'"),
        (resealed(lambda line: line.update(episode=-1)), "the episode is -1"),
        (resealed(lambda line: line.update(macs=1)), "multiply-adds"),
        (resealed(lambda line: line.update(params=2**63)), "parameters"),
        (resealed(lambda line: line.update(accuracy=10**400)), "out of range"),
        (resealed(lambda line: line.update(accuracy="good")), "'accuracy' is 'good'"),
        (resealed(lambda line: line.update(feasible=not line["feasible"])), "within the budget"),
        (resealed(lambda line: line.update(reused=True)), "proposed an equal policy"),
        (resealed(lambda line: line.update(agent=["random"])), "wrong type"),
        (resealed(lambda line: line.pop("macs")), "no 'macs'"),
        (lambda lines: lines.insert(2, lines[1]), "episode 1 of random, 2 is next"),
        (lambda lines: lines.pop(1), "episode 2 of random, 1 is next"),
        (lambda lines: lines.reverse(), "episode 3 of random, 0 is next"),
    ],
)
def test_a_journal_that_no_search_wrote_is_refused_though_its_checksums_are_right(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, change: Callable[[list[dict[str, Any]]], None], says: str
) -> None:
    from autoprune.support.jsonl import read_jsonl, to_line

    journal = RunFolder(tmp_path).episodes_path
    for at in range(20, 40):  # four policies
        stopped("random", tmp_path, monkeypatch, at, baselines=())
        lines = read_jsonl(journal)
        if len(lines) >= 4:
            break
    lines = lines[:4]
    change(lines)
    journal.write_text("".join(map(to_line, lines)), encoding="utf-8")
    with pytest.raises(AutopruneError, match=says) as caught:
        run("random", tmp_path, baselines=())
    assert "Line " in str(caught.value)
    assert "restore" in str(caught.value)


def test_a_line_and_a_file_without_checksum_or_nested_too_deep_are_refused(tmp_path: Path) -> None:
    report = run("uniform", tmp_path)
    folder = RunFolder(tmp_path)
    whole = folder.episodes_path.read_bytes()
    first, rest = whole.split(b"\n", 1)
    for line in (first.replace(b'"checksum"', b'"chequesum"'), b"[" * 100_000, b'{"a":' * 100_000):
        folder.episodes_path.write_bytes(line + b"\n" + rest)
        with pytest.raises(AutopruneError, match=r"Line 1 of .* is damaged"):
            folder.read_episodes()
    folder.episodes_path.write_bytes(whole[: whole[:-1].rindex(b"\n") + 1])
    with pytest.raises(AutopruneError, match="is missing, and the run is finished"):
        folder.read_episodes()
    folder.episodes_path.write_bytes(whole)
    assert len(folder.read_episodes()) == report["episodes"]
    text = folder.report_path.read_text(encoding="utf-8")
    folder.report_path.write_text(text.replace('"checksum"', '"chequesum"'), encoding="utf-8")
    with pytest.raises(AutopruneError, match="has no checksum"):
        folder.read_report()
    folder.report_path.write_text("[" * 100_000, encoding="utf-8")
    with pytest.raises(AutopruneError, match="is damaged"):
        folder.read_report()
    folder.report_path.write_text(text, encoding="utf-8")
    assert folder.read_report() == read_json(folder.report_path)
    (tmp_path / "model.safetensors").write_bytes((tmp_path / "policy.json").read_bytes())
    with pytest.raises(AutopruneError, match="is not the one that the run's report names"):
        folder.read_report()
