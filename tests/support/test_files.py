from __future__ import annotations

import errno
import math
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from autoprune.errors import AutopruneError, UsageError
from autoprune.support import files
from autoprune.support.jsonl import append_jsonl, read_jsonl, repair_jsonl
from autoprune.support.strict_json import read_json, write_json_atomic
from autoprune.support.tensors import load_safetensors, save_safetensors_atomic


@dataclass
class Point:
    x: int
    y: float


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_json_is_strict_and_plain(tmp_path: Path) -> None:
    value = {
        "nan": math.nan,
        "inf": [math.inf, -math.inf, 1.5],
        "numpy": (np.int64(3), np.float32(0.5), np.bool_(True), np.arange(2), np.float64("nan")),
        "tensor": torch.tensor([1.0, math.nan]),
        "point": Point(1, math.nan),
        "path": Path("a") / "b",
        "set": {3, 1},
        "text": "naïve ✓",
        5: None,
    }
    write_json_atomic(tmp_path / "new" / "folder" / "x.json", value)
    assert read_json(tmp_path / "new" / "folder" / "x.json") == {
        "nan": None,
        "inf": [None, None, 1.5],
        "numpy": [3, 0.5, True, [0, 1], None],
        "tensor": [1.0, None],
        "point": {"x": 1, "y": None},
        "path": str(Path("a") / "b"),
        "set": [1, 3],
        "text": "naïve ✓",
        "5": None,
    }
    with pytest.raises(TypeError, match="object cannot be written"):
        write_json_atomic(tmp_path / "bad.json", object())
    assert names(tmp_path) == ["new"]


@pytest.mark.parametrize(
    "text", ["", "{", "NaN", '{"a": Infinity}', "1e999", f"[{2**64}]", f"[{-(10**400)}]", '{"a": 1, "a": 2}', "\xff"]
)
def test_damaged_json_is_named(tmp_path: Path, text: str) -> None:
    path = tmp_path / "config.json"
    path.write_bytes(text.encode("latin-1"))
    with pytest.raises(UsageError, match=r"The configuration '.*config\.json' is damaged"):
        read_json(path, "configuration")


def test_json_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="does not exist"):
        read_json(tmp_path / "none.json")
    with pytest.raises(UsageError, match="Cannot read"):
        read_json(tmp_path)


