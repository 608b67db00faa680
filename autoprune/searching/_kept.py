"""Finished networks on disk while a search runs, so that a stop costs at most the one that was being finished."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from autoprune.budget import AnyDrop, read_drop
from autoprune.errors import AutopruneError
from autoprune.evaluation import ACCURACY, Metric, Score
from autoprune.graph import IntArray
from autoprune.searching._driven import Finished
from autoprune.support.answers import ByImage, pack, unpack
from autoprune.support.checksums import text_checksum
from autoprune.support.strict_json import parse_json, to_json
from autoprune.support.tensors import load_described, save_safetensors_atomic

_RECORD = "finished"


@dataclass(frozen=True, eq=False)
class Kept:
    """A finished network as it is on disk.

    Attributes:
        state: The small network's state dict; of tied tensors the first.
        kept: Channels that stay, by group name.
        search: Its score on the search part.
        report: Its score on the report part, None if there is none.
        right: Which images it got right, see `autoprune.problem.Finished`.
        drop: What it lost, likewise.
    """

    state: Mapping[str, Tensor]
    kept: dict[str, IntArray]
    search: Score
    report: Score | None
    right: ByImage | None
    drop: AnyDrop | None


def write_kept(folder: Path, counts: Sequence[int], finished: Finished) -> None:
    """Keep a finished network: one file, weights and scores, so that it is there whole or not at all.

    Args:
        folder: Where to.
        counts: Kept channels of each decision, what it is found by.
        finished: The network.

    Raises:
        AutopruneError: if it cannot be written.
    """
    record = {
        "counts": list(counts),
        "kept": dict(finished.kept),
        "search": finished.search.to_dict(),
        "report": None if finished.report is None else finished.report.to_dict(),
        "right": None if finished.right is None else pack(finished.right),
        "drop": None if finished.drop is None else finished.drop.to_dict(),
    }
    save_safetensors_atomic(_path(folder, counts), finished.model.state_dict(), metadata={_RECORD: to_json(record)})


def read_kept(folder: Path, counts: Sequence[int], metric: Metric = ACCURACY) -> Kept | None:
    """Return a finished network; None if it is not there or was damaged, so that it has to be finished again.

    Args:
        folder: Where finished networks are kept.
        counts: Kept channels of each decision.
        metric: What the run measures.
    """
    path = _path(folder, counts)
    if not path.is_file():
        return None
    try:
        state, metadata = load_described(path)
        record: Any = parse_json(metadata[_RECORD])
        if record["counts"] != list(counts):
            return None
        return Kept(
            state,
            {str(name): np.asarray(indices, dtype=np.int64) for name, indices in record["kept"].items()},
            Score.from_record(record["search"], metric),
            None if record["report"] is None else Score.from_record(record["report"], metric),
            None if record["right"] is None else unpack(record["right"]),
            None if record["drop"] is None else read_drop(record["drop"]),
        )
    except (AutopruneError, ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError):
        return None


def remove_kept(folder: Path) -> None:
    """Remove all finished networks, if there are any, and their folder unless something else lies in it.

    Raises:
        AutopruneError: if one cannot be removed.
    """
    if not folder.is_dir():
        return
    try:
        for path in folder.glob("*.safetensors"):
            path.unlink()
        if not any(folder.iterdir()):
            folder.rmdir()
    except OSError as error:
        raise AutopruneError(
            f"Cannot remove the networks in '{folder}' that the search no longer needs: {error.strerror or error}."
        ) from error


def _path(folder: Path, counts: Sequence[int]) -> Path:
    return folder / f"{text_checksum(to_json(list(counts)))}.safetensors"
