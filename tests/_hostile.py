"""Hostile files of every kind, and the command that a user would give each to.

    python -m tests._hostile FOLDER [NAME ...]

makes each case in a folder of its own below FOLDER and runs its command in a fork of this process, which has everything
imported, and prints how it ended as JSON. Each fork is watched: what it opens for writing, makes, renames or removes elsewhere,
whom it connects to, which processes it starts.
"""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import os
import pickle
import shutil
import signal
import struct
import sys
import tempfile
import time
import warnings
import zipfile
from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from autoprune.cli import main
from autoprune.exporting import export_model
from autoprune.runs import load_inputs
from autoprune.support.jsonl import to_line
from autoprune.support.strict_json import read_json, write_json_atomic

from .page._runs import make_run, tune

MOST_SECONDS = 60
"""Far more than any of them takes, so that a busy machine fails nothing."""
STRANGER = "code_of_a_stranger"
PRECIOUS = b"precious" * 100
MARK = "IT_RAN"
Case = Callable[[Path], list[str]]
"""Makes the files in a folder, and returns the command to run there."""
SEARCH = ("search", "--out", "run", "--quiet")
COUNTS = {"blocks.0.conv1": 5, "blocks.1.conv1": 12, "blocks.2.conv1": 12, "blocks.3.conv1": 26}
"""A policy for the digits' network within the budget."""
PRUNE = ("prune", "--policy", "run/policy.json")


class Trap:
    """Unpickled, it makes a folder."""

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        return os.mkdir, (MARK,)


# Run folders, as a stranger would make them: with checksums and fingerprints that are right, which anybody can compute.


def run_of(box: Path, *, finished: bool = False, **changes: Any) -> Path:
    """Write a run whose configuration and policy are digits' but for what is given."""
    run = make_run(box / "run", finished=finished, model="digits", data="digits")
    if not finished:
        shutil.rmtree(run / "rows")
        (run / "episodes.jsonl").unlink()
    edit(run / "config.json", {"agent": "uniform", "episodes": 1, "finish_steps": 0, **known(), **changes})
    model = {"name": changes.get("model", "digits"), "input_shape": [1, 8, 8], "num_classes": 10, "buildable": True}
    shown = {"version": 1, "groups": [], "budget": {}, "achieved": {}, "score": {}, "seed": 0, "agent": "a"}
    write_json_atomic(run / "policy.json", {**shown, "model": model})
    return run


@cache
def known() -> Mapping[str, Any]:
    """Return what a run of digits records of its network and data."""
    return load_inputs("digits", "digits").recorded


def edit(path: Path, changes: dict[str, Any]) -> None:
    write_json_atomic(path, {**read_json(path), **changes})


def config(key: str, value: Any, *command: str, **more: Any) -> Case:
    def make(box: Path) -> list[str]:
        run_of(box, **{key: value}, **more)
        return list(command or SEARCH)

    return make


def report(changes: dict[str, Any], *command: str) -> Case:
    def make(box: Path) -> list[str]:
        run = run_of(box, finished=True)
        tune(run, "distilled")
        edit(run / "report.json", changes)
        return list(command)

    return make


def text(path: str, content: str, *command: str) -> Case:
    def make(box: Path) -> list[str]:
        run_of(box)
        (box / path).write_text(content)
        return list(command)

    return make


def journal(changes: dict[str, Any], *command: str) -> Case:
    line = {
        "agent": "uniform", "episode": 0, "counts": COUNTS, "accuracy": 1.0, "loss": 0.0, "macs": 298272, "params": 29532,
        "reward": 0.0, "seconds": 0.0, "cost": 0.0, "images": 0.0, "drop_se": 0.0, "share": 1.0, "distance": 0.0, "costs": {},
        "feasible": True, "reused": False, "elapsed_s": 0.0,
    }  # fmt: skip

    def make(box: Path) -> list[str]:
        run = run_of(box)
        (run / "episodes.jsonl").write_text(to_line({**line, **changes}))
        return list(command)

    return make


def link(path: str, to: str, *command: str, finished: bool = False) -> Case:
    def make(box: Path) -> list[str]:
        run_of(box, finished=finished)
        place = box / path
        if place.is_dir():
            shutil.rmtree(place)
        place.unlink(missing_ok=True)
        place.symlink_to(to)
        return list(command)

    return make


