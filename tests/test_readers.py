"""Every reader of a file or an option, on damaged input: it succeeds, or raises an AutopruneError in one sentence, soon.

The table ``READERS`` names them all. What is damaged is valid; the damage is drawn from a seed.
"""

from __future__ import annotations

import gzip
import io
import json
import pickle
import random
import signal
import struct
import traceback
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save as save_tensors
from torch import nn

from autoprune.agents import agents, make_agent
from autoprune.budget import Budget
from autoprune.cli import _options as options
from autoprune.cli._search import show
from autoprune.comparison import SharedProblem, summary
from autoprune.data import load_data
from autoprune.data._cifar10 import _read_batch, _read_npz
from autoprune.errors import AutopruneError
from autoprune.exporting import export_model, load_exported
from autoprune.finetuning import Recipe
from autoprune.finetuning._checkpoint import Checkpoint
from autoprune.finetuning._task import FinetuneFolder, recipe_of
from autoprune.inspection import Network, Stage, read_network, read_probes
from autoprune.latency import Profile, Target
from autoprune.models import DigitsNet, load_into, read_weights
from autoprune.page import write_page
from autoprune.report import read_timing
from autoprune.runs import RunConfig, RunFolder
from autoprune.searching import resolve
from autoprune.support.strict_json import write_json_atomic
from autoprune.surgery import Policy, PolicyGroup
from autoprune.testing import ToyProblem
from autoprune.verification._record import read_record

from . import _mutate as mutate
from ._sample import SEED, count
from .page import _runs

MOST_SECONDS = 20
"""Far more than any of them takes, so that a busy machine fails nothing."""


@dataclass(frozen=True)
class Reader:
    """One reader.

    Attributes:
        valid: Valid input: the content of a file, or an option.
        damage: Returns damaged input.
        read: Reads it, from a file if it is one.
        file: Name of the file; None for an option.
    """

    valid: Any
    damage: mutate.Damage
    read: Callable[[Any], object]
    file: str | None = None


@pytest.fixture(scope="module")
def readers(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Reader]:
    return make_readers(tmp_path_factory.mktemp("readers"))


