"""``FILE.json`` beside an exported file: what it is, and how it was verified."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from autoprune.errors import UsageError
from autoprune.support.strict_json import read_json, write_json_atomic

RECORD_VERSION = 1


def record_path(file: Path) -> Path:
    """Return where the record of an exported file lies: "model.onnx.json" beside "model.onnx"."""
    return file.with_name(file.name + ".json")


def write_record(file: Path, values: dict[str, Any]) -> None:
    """Write the record of an exported file.

    Raises:
        AutopruneError: if it cannot be written.
    """
    write_json_atomic(record_path(file), {"version": RECORD_VERSION, **values})


def read_record(file: Path) -> dict[str, Any] | None:
    """Return the record of an exported file, None if there is none.

    Raises:
        UsageError: if it is damaged or of another version.
    """
    path = record_path(file)
    if not path.is_file():
        return None
    values = read_json(path, "record of the export")
    version = values.get("version") if isinstance(values, dict) else None
    if version != RECORD_VERSION:
        raise UsageError(
            f"The record '{path}' has version {version!r}, but this autoprune reads version {RECORD_VERSION}; "
            "remove it, or use the autoprune that wrote it."
        )
    for key, kind in (("format", str), ("sha256", str), ("network", str), ("dynamic_batch", bool)):
        if not isinstance(values.get(key), kind):
            raise UsageError(f"The record '{path}' is damaged: its '{key}' is {values.get(key)!r:.40}; export again.")
    return dict(values)
