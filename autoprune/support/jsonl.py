"""Journals: files of one JSON object a line, each on the disk before the next, of which a stop can tear only the last."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from autoprune.errors import UsageError
from autoprune.support.files import append_bytes, cut_file, read_regular
from autoprune.support.strict_json import parse_json, seal, to_json, unseal


def to_line(record: Mapping[str, Any]) -> str:
    """Return the line of a journal that holds a record and its checksum."""
    return to_json(seal(record)) + "\n"


def append_jsonl(path: str | os.PathLike[str], record: Mapping[str, Any]) -> None:
    """Append one record with its checksum as a line and force it to the disk before returning.

    Raises:
        AutopruneError: if it cannot be written.
    """
    append_bytes(path, to_line(record).encode("utf-8"))


def _split_jsonl(path: Path, *, sealed: bool) -> tuple[list[dict[str, Any]], int]:
    """Return the whole records without their checksums, and the number of bytes they take."""
    try:
        data = read_regular(path)
    except FileNotFoundError:
        return [], 0
    except OSError as error:
        raise UsageError(f"Cannot read '{path}': {error.strerror or error}.") from error
    records: list[dict[str, Any]] = []
    good = 0
    lines = data.split(b"\n")
    for number, line in enumerate(lines[:-1], start=1):
        try:
            record = parse_json(line.decode("utf-8"))
            if not isinstance(record, dict):
                raise ValueError("not an object")
        except (ValueError, RecursionError) as error:
            if number == len(lines) - 1 and not lines[-1]:
                break  # Torn: a later block of the last line reached the disk before an earlier one.
            raise UsageError(
                f"Line {number} of '{path}' is damaged ({error}); restore the file or start anew."
            ) from error
        try:  # A torn line is no JSON: one that is, with another checksum, was damaged or edited.
            records.append(unseal(record, sealed=sealed))
        except (ValueError, RecursionError) as error:
            raise UsageError(
                f"Line {number} of '{path}' is damaged or was edited ({error}); restore the file or start anew."
            ) from error
        good += len(line) + 1
    return records, good


def read_jsonl(path: str | os.PathLike[str], *, sealed: bool = True) -> list[dict[str, Any]]:
    """Return the records of a file written by `append_jsonl`, without a torn last line; none if there is no file.

    Args:
        path: The file.
        sealed: Whether lines without a checksum are refused; those with a wrong one always are.

    Raises:
        UsageError: if a line is damaged, other than by a stop while it was written.
    """
    return _split_jsonl(Path(path), sealed=sealed)[0]


def repair_jsonl(path: str | os.PathLike[str], *, sealed: bool = True) -> list[dict[str, Any]]:
    """Cut a torn last line off the file so that it can be appended to, and return the records; see `read_jsonl`."""
    path = Path(path)
    records, good = _split_jsonl(path, sealed=sealed)
    if path.exists() and path.stat().st_size > good:
        cut_file(path, good)
    return records