def make_readers(root: Path) -> dict[str, Reader]:
    """Return the table, with its files below ``root``."""
    run = _runs.make_run(root / "run")
    _runs.tune(run, "distilled")
    _runs.time(run)
    unfinished = _runs.make_run(root / "unfinished", finished=False)
    found: dict[str, Reader] = {}

    def json_file(
        name: str, path: Path, read: Callable[[Path], object], damage: mutate.Damage = mutate.of_json_text
    ) -> None:
        found[name] = Reader(path.read_text(encoding="utf-8"), damage, read, str(path))

    def bytes_file(name: str, path: Path, content: bytes, read: Callable[[Path], object]) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
        found[name] = Reader(content, mutate.of_bytes, read, str(path))

    def option(name: str, valid: Any, read: Callable[[Any], object], damage: mutate.Damage = mutate.of_text) -> None:
        found[name] = Reader(valid, damage, read)

    # a run folder
    page = root / "page.html"
    json_file("config", run / "config.json", lambda path: RunFolder(path.parent).read_config().default_name())
    json_file("report", run / "report.json", lambda path: show(RunFolder(path.parent), as_json=False))
    json_file("report, page", run / "report.json", lambda path: write_page([path.parent], page))
    json_file(
        "report, comparison",
        run / "report.json",
        lambda path: summary({("tpe", 0): RunFolder(path.parent), ("uniform", 0): RunFolder(path.parent)}),
    )
    json_file("journal", run / "episodes.jsonl", lambda path: RunFolder(path.parent).read_episodes(), mutate.of_lines)
    json_file(
        "journal, page", unfinished / "episodes.jsonl", lambda path: write_page([path.parent], page), mutate.of_lines
    )
    json_file("row", unfinished / "rows" / "uniform.json", lambda path: write_page([path.parent.parent], page))
    json_file("timing", run / "timing.json", lambda path: (read_timing(path.parent), write_page([path.parent], page)))
    json_file(
        "fine-tuning, result",
        run / "finetune" / "distilled" / "result.json",
        lambda path: (FinetuneFolder(path.parent).read_result(), write_page([path.parents[2]], page)),
    )
    json_file(
        "fine-tuning, history",
        run / "finetune" / "distilled" / "history.jsonl",
        lambda path: write_page([path.parents[2]], page),
        mutate.of_lines,
    )
    sensitivity = root / "other" / "sensitivity.json"
    probes = [{"group": "stem", "size": 16, "kept": 4, "accuracy": 0.5, "loss": 1.0}]
    write_json_atomic(sensitivity, {"version": 1, "complete": True, "probes": probes * 3})
    json_file("sensitivity", sensitivity, read_probes)
    network = Network(
        (Stage("stem", "conv", {"a": 16}, 99, 1, {"a": 16}, {"": 3}),), (("a", 16, "inner", None),), (), ()
    )
    write_json_atomic(root / "other" / "network.json", network.to_dict())
    json_file("network", root / "other" / "network.json", read_network)
    write_json_atomic(root / "tuned" / "config.json", {"version": 1, "name": "a", "recipe": Recipe().to_dict()})
    json_file(
        "fine-tuning, configuration",
        root / "tuned" / "config.json",
        lambda path: recipe_of(FinetuneFolder(path.parent).read_config(), {}, {}),
    )
    state = {"a": torch.zeros(2)}
    Checkpoint(
        epoch=1, updates=2, history=[{"epoch": 1}], wall_s=1.0, model=state, best=state, average=state, momentum={}
    ).save(root / "kept")
    json_file("fine-tuning, checkpoint", root / "kept" / "checkpoint.json", lambda path: Checkpoint.load(path.parent))
    scores = root / "scores-s0.jsonl"
    for place in (0, -1):
        SharedProblem(toy := ToyProblem(4), scores).score([levels[place] for levels in toy.levels])  # type: ignore[arg-type]
    json_file("shared scores", scores, lambda path: SharedProblem(ToyProblem(4), path), mutate.of_lines)  # type: ignore[arg-type]
    # beside it
    Policy((PolicyGroup("a", 16, 3, (0, 5, 15)),), model={"name": "digits"}, seed=7, agent="tpe").save(
        root / "policy.json"
    )
    json_file("policy", root / "policy.json", lambda path: Policy.load(path).kept())
    record = {
        "version": 1,
        "format": "pt2",
        "sha256": "0",
        "network": "0",
        "dynamic_batch": True,
        "run": ".",
        "finetuned": None,
    }
    write_json_atomic(root / "net.pt2.json", record)
    json_file("export's record", root / "net.pt2.json", lambda path: read_record(path.with_suffix("")))
    profile = Profile.open(Target("eager", "cpu", 1, 1), root / "profile.jsonl")
    profile.add_network("n", ["conv", "linear"])
    measured = {
        "measured": "n",
        "counts": {"a": 3},
        "dense_s": 0.1,
        "ratio": 0.5,
        "known": 0.01,
        "rounds": 9,
        "channels": _channels(),
        "parts": None,
        "spans": None,
    }
    with (root / "profile.jsonl").open("a") as stream:
        stream.write(json.dumps(measured) + "\n")
    Profile.load(root / "profile.jsonl")
    json_file("profile", root / "profile.jsonl", Profile.load, mutate.of_lines)
    # tensors and data
    net = DigitsNet(10)
    weights = {name: value.contiguous() for name, value in net.state_dict().items()}

    def load(path: Path) -> None:
        load_into(net, read_weights(path), weights="w")

    bytes_file("weights, safetensors", root / "w.safetensors", save_tensors(weights), load)
    small = {"conv1.weight": torch.zeros(4, 1, 3, 3), "steps": torch.tensor(3)}
    bytes_file("weights, header of safetensors", root / "h.safetensors", save_tensors(small), read_weights)
    for name, content in (("state", small), ("wrapped", {"state_dict": small, "epoch": 3})):
        for new in (True, False):
            buffer = io.BytesIO()
            title = f"weights, {name}, {'zip' if new else 'pickle'}"
            torch.save(content, buffer, _use_new_zipfile_serialization=new)
            bytes_file(title, root / f"{name}{new}.pth", buffer.getvalue(), read_weights)
    buffer = io.BytesIO()
    np.savez_compressed(buffer, x=np.zeros((4, 32, 32, 3), np.uint8), y=np.arange(4))
    bytes_file("data, npz", root / "val.npz", buffer.getvalue(), _read_npz)
    batch = pickle.dumps({"labels": [1, 2, 3], "data": b"\x00" * 3 * 3072}, protocol=2)
    bytes_file("data, batch", root / "data_batch_1", batch, _read_batch)
    for kind, shape in (("images-idx3", (4, 28, 28)), ("labels-idx1", (4,))):
        content = struct.pack(f">{1 + len(shape)}I", 0x800 + len(shape), *shape) + bytes(int(np.prod(shape)))
        for part in ("train", "t10k"):
            name, packed = f"{part}-{kind}-ubyte.gz", gzip.compress(content)
            bytes_file(
                f"data, {kind}", root / "idx" / name, packed, lambda path: load_data(f"fashion-mnist:{path.parent}")
            )
    export_model(nn.Sequential(nn.Flatten(), nn.Linear(4, 2)), torch.zeros(2, 1, 2, 2), root / "e.pt2", format="pt2")
    content = (root / "e.pt2").read_bytes()
    bytes_file("export, pt2", root / "net.pt2", content, load_exported)
    found["export, program"] = Reader(content, _damaged_program, load_exported, str(root / "net.pt2"))
    # options, and what configurations hold of them
    option("--budget", "macs=0.5,latency=12ms,params=0.6,size=4MB", lambda text: str(Budget(text)))
    option(
        "budget of a configuration", Budget("macs=0.5,size=4MB", "at-most").to_dict(), Budget.from_dict, mutate.of_json
    )
    option("configuration", RunFolder(run).read_config().to_dict(), RunConfig.from_dict, mutate.of_json)
    option("target", Target().to_dict(), Target.from_dict, mutate.of_json)
    option(
        "target of a configuration",
        Target().to_dict(),
        lambda values: resolve({"budget": "latency=0.5", "target": values}),
        mutate.of_json,
    )
    option("--mean", "0.485,0.456,0.406", lambda text: options.numbers(text, "--mean"))
    option("--input-size", "3x32x32", options.shape)
    option("--round-to", "8", options.multiple)
    for setting in ("lr=0.1", "epochs=3", "momentum=0.9", "augment=none", "from-scratch=true", "ema=0.9"):
        option(
            f"--set {setting}", setting, lambda text: Recipe.from_dict(options.settings([text], option="--set")).rate
        )
    option("recipe", Recipe().to_dict(), lambda values: Recipe.from_dict(values).rate, mutate.of_json)
    for agent, setting in AGENT_OPTIONS:
        option(f"--agent-option {agent} {setting}", setting, _agent(agent))
    return found