def pipe(path: str, *command: str) -> Case:
    """A file that never ends, nor begins."""

    def make(box: Path) -> list[str]:
        run_of(box, finished=True)
        (box / path).unlink(missing_ok=True)
        os.mkfifo(box / path)
        return list(command)

    return make


RECORD = {
    "version": 1, "format": "pt2", "sha256": "0", "network": "0", "dynamic_batch": True, "run": "run", "finetuned": None,
}  # fmt: skip


def sidecar(record: Any, name: str = "net.pt2") -> Case:
    def make(box: Path) -> list[str]:
        run_of(box, model=f"{STRANGER}:thing")
        (box / name).write_bytes(b"nothing")
        if isinstance(record, str):
            (box / f"{name}.json").write_text(record)
        else:
            write_json_atomic(box / f"{name}.json", record)
        return ["verify", name]

    return make


# Exports


@cache
def plain_pt2() -> dict[str, bytes]:
    """Return the entries of an export that is as it should be."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "plain.pt2"
        export_model(nn.Sequential(nn.Flatten(), nn.Linear(64, 10)), torch.zeros(2, 1, 8, 8), path, format="pt2")
        with zipfile.ZipFile(path) as archive:
            return {name: archive.read(name) for name in archive.namelist()}


def pt2(change: Callable[[Any], None], **more: bytes) -> Case:
    def make(box: Path) -> list[str]:
        with zipfile.ZipFile(box / "net.pt2", "w") as made:
            for name, content in plain_pt2().items():
                if name.endswith("models/model.json"):
                    program = json.loads(content)
                    change(program)
                    content = json.dumps(program).encode()
                made.writestr(name, content)
            for name, content in more.items():
                made.writestr(name, content)
        return ["eval", "net.pt2", "--model", "digits"]

    return make


def calls(target: str, *given: tuple[str, Any], then: tuple[str, tuple[tuple[str, Any], ...]] | None = None) -> Case:
    """Let the program's first call be this one."""

    def change(program: Any) -> None:
        nodes = program["graph_module"]["graph"]["nodes"]
        nodes[:0] = [_node(target, given, nodes[0])] + ([_node(then[0], then[1], nodes[0])] if then else [])

    return pt2(change)


def _node(target: str, given: tuple[tuple[str, Any], ...], like: Any) -> dict[str, Any]:
    inputs = [{"name": name, "arg": arg, "kind": 1} for name, arg in given]
    return {"target": target, "inputs": inputs, "outputs": [like["outputs"][0]], "metadata": {}}


def zeros(program: Any) -> None:
    """Let it make 40 TB of zeros first."""
    graph = program["graph_module"]["graph"]
    like = graph["tensor_values"][graph["nodes"][0]["outputs"][0]["as_tensor"]["name"]]
    graph["tensor_values"]["zeros"] = {**like, "sizes": [{"as_int": 10**13}], "strides": [{"as_int": 1}]}
    made = {"outputs": [{"as_tensor": {"name": "zeros"}}]}
    graph["nodes"].insert(0, _node("torch.ops.aten.zeros.default", (("size", {"as_ints": [10**13]}),), made))


def tower(program: Any) -> None:
    size = {"as_expr": {"expr_str": "9**9**9**9", "hint": {"as_int": 2}}}
    next(iter(program["graph_module"]["graph"]["tensor_values"].values()))["sizes"][0] = size


def code_as_name(program: Any) -> None:
    program["graph_module"]["graph"]["nodes"][0]["name"] = f"x\n  __import__('os').mkdir('{MARK}')\n  y"


def code_as_size(program: Any) -> None:
    size = {"as_expr": {"expr_str": f"__import__('os').mkdir('{MARK}')", "hint": {"as_int": 2}}}
    next(iter(program["graph_module"]["graph"]["tensor_values"].values()))["sizes"][0] = size


def unchanged(program: Any) -> None:
    pass