@pytest.mark.parametrize("step", ["fsync", "replace"])
def test_a_failed_write_leaves_the_old_file_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    def full(*args: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    path = tmp_path / "report.json"
    write_json_atomic(path, {"old": 1})
    monkeypatch.setattr(*((os, "fsync") if step == "fsync" else (Path, "replace")), full)
    for write in (
        lambda: write_json_atomic(path, {"new": 2}),
        lambda: files.write_text_atomic(path, "new"),
        lambda: save_safetensors_atomic(path, {"new": torch.zeros(2)}),
    ):
        with pytest.raises(AutopruneError, match=r"Cannot write '.*report\.json': No space left on device"):
            write()
        assert read_json(path) == {"old": 1}
        assert names(tmp_path) == ["report.json"]


def test_unwritable_places_are_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    (tmp_path / "folder").mkdir()
    for path in (tmp_path / "file" / "x.json", tmp_path / "folder"):
        for write in (
            lambda path: write_json_atomic(path, {}),
            lambda path: append_jsonl(path, {}),
            lambda path: save_safetensors_atomic(path, {"a": torch.zeros(1)}),
        ):
            with pytest.raises(AutopruneError, match="Cannot write") as caught:
                write(path)
            assert str(path) in str(caught.value)
    assert names(tmp_path) == ["file", "folder"]


def test_new_files_follow_the_umask(tmp_path: Path) -> None:
    plain = tmp_path / "plain"
    plain.write_text("x")
    files.write_text_atomic(tmp_path / "a.txt", "x\n")
    save_safetensors_atomic(tmp_path / "b.safetensors", {"x": torch.zeros(1)})
    for name in ("a.txt", "b.safetensors"):
        assert (tmp_path / name).stat().st_mode == plain.stat().st_mode
    assert (tmp_path / "a.txt").read_bytes() == b"x\n"


def test_journal_round_trip(tmp_path: Path) -> None:
    path = tmp_path / "run" / "episodes.jsonl"
    assert read_jsonl(path) == []
    assert repair_jsonl(path) == []
    records = [{"episode": i, "reward": math.nan, "name": "a\nb"} for i in range(3)]
    for record in records:
        append_jsonl(path, record)
    assert read_jsonl(path) == [{**record, "reward": None} for record in records]
    assert path.read_bytes().count(b"\n") == 3


@settings(max_examples=40, deadline=None)
@given(cut=st.integers(0, 200))
def test_a_journal_cut_anywhere_loses_the_line_in_flight_only(
    cut: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = tmp_path_factory.mktemp("journal") / "episodes.jsonl"
    for i in range(5):
        append_jsonl(path, {"episode": i, "text": "é" * i})
    data = path.read_bytes()[:cut]
    path.write_bytes(data)
    whole = data.count(b"\n")
    assert [record["episode"] for record in read_jsonl(path)] == list(range(whole))
    assert path.read_bytes() == data
    assert len(repair_jsonl(path)) == whole
    append_jsonl(path, {"episode": whole})
    assert [record["episode"] for record in read_jsonl(path)] == list(range(whole + 1))


@pytest.mark.parametrize("tail", [b"\x00" * 40, b"\x00" * 40 + b"\n", b'{"a": 1', b'{"a": \xff}\n', b"7\n"])
def test_torn_blocks_are_dropped(tmp_path: Path, tail: bytes) -> None:
    path = tmp_path / "episodes.jsonl"
    append_jsonl(path, {"episode": 0})
    whole = path.read_bytes()
    path.write_bytes(whole + tail)
    assert read_jsonl(path) == [{"episode": 0}]
    assert repair_jsonl(path) == [{"episode": 0}]
    assert path.read_bytes() == whole


def test_damage_before_the_last_line_is_not_dropped(tmp_path: Path) -> None:
    path = tmp_path / "episodes.jsonl"
    append_jsonl(path, {"episode": 0})
    path.write_bytes(path.read_bytes() + b'{"epi\n' + path.read_bytes())
    for read in (read_jsonl, repair_jsonl):
        with pytest.raises(UsageError, match=r"Line 2 of .* is damaged"):
            read(path)
    with pytest.raises(UsageError, match="Cannot read"):
        read_jsonl(tmp_path)


def test_safetensors_round_trip(tmp_path: Path) -> None:
    base = torch.arange(12.0).reshape(3, 4)
    tensors = {
        "a": base,
        "tied": base,
        "part": base[1],
        "transposed": base.T,
        "last": torch.randn(2, 3, 4, 4).to(memory_format=torch.channels_last),
        "half": torch.ones(2, dtype=torch.float16),
        "count": torch.tensor(3),
        "empty": torch.zeros(0, 2),
        "none": torch.zeros(0, 2),
        "grad": torch.ones(2, requires_grad=True),
    }
    save_safetensors_atomic(tmp_path / "m.safetensors", tensors, metadata={"format": "pt"})
    loaded = load_safetensors(tmp_path / "m.safetensors")
    assert loaded.keys() == tensors.keys() - {"tied"}
    for name, tensor in loaded.items():
        assert torch.equal(tensor, tensors[name]), name
        assert tensor.dtype == tensors[name].dtype


def test_damaged_safetensors_are_named(tmp_path: Path) -> None:
    path = tmp_path / "m.safetensors"
    with pytest.raises(UsageError, match="does not exist"):
        load_safetensors(path)
    save_safetensors_atomic(path, {"a": torch.zeros(100)})
    whole = path.read_bytes()
    for data in (b"", b"not safetensors", whole[:-50]):
        path.write_bytes(data)
        with pytest.raises(UsageError, match="damaged or not safetensors"):
            load_safetensors(path)


@pytest.mark.parametrize("read", [read_json, read_jsonl])
def test_a_pipe_or_device_is_refused_instead_of_waited_for(tmp_path: Path, read: Callable[[Path], object]) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "endless").symlink_to("/dev/zero")
    for name in ("pipe", "endless"):
        with pytest.raises(AutopruneError, match="no regular file"):
            read(tmp_path / name)
