"""Run folders made by hand, so that pages of any kind of run can be written in milliseconds."""

from __future__ import annotations

import random
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from autoprune.budget import Budget
from autoprune.evaluation import Score, standard_error
from autoprune.report import Row, build_report
from autoprune.runs import Episode, RunConfig, RunFolder
from autoprune.support.jsonl import to_line
from autoprune.support.strict_json import read_json, write_json_atomic

IMAGES = 2979
SIZES = {"stem": 16, "block.conv1": 32, "block.conv2": 64}
RULES = ("uniform", "shallow", "deep")
# Accuracy on the report part of each row.
ACCURACY = {"dense": 0.9201, "uniform": 0.8617, "shallow": 0.8812, "deep": 0.7811, "random": 0.8718, "tpe": 0.8815}


def make_run(
    path: Path,
    *,
    finished: bool = True,
    policies: int = 12,
    sizes: Mapping[str, int] = SIZES,
    accuracy: Mapping[str, float] = ACCURACY,
    images: int | None = IMAGES,
    notes: tuple[str, ...] = (),
    **config: Any,
) -> Path:
    """Write a run folder as a search would, of a model that was passed from Python (so nothing is traced)."""
    values: dict[str, Any] = {"model": "nets:Small", "data": "python", "agent": "tpe", "episodes": policies, "seed": 3}
    values.update(config)
    made = RunConfig(model_fingerprint="m" * 64, data_fingerprint="d" * 64, budget=Budget(0.5), **values)
    folder = RunFolder(path)
    folder.begin(made)
    rng = random.Random(made.seed)
    names = list(dict.fromkeys([*RULES, "random", made.agent]))
    episodes = [
        _episode(name, number, sizes, rng) for name in names for number in range(1 if name in RULES else policies)
    ]
    lines = [to_line(episode.to_record()) for episode in episodes]
    folder.episodes_path.write_text("".join(lines), encoding="utf-8")  # `append` waits for the disk after each
    rows = [_row(name, sizes, accuracy.get(name, accuracy["tpe"]), images, policies, rng) for name in ("dense", *names)]
    if finished:
        report = build_report(
            made, rows, episodes=episodes, held_out=images is not None, wall_s=75.5, version="9.8.7", notes=notes
        )
        write_json_atomic(path / "report.json", report)
    else:
        folder.write_row("uniform", rows[1].to_dict())
    return path


def tune(path: Path, name: str, *, epochs: int = 4, done: bool = True, scratch: bool = False) -> dict[str, Any]:
    """Write a fine-tuning into a run folder and its result into the report; returns the result."""
    folder = path / "finetune" / name
    folder.mkdir(parents=True)
    common = {"lr": 0.01, "search_loss": 0.4, "seconds": 1.0, "best": True}
    lines = [
        {"epoch": n, "train_loss": 1 / n, "search_accuracy": 0.85 + 0.01 * n, **common} for n in range(1, epochs + 1)
    ]
    (folder / "history.jsonl").write_text("".join(map(to_line, lines)), encoding="utf-8")
    result = {
        "metric": RunFolder(path).read_config().measure.to_dict(),
        "version": 1, "name": name, "epochs": epochs, "epochs_done": epochs, "best_epoch": epochs, "distilled": True,
        "from_scratch": scratch, "accuracy": 0.9106, "accuracy_se": 0.00523, "loss": 0.31, "search_accuracy": 0.9015,
        "macs": 500, "params": 50, "seed": 3, "wall_s": 9.0, "settings": {},
    }  # fmt: skip
    if done:
        write_json_atomic(folder / "result.json", result)
        report = read_json(path / "report.json")
        report.setdefault("finetuned", []).append(result)
        write_json_atomic(path / "report.json", report)
    return result


def time(path: Path) -> dict[str, Any]:
    """Write measured times into a run folder; returns them."""
    rows = [
        {
            "name": name,
            "target": target,
            "batch": batch,
            "ms": round(batch * share * 1.37, 4),
            "ms_iqr": 0.1,
            "ratio": share,
        }
        for name, share in (("dense", 1.0), ("uniform", 0.61), ("tpe", 0.64))
        for target in ("eager", "onnxruntime")
        for batch in (1, 32)
    ]
    timing = {
        "version": 1,
        "threads": 2,
        "device": "cpu",
        "torch": "2",
        "onnxruntime": "1",
        "cpu": "a <b> CPU",
        "rows": rows,
    }
    write_json_atomic(path / "timing.json", timing)
    return timing


def _counts(sizes: Mapping[str, int], rng: random.Random) -> dict[str, int]:
    return {name: rng.randint(1, size) for name, size in sizes.items()}


def _episode(name: str, number: int, sizes: Mapping[str, int], rng: random.Random) -> Episode:
    accuracy = rng.uniform(0.7, 0.87)
    score = Score(
        accuracy, 0.6, rng.randint(450, 500), rng.randint(30, 60), reward=accuracy - 1, seconds=0.2, cost=1.25
    )
    return Episode(name, number, _counts(sizes, rng), score, feasible=True, reused=False, elapsed_s=0.5 * number)


def _row(
    name: str, sizes: Mapping[str, int], accuracy: float, images: int | None, policies: int, rng: random.Random
) -> Row:
    dense = name == "dense"
    return Row(
        name=name,
        accuracy=accuracy,
        accuracy_se=standard_error(accuracy, images),
        search_accuracy=accuracy - 0.0123,
        loss=0.4321,
        search_reward=accuracy - 1.0123,
        macs=1000 if dense else 499,
        params=100 if dense else 57,
        policies_scored=0 if dense else 1 if name in RULES else policies,
        score_cost=None if dense else 1.25,
        images=None if dense else 1234.5 * policies,
        counts=dict(sizes) if dense else _counts(sizes, rng),
    )