def endless(box: Path) -> list[str]:
    """Write an ONNX file that counts for ever, while it is loaded, before it classifies."""
    from onnx import TensorProto, helper, save

    def number(name: str, kind: int, value: int) -> Any:
        return helper.make_node("Constant", [], [name], value=helper.make_tensor(name, kind, [], [value]))

    def told(name: str, kind: int, shape: list[Any]) -> Any:
        return helper.make_tensor_value_info(name, kind, shape)

    flag = told("on", TensorProto.BOOL, [])
    body = helper.make_graph(
        [helper.make_node("Identity", ["on"], ["on_"]), helper.make_node("Identity", ["x"], ["x_"])],
        "body",
        [told("i", TensorProto.INT64, []), flag, told("x", TensorProto.INT64, [])],
        [told("on_", TensorProto.BOOL, []), told("x_", TensorProto.INT64, [])],
    )
    nodes = [
        number("most", TensorProto.INT64, 2**62),
        number("true", TensorProto.BOOL, 1),
        number("start", TensorProto.INT64, 0),
        helper.make_node("Loop", ["most", "true", "start"], ["axis"], body=body),
        helper.make_node("Cast", ["axis"], ["shift"], to=TensorProto.FLOAT),
        helper.make_node("Add", ["images", "shift"], ["logits"]),
    ]
    shape = ["batch", 1, 8, 8]
    graph = helper.make_graph(
        nodes, "net", [told("images", TensorProto.FLOAT, shape)], [told("logits", TensorProto.FLOAT, shape)]
    )
    save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)]), box / "net.onnx")
    return ["eval", "net.onnx", "--model", "digits"]


# Weights and data


def weights(name: str, content: bytes) -> Case:
    def make(box: Path) -> list[str]:
        (box / name).write_bytes(content)
        return ["inspect", "--model", "digits", "--weights", name]

    return make


def saved(value: Any) -> bytes:
    buffer = io.BytesIO()
    torch.save(value, buffer)
    return buffer.getvalue()


def npz(array: bytes) -> Case:
    def make(box: Path) -> list[str]:
        for part in ("train", "val"):
            with zipfile.ZipFile(box / f"{part}.npz", "w") as archive:
                archive.writestr("x.npy", array)
                archive.writestr("y.npy", array)
        return ["eval", "--model", "cifar-plain20", "--data", "cifar10:."]

    return make


def npy_header(shape: tuple[int, ...]) -> bytes:
    buffer = io.BytesIO()
    np.lib.format.write_array_header_1_0(buffer, {"descr": "|u1", "fortran_order": False, "shape": shape})
    return buffer.getvalue()


def npy_object() -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, np.array([Trap()], dtype=object), allow_pickle=True)
    return buffer.getvalue()


def batches(box: Path) -> list[str]:
    folder = box / "cifar-10-batches-py"
    folder.mkdir()
    for name in (*(f"data_batch_{number}" for number in range(1, 6)), "test_batch"):
        (folder / name).write_bytes(pickle.dumps(Trap()))
    return ["eval", "--model", "cifar-plain20", "--data", "cifar10:."]


def idx(images: int, members: int = 0) -> Case:
    """Write Fashion-MNIST's files, which claim so many images, and unpack to so many times 64 MiB."""

    def make(box: Path) -> list[str]:
        zeros = gzip.compress(bytes(1 << 26)) * members
        for part in ("train", "t10k"):
            for kind, sizes in (("images-idx3", (images, 28, 28)), ("labels-idx1", (images,))):
                content = struct.pack(f">{1 + len(sizes)}I", 0x800 + len(sizes), *sizes)
                (box / f"{part}-{kind}-ubyte.gz").write_bytes(gzip.compress(content) + zeros)
        return ["eval", "--model", "cifar-plain20", "--data", "fashion-mnist:."]

    return make


