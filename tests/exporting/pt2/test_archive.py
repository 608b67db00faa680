from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from autoprune.errors import UsageError
from autoprune.exporting import export_model, load_exported

SAMPLES = "archive/data/sample_inputs/model.pt"
WEIGHTS = "archive/data/weights/model_weights_config.json"


class Trap:
    """Unpickled, it makes a file."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        return Path.touch, (self.mark,)


@pytest.fixture(scope="module")
def entries(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """What an exported file consists of."""
    path = tmp_path_factory.mktemp("pt2") / "net.pt2"
    net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(4 * 9, 2))
    export_model(net, torch.randn(2, 3, 5, 5), path, format="pt2")
    with zipfile.ZipFile(path) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def written(path: Path, entries: dict[str, bytes]) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in entries.items():
            archive.writestr(name, content)
    return path


def pickled(value: object) -> bytes:
    buffer = io.BytesIO()
    torch.save(value, buffer)
    return buffer.getvalue()


def changed(content: bytes, change: Callable[[Any], None]) -> bytes:
    values = json.loads(content)
    change(values)
    return json.dumps(values).encode()


def test_what_export_writes_is_plain_and_holds_no_paths(entries: dict[str, bytes], tmp_path: Path) -> None:
    network = load_exported(written(tmp_path / "net.pt2", entries))
    assert network(torch.randn(3, 3, 5, 5)).shape == (3, 2)
    assert not any(b"stack_trace" in content or b".py" in content for content in entries.values())


def test_pickles_in_a_file_are_not_unpickled(entries: dict[str, bytes], tmp_path: Path) -> None:
    mark = tmp_path / "mark"
    trap = pickled((Trap(mark),))

    def pickle_weight(config: Any) -> None:
        next(iter(config["config"].values()))["use_pickle"] = True

    weight = {WEIGHTS: changed(entries[WEIGHTS], pickle_weight), "archive/data/weights/weight_0": trap}
    for number, (changes, message) in enumerate(
        (
            (weight, "is a pickle"),
            ({"archive/data/weights/model.pt": trap}, "could run code"),
            ({"archive/data/constants/opaque_obj_0": trap}, "could run code"),
            ({"archive/data/aotinductor/model/model.so": b"\x7fELF"}, "could run code"),
        )
    ):
        with pytest.raises(UsageError, match=message):
            load_exported(written(tmp_path / f"{number}.pt2", {**entries, **changes}))
    load_exported(written(tmp_path / "samples.pt2", {**entries, SAMPLES: trap}))  # which nothing needs
    assert not mark.exists()


def test_sizes_that_the_stored_bytes_do_not_have(entries: dict[str, bytes], tmp_path: Path) -> None:
    def enlarge(config: Any) -> None:
        next(iter(config["config"].values()))["tensor_meta"]["sizes"] = [{"as_int": 10**12}]

    with pytest.raises(UsageError, match="bytes are stored"):
        load_exported(written(tmp_path / "net.pt2", {**entries, WEIGHTS: changed(entries[WEIGHTS], enlarge)}))


def test_damaged_archives(entries: dict[str, bytes], tmp_path: Path) -> None:
    path = written(tmp_path / "net.pt2", entries)
    content = path.read_bytes()
    weight = entries["archive/data/weights/weight_0"]
    path.write_bytes(content.replace(weight, weight[:-1] + bytes([weight[-1] ^ 1])))
    with pytest.raises(UsageError, match="CRC"):
        load_exported(path)
    path.write_bytes(content[:-100])
    with pytest.raises(UsageError, match="is not an exported program"):
        load_exported(path)