AGENT_OPTIONS = (
    ("auto", "explore=0.5"), ("auto", "probe=true"), ("ddpg", "warmup=5"), ("ddpg", "hidden=8"), ("ddpg", "start=rules"),
    ("td3", "sigma=0.5"), ("evolution", "population=6"), ("evolution", "mutation=0.2"), ("cmaes", "population=4"),
    ("gp", "startup=3"), ("tpe", "startup=3"), ("tpe", "candidates=24"), ("tpe", "start=rules"), ("nsga2", "population=6"),
    ("amc", "decay=0.9"),
)  # fmt: skip


def _agent(name: str) -> Callable[[str], object]:
    def make(text: str) -> object:
        assert name in agents
        return make_agent(name, ToyProblem(4), seed=0, episodes=5, **options.settings([text]))

    return make


def _channels() -> list[list[float]]:
    from autoprune.latency._profile import FEATURES

    return [[1.0] * FEATURES] * 2


def _damaged_program(content: bytes, rng: random.Random) -> bytes:
    """Return an export with one of its JSON entries damaged."""
    made = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(content)) as archive, zipfile.ZipFile(made, "w") as written:
        names = archive.namelist()
        chosen = rng.choice(
            [name for name in names if name.endswith("json")]
            + [name for name in names if name.endswith("model.json")] * 3
        )
        for name in names:
            entry = archive.read(name)
            written.writestr(name, mutate.of_json_text(entry.decode(), rng) if name == chosen else entry)
    return made.getvalue()


@contextmanager
def soon() -> Iterator[None]:
    """Raise TimeoutError where the block takes too long."""

    def stop(number: int, frame: FrameType | None) -> None:
        raise TimeoutError("it did not end")

    before = signal.signal(signal.SIGALRM, stop)
    signal.alarm(MOST_SECONDS)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def outcome(reader: Reader, content: Any) -> str | None:
    """Read something and say what leaked; None if nothing did."""
    given = content
    if reader.file is not None:
        given = Path(reader.file)
        given.write_bytes(content.encode() if isinstance(content, str) else content)
    try:
        with soon():
            reader.read(given)
    except AutopruneError as error:
        text = str(error)
        if not text or "\n" in text or len(text) > 3000:
            return f"a message of {len(text)} characters: {text[:80]!r}"
    except BaseException as error:  # a leak, whatever it is
        place = traceback.extract_tb(error.__traceback__)[-1]
        return f"{type(error).__name__}: {str(error)[:80]} ({Path(place.filename).name}:{place.lineno})"
    return None


def test_valid_input_is_read(readers: dict[str, Reader], capsys: pytest.CaptureFixture[str]) -> None:
    for name, reader in readers.items():
        with soon():
            reader.read(reader.valid if reader.file is None else Path(reader.file))
        assert outcome(reader, reader.valid) is None, name


def test_damaged_input_is_one_sentence(readers: dict[str, Reader], capsys: pytest.CaptureFixture[str]) -> None:
    rng = random.Random(SEED)
    names = list(readers)
    leaks: dict[str, list[str]] = {}
    for number in range(count(2000, 150)):
        name = names[number % len(names)]
        reader = readers[name]
        damaged = reader.damage(reader.valid, rng)
        leak = outcome(reader, damaged)
        if leak is not None:
            leaks.setdefault(f"{name}: {leak}", []).append(repr(damaged)[-160:])
        if reader.file is not None:
            Path(reader.file).write_bytes(reader.valid.encode() if isinstance(reader.valid, str) else reader.valid)
    listed = "\n".join(f"{key}\n    {leaks[key][0]}" for key in sorted(leaks))
    assert not leaks, f"{sum(map(len, leaks.values()))} leaks:\n{listed}"