DEEP = "[" * 100_000
HUGE = b'{"a":{"dtype":"F32","shape":[1000000,1000000],"data_offsets":[0,4000000000000]}}'
CASES: dict[str, Case] = {
    # .pt2
    "pt2 that maps a file and fills it": calls(
        "torch.ops.aten.from_file.default",
        ("filename", {"as_string": "../victim"}), ("shared", {"as_bool": True}), ("size", {"as_int": 4}),
        then=("torch.ops.aten.fill_.Scalar", (("self", {"as_string": "x"}), ("value", {"as_int": 0}))),
    ),
    "pt2 that calls os.mkdir": calls("os.mkdir", ("path", {"as_string": MARK})),
    "pt2 that calls a module's function": calls(f"{STRANGER}.thing"),
    "pt2 that loops": calls("torch.ops.higher_order.while_loop"),
    "pt2 that fills the memory": pt2(zeros),
    "pt2 with a tower of powers": pt2(tower),
    "pt2 with a name that is code": pt2(code_as_name),
    "pt2 with a size that is code": pt2(code_as_size),
    "pt2 with a path to elsewhere": pt2(unchanged, **{"../../victim": b"x", "net/../../../victim": b"x"}),
    "pt2 with a pickle": pt2(unchanged, **{"x/data/weights/weight_9": pickle.dumps(Trap()), "x/data.pkl": b"x"}),
    "onnx that loops without an end": endless,
    # run folders
    "config's model": config("model", f"{STRANGER}:thing"),
    "config's model in a file": config("model", f"{STRANGER}.py:thing"),
    "config's data": config("data", f"{STRANGER}.py:thing"),
    "config's reward": config("reward", f"{STRANGER}:thing"),
    "config's agent": config("agent", f"{STRANGER}:thing"),
    "config's agent with a path": config("agent", "../../victim"),
    "config's selection": config("select", f"{STRANGER}:thing"),
    "config's transform": config("transform", f"{STRANGER}:thing", *SEARCH, data="imagefolder:."),
    "config's cost": config(
        "budget", {"limits": [{"kind": f"{STRANGER}:thing", "value": 0.5, "unit": "ratio"}], "mode": "exact"}
    ),
    "config with a huge seed": config("seed", 2**63),
    "config with a huge batch": config("batch_size", 2**63),
    "config with a huge number of policies": config("episodes", 2**40),
    "config with huge images": config("input_shape", [1, 10**9, 10**9]),
    "config with images of words": config("input_shape", ["a", "b", "c"]),
    "config with a huge mean": config("mean", [10**400]),
    "config with a share of no number": config("min_keep", 10**400),
    "config that is deep": text("run/config.json", DEEP, *SEARCH),
    "config that is a pipe": pipe("run/config.json", *SEARCH),
    "policy's model": config("model", f"{STRANGER}.py:thing", *PRUNE),
    "policy that is deep": text("run/policy.json", DEEP, *PRUNE),
    "policy that is no JSON": text("run/policy.json", "\x00\x01", *PRUNE),
    "policy that is a pipe": pipe("run/policy.json", *PRUNE),
    "policy without an end": link("run/policy.json", "/dev/zero", *PRUNE),
    "journal with a path": journal({"agent": "../../victim"}, *SEARCH),
    "journal of another network": journal({"counts": {"conv1": 8}}, *SEARCH),
    "journal with a count above its group's": journal({"counts": {**COUNTS, "blocks.3.conv1": 10**9}}, *SEARCH),
    "journal with other costs": journal({"macs": 1}, *SEARCH),
    "journal with a policy outside the budget": journal({"feasible": False}, *SEARCH),
    "journal that is a link": link("run/episodes.jsonl", "../../victim", *SEARCH),
    "journal that is a pipe": pipe("run/episodes.jsonl", "report", "run", "--no-time"),
    "lock that is a link": link("run/.lock", "../../victim", *SEARCH),
    "rows that are a link": link("run/rows", "../..", *SEARCH),
    "report whose digests are elsewhere": report({"digests": {"../../victim": "0"}}, "report", "run", "--no-time"),
    "report whose rows are no rows": report({"rows": [{"name": "../../victim"}]}, "report", "run", "--no-time"),
    "report that is a pipe": pipe("run/report.json", "export", "run", "--format", "safetensors"),
    "fine-tuning that lies elsewhere": report(
        {"finetuned": [{"name": "../../../victim"}]}, "export", "run", "--finetuned", "../../../victim", "--format", "safetensors"
    ),
    "weights of a run that are a pipe": pipe("run/model.safetensors", "eval", "run"),
    # records of exports
    "record whose run names code": sidecar(RECORD),
    "record with another run's path": sidecar({**RECORD, "run": "../../../../../../etc"}),
    "record with a fine-tuning elsewhere": sidecar({**RECORD, "finetuned": "../../victim"}),
    "record with a fine-tuning that is a number": sidecar({**RECORD, "finetuned": 7}),
    "record that is deep": sidecar(DEEP),
    # weights
    "weights that are a pickle": weights("w.pth", saved({"a": Trap()})),
    "weights of another kind": weights("w.pth", pickle.dumps(Trap())),
    "weights with a huge header": weights("w.safetensors", struct.pack("<Q", 2**63) + b"{}"),
    "weights larger than their file": weights("w.safetensors", struct.pack("<Q", 80) + HUGE.ljust(80)),
    # data sets
    "data of a million million items": npz(npy_header((10**9, 32, 32, 3))),
    "data that are objects": npz(npy_object()),
    "data that are pickles": batches,
    "data larger than their file": idx(2**32 - 1),
    "data that unpack without an end": idx(1000, members=300),
}  # fmt: skip


