"""Files that are never half written: temporary file in the same folder, fsync, rename, fsync of the folder.

JSON here is strict: NaN and infinities are written as null, duplicate keys are refused on reading.
"""

from __future__ import annotations

import json
import math
import os
import secrets
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import asdict, is_dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from autoprune.errors import AutopruneError, UsageError


@contextmanager
def _writing(path: Path) -> Iterator[None]:
    """Turn the operating system's refusals into one sentence."""
    try:
        yield
    except OSError as error:
        why = error.strerror or str(error)
        raise AutopruneError(f"Cannot write '{path}': {why}. Choose a writable folder with space.") from error


def _sync_folder(folder: Path) -> None:
    with suppress(OSError):  # Some file systems cannot sync a folder; the rename itself has happened.
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def write_atomic(path: str | os.PathLike[str], write: Callable[[Path], None]) -> None:
    """Let ``write`` make a file under a temporary name, then put it in the place of ``path`` in one step.

    Folders that are missing are made. On failure ``path`` is what it was.

    Raises:
        AutopruneError: if the folder cannot be written or the disk is full.
    """
    path = Path(path)
    with _writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.parent / f".{path.name}.{secrets.token_hex(4)}.tmp"
        try:
            temporary.touch()
            mode = temporary.stat().st_mode
            try:
                write(temporary)
            except SafetensorError as error:  # Its message carries the operating system's.
                raise OSError(str(error)) from error
            with temporary.open("rb+") as stream:
                os.fsync(stream.fileno())
            temporary.chmod(mode)  # What the umask says, whatever ``write`` made of it.
            temporary.replace(path)
        except BaseException:
            with suppress(OSError):
                temporary.unlink()
            raise
        _sync_folder(path.parent)


def write_text_atomic(path: str | os.PathLike[str], text: str) -> None:
    """Write UTF-8 text atomically; see `write_atomic`."""

    def write(temporary: Path) -> None:
        temporary.write_text(text, encoding="utf-8", newline="\n")

    write_atomic(path, write)


def to_json(value: object, *, indent: int | None = None) -> str:
    """Return strict JSON for plain values, dataclasses, NumPy numbers and arrays, paths; what is not finite is null."""
    return json.dumps(_plain(value), indent=indent, allow_nan=False, ensure_ascii=False)


def _plain(value: object) -> object:
    if value is None or isinstance(value, (bool, int, str)):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, np.generic):
        return _plain(value.item())
    if isinstance(value, (np.ndarray, Tensor)):
        return _plain(value.tolist())
    if is_dataclass(value) and not isinstance(value, type):
        return _plain(asdict(value))
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple, set, frozenset)):
        return [_plain(item) for item in (sorted(value) if isinstance(value, (set, frozenset)) else value)]
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    raise TypeError(f"{type(value).__name__} cannot be written as JSON")


def write_json_atomic(path: str | os.PathLike[str], value: object) -> None:
    """Write indented strict JSON atomically; see `write_atomic` and `to_json`."""
    write_text_atomic(path, to_json(value, indent=2) + "\n")


def _strict_object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    result = dict(pairs)
    if len(result) != len(pairs):
        raise ValueError("a key occurs twice")
    return result


def _no_constant(name: str) -> Any:
    raise ValueError(f"{name} is not JSON")


def _finite(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise ValueError(f"{text} is out of range")
    return value


def parse_json(text: str) -> Any:
    """Parse strict JSON: no NaN, no infinities, no duplicate keys.

    Raises:
        ValueError: with what is wrong and where.
    """
    return json.loads(text, object_pairs_hook=_strict_object, parse_constant=_no_constant, parse_float=_finite)


def read_json(path: str | os.PathLike[str], what: str = "file") -> Any:
    """Return the content of a JSON file.

    Args:
        path: The file.
        what: What it is, for messages ("policy").

    Raises:
        UsageError: if it is missing, unreadable or damaged.
    """
    try:
        return parse_json(Path(path).read_bytes().decode("utf-8"))
    except FileNotFoundError as error:
        raise UsageError(f"The {what} '{path}' does not exist.") from error
    except OSError as error:
        raise UsageError(f"Cannot read the {what} '{path}': {error.strerror or error}.") from error
    except (ValueError, RecursionError) as error:
        raise UsageError(f"The {what} '{path}' is damaged: it is not valid JSON ({error}).") from error


def append_jsonl(path: str | os.PathLike[str], record: Mapping[str, Any]) -> None:
    """Append one record as a line and force it to the disk before returning.

    Raises:
        AutopruneError: if it cannot be written.
    """
    path = Path(path)
    line = (to_json(record) + "\n").encode("utf-8")
    with _writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        new = not path.exists()
        with path.open("ab") as stream:
            stream.write(line)
            stream.flush()
            os.fsync(stream.fileno())
        if new:
            _sync_folder(path.parent)


def _split_jsonl(path: Path) -> tuple[list[dict[str, Any]], int]:
    """Return the whole records and the number of bytes they take."""
    try:
        data = path.read_bytes()
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
        records.append(record)
        good += len(line) + 1
    return records, good


def read_jsonl(path: str | os.PathLike[str]) -> list[dict[str, Any]]:
    """Return the records of a file written by `append_jsonl`, without a torn last line; none if there is no file.

    Raises:
        UsageError: if an earlier line is damaged.
    """
    return _split_jsonl(Path(path))[0]


def repair_jsonl(path: str | os.PathLike[str]) -> list[dict[str, Any]]:
    """Cut a torn last line off the file so that it can be appended to, and return the records."""
    path = Path(path)
    records, good = _split_jsonl(path)
    if path.exists() and path.stat().st_size > good:
        with _writing(path), path.open("rb+") as stream:
            stream.truncate(good)
            os.fsync(stream.fileno())
    return records


def save_safetensors_atomic(
    path: str | os.PathLike[str], tensors: Mapping[str, Tensor], *, metadata: Mapping[str, str] | None = None
) -> None:
    """Write tensors as safetensors atomically. Of tied ones (same storage, shape and strides) the first is written.

    Raises:
        AutopruneError: if it cannot be written.
    """
    seen: set[tuple[object, ...]] = set()
    flat: dict[str, Tensor] = {}
    for name, tensor in tensors.items():
        key = (tensor.device, tensor.dtype, tensor.data_ptr(), tuple(tensor.shape), tensor.stride())
        if tensor.numel() and tensor.data_ptr() and key in seen:
            continue
        seen.add(key)
        flat[name] = tensor.detach().to("cpu", copy=True).contiguous()

    def write(temporary: Path) -> None:
        save_file(flat, temporary, metadata=dict(metadata) if metadata is not None else None)

    write_atomic(path, write)


def load_safetensors(path: str | os.PathLike[str], *, device: str | torch.device = "cpu") -> dict[str, Tensor]:
    """Return the tensors of a safetensors file.

    Raises:
        UsageError: if it is missing, unreadable or damaged.
    """
    path = Path(path)
    if not path.is_file():
        raise UsageError(f"The weights file '{path}' does not exist.")
    try:
        tensors: dict[str, Tensor] = load_file(path, device=str(device))
    except (SafetensorError, OSError, ValueError) as error:
        raise UsageError(
            f"The weights file '{path}' cannot be read: it is damaged or not safetensors ({error})."
        ) from error
    return tensors