def digests(folder: Path) -> dict[str, str]:
    """Return what the files below a folder hold; links are not followed."""
    files = (path for path in folder.rglob("*") if path.is_file() and not path.is_symlink())
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def watch(box: Path) -> Callable[[], list[str]]:
    """Begin to note what this process does outside ``box``; returns what gives the notes."""
    seen: list[str] = []
    home = os.path.realpath(box)
    changing = {"os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.truncate", "os.link", "os.symlink", "os.chmod"}
    starting = {"subprocess.Popen", "os.system", "os.exec", "os.posix_spawn", "os.fork", "os.forkpty", "socket.connect"}

    def elsewhere(path: object, *, links: bool = True) -> bool:
        if not isinstance(path, str | bytes | os.PathLike):
            return False  # a file that is open
        place = Path(os.fsdecode(path))
        real = os.path.realpath(place if links else place.parent)
        return not (real + "/").startswith(home + "/") and real != os.devnull

    def hook(event: str, given: tuple[Any, ...]) -> None:
        flags = (given[2] or 0) if event == "open" else 0
        writes = flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND)
        follows = event == "open" and not flags & os.O_NOFOLLOW  # the other events are about links themselves
        paths = given[:2] if event == "os.rename" else given[:1]
        if event == "os.mkdir" and Path(os.fsdecode(given[0])).is_dir():
            return  # nothing comes of it
        if event in starting or (
            (writes or event in changing) and any(elsewhere(path, links=follows) for path in paths)
        ):
            seen.append(f"{event} {given[0]!s:.200}")

    sys.addaudithook(hook)
    return lambda: seen


def session(name: str, place: Path) -> int:
    """Make a case and run its command, in a process of its own; returns its exit code."""
    box = place / "box"
    box.mkdir(parents=True)
    (place / "victim").write_bytes(PRECIOUS)
    (box / f"{STRANGER}.py").write_text(f"import os\nos.mkdir('{MARK}')\n\ndef thing(*given):\n    return 0\n")
    command = CASES[name](box)
    os.chdir(box)
    tempfile.tempdir = None
    os.environ |= {"TMPDIR": str(box), "TORCHINDUCTOR_CACHE_DIR": str(box)}
    write_json_atomic(place.with_suffix(".before"), digests(box))
    for handle in (1, 2):
        os.dup2(os.open(place.with_suffix(f".{handle}"), os.O_WRONLY | os.O_CREAT, 0o600), handle)
    seen = watch(box)
    try:
        return main(command)
    finally:
        found = list(seen())
        sys.stdout.flush()
        sys.stderr.flush()
        place.with_suffix(".seen").write_text("\n".join(found))


def forked(name: str, place: Path) -> dict[str, Any]:
    """Run a case in a fork, for some time; returns how it ended."""
    began = time.monotonic()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of threads, of which the child uses none
        child = os.fork()
    if child == 0:
        status = 99
        try:
            status = session(name, place)
        finally:
            os._exit(status)
    while (ended := os.waitpid(child, os.WNOHANG)) == (0, 0):
        if time.monotonic() - began > MOST_SECONDS:
            os.kill(child, signal.SIGKILL)  # its code is -9
        time.sleep(0.02)
    return {"code": os.waitstatus_to_exitcode(ended[1]), "seconds": round(time.monotonic() - began, 1), **left(place)}


def left(place: Path) -> dict[str, Any]:
    """Return what a case left behind."""
    box = place / "box"
    before = read_json(place.with_suffix(".before"))
    after = digests(box)
    said = place.with_suffix(".2").read_text()
    return {
        "said": said.splitlines()[-1] if said else "",
        "traceback": "Traceback" in said,
        "elsewhere": place.with_suffix(".seen").read_text().splitlines() if place.with_suffix(".seen").exists() else [],
        "victim": (place / "victim").read_bytes() == PRECIOUS and len(list(place.iterdir())) == 2,
        "ran": any(path.name == MARK for path in box.rglob("*")),
        "changed": sorted(path for path in before if after.get(path) != before[path]),
    }


def run_all(root: Path, names: list[str]) -> dict[str, Any]:
    """Run cases one after another."""
    known()
    if any(name.startswith("pt2") for name in names):
        plain_pt2()
    return {name: forked(name, root / f"{number:03d}") for number, name in enumerate(names)}


if __name__ == "__main__":
    sys.stdout.write(json.dumps(run_all(Path(sys.argv[1]), sys.argv[2:] or list(CASES))))
