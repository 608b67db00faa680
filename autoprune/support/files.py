"""Files that are never half written: temporary file in the same folder, fsync, rename, fsync of the folder.

JSON here is strict: NaN and infinities are written as null, duplicate keys and numbers out of range are refused on reading.
Objects, lines of journals and safetensors carry a checksum (see `checksums.py`), which is compared on reading. Nothing is
created or cut through a symbolic link.
"""

from __future__ import annotations

import errno
import json
import math
import os
import re
import secrets
import stat
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import asdict, is_dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save
from torch import Tensor

from autoprune.errors import AutopruneError, UsageError
from autoprune.support.checksums import KEY, tensors_checksum, text_checksum, without_checksum

NO_LINK = getattr(os, "O_NOFOLLOW", 0)
"""Flag for opening what we create, append to or cut: a symbolic link in its place is refused."""
_TEMPORARY = re.compile(r"\.(.+)\.[0-9a-f]{8}\.tmp")


@contextmanager
def _writing(path: Path) -> Iterator[None]:
    """Turn the operating system's refusals into one sentence."""
    try:
        yield
    except OSError as error:
        if error.errno == errno.ELOOP and path.is_symlink():
            raise AutopruneError(
                f"Cannot write '{path}': it is a symbolic link, and nothing is written through one; put a file there or "
                "remove it."
            ) from error
        why = error.strerror or str(error)
        raise AutopruneError(f"Cannot write '{path}': {why}. Choose a writable folder with space.") from error


def make_folder(folder: Path) -> None:
    """Make a folder and those above it that are missing, each of them synced into its parent.

    Raises:
        AutopruneError: if it cannot be made.
    """
    with _writing(folder):
        _make_folder(folder)


def _make_folder(folder: Path) -> None:
    if folder.is_dir():
        return
    _make_folder(folder.parent)
    folder.mkdir(exist_ok=True)
    _sync_folder(folder.parent)


def try_folder(folder: Path) -> None:
    """Make a folder if need be, and a file in it, which is removed again.

    Raises:
        OSError: if that is not possible.
    """
    _make_folder(folder)
    probe = folder / f".write-test.{secrets.token_hex(4)}.tmp"
    os.close(open_own(probe, os.O_WRONLY | os.O_CREAT | os.O_EXCL))
    probe.unlink()


def is_temporary(name: str, of: Collection[str] | None = None) -> bool:
    """Whether a file's name is one that a write uses until it is done; of one of some files, where these are given."""
    found = _TEMPORARY.fullmatch(name)
    return found is not None and (of is None or found[1] in of)


def remove_temporaries(folder: Path, of: Collection[str] | None = None) -> None:
    """Remove the temporary files that a killed process left in a folder and below.

    Args:
        folder: The folder; it need not exist.
        of: Only those of files with these names, in the folder itself; None for all.

    Raises:
        AutopruneError: if one cannot be removed.
    """
    for path in folder.rglob("*.tmp") if of is None else folder.glob("*.tmp"):
        if is_temporary(path.name, of):
            with _writing(path):
                path.unlink(missing_ok=True)


def refuse_links(folder: Path, names: Collection[str] | None = None) -> None:
    """Refuse symbolic links among what a process will write.

    Args:
        folder: The folder.
        names: What will be written in it, files and folders; None for anything.

    Raises:
        UsageError: naming the link.
    """
    for path in sorted(folder.iterdir()):
        if names is not None and path.name not in names:
            continue
        if path.is_symlink():
            raise UsageError(
                f"'{path}' is a symbolic link, and nothing is written through one; put the file or folder itself there, or "
                "remove the link."
            )
        if path.is_dir():
            refuse_links(path)


def open_own(path: Path, flags: int) -> int:
    """Open a file of ours for writing, never through a symbolic link; made where ``os.O_CREAT`` says so.

    Args:
        path: The file.
        flags: As for ``os.open``.

    Returns:
        A descriptor, which the caller closes.

    Raises:
        OSError: if it cannot be opened, or is a symbolic link.
    """
    if not NO_LINK and path.is_symlink():
        raise OSError(f"'{path}' is a symbolic link")
    return os.open(path, flags | NO_LINK | getattr(os, "O_BINARY", 0) | getattr(os, "O_CLOEXEC", 0), 0o666)


def _write_all(handle: int, data: bytes) -> None:
    left = memoryview(data)
    while left:
        left = left[os.write(handle, left) :]


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
        _make_folder(path.parent)
        temporary = path.parent / f".{path.name}.{secrets.token_hex(4)}.tmp"
        try:
            os.close(open_own(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL))
            mode = temporary.stat().st_mode
            write(temporary)
            with temporary.open("rb+") as stream:
                os.fsync(stream.fileno())
            temporary.chmod(mode)  # What the umask says, whatever ``write`` made of it.
            temporary.replace(path)
        except BaseException:
            with suppress(OSError):
                temporary.unlink()
            raise
        _sync_folder(path.parent)


def write_bytes_atomic(path: str | os.PathLike[str], content: bytes) -> None:
    """Write bytes atomically; see `write_atomic`."""

    def write(temporary: Path) -> None:
        temporary.write_bytes(content)

    write_atomic(path, write)


def write_text_atomic(path: str | os.PathLike[str], text: str) -> None:
    """Write UTF-8 text atomically; see `write_atomic`."""
    write_bytes_atomic(path, text.encode("utf-8"))


def to_json(value: object, *, indent: int | None = None) -> str:
    """Return strict JSON for plain values, dataclasses, NumPy numbers and arrays, paths; what is not finite is null."""
    text = json.dumps(_plain(value), indent=indent, allow_nan=False, ensure_ascii=False)
    return text.encode("utf-8", "backslashreplace").decode("utf-8")  # half of a surrogate pair as JSON's escape


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


def _sealed(value: object) -> object:
    """Return what is written: an object gets a checksum over its other values as its last entry."""
    plain = _plain(value)
    if not isinstance(plain, dict):
        return plain
    values = without_checksum(plain)
    return {**values, KEY: text_checksum(to_json(values))}


def write_json_atomic(path: str | os.PathLike[str], value: object) -> None:
    """Write indented strict JSON atomically, an object with its checksum; see `write_atomic` and `to_json`."""
    write_text_atomic(path, to_json(_sealed(value), indent=2) + "\n")


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


def _of_64_bits(text: str) -> int:
    value = int(text)
    if not -(2**63) <= value < 2**64:
        raise ValueError(f"{text[:12]}… is out of range")
    return value


def parse_json(text: str) -> Any:
    """Parse strict JSON: no NaN, no infinities, no whole numbers of more than 64 bits, no duplicate keys.

    Raises:
        ValueError: with what is wrong and where.
    """
    return json.loads(
        text,
        object_pairs_hook=_strict_object,
        parse_constant=_no_constant,
        parse_float=_finite,
        parse_int=_of_64_bits,
    )


_FROM_A_SHELL = re.compile(r"/dev/(fd/\d+|stdin)|/proc/(self|\d+)/fd/\d+")


def _read(path: Path) -> bytes:
    """Return a file's content.

    Raises:
        OSError: if it cannot be read, or is a pipe or a device, which may never end (but for a shell's: ``<(command)``).
    """
    mode = path.stat().st_mode
    if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode) or _FROM_A_SHELL.fullmatch(str(path))):
        raise OSError(errno.EINVAL, "it is no regular file")
    return path.read_bytes()


def _opened(content: Any, *, sealed: bool) -> Any:
    """Return JSON without its checksum (ValueError if that is missing or wrong; only objects have one)."""
    if not isinstance(content, dict):
        return content
    values = without_checksum(content)
    if KEY not in content:
        if sealed:
            raise ValueError("it has no checksum")
    elif content[KEY] != text_checksum(to_json(values)):
        raise ValueError("its content does not match its checksum")
    return values


def read_json(path: str | os.PathLike[str], what: str = "file", *, sealed: bool = True) -> Any:
    """Return the content of a JSON file, of an object without its checksum.

    Args:
        path: The file.
        what: What it is, for messages ("policy").
        sealed: Whether an object without a checksum is refused; one with a wrong checksum always is.

    Raises:
        UsageError: if it is missing, unreadable or damaged.
    """
    try:
        content = parse_json(_read(Path(path)).decode("utf-8"))
    except FileNotFoundError as error:
        raise UsageError(f"The {what} '{path}' does not exist.") from error
    except OSError as error:
        raise UsageError(f"Cannot read the {what} '{path}': {error.strerror or error}.") from error
    except (ValueError, RecursionError) as error:
        raise UsageError(f"The {what} '{path}' is damaged: it is not valid JSON ({error}).") from error
    try:
        return _opened(content, sealed=sealed)
    except (ValueError, RecursionError) as error:
        way = "restore it" if sealed else f'restore it, or take its "{KEY}" out if the change is meant'
        raise UsageError(f"The {what} '{path}' is damaged or was edited: {error}; {way}.") from error


def to_line(record: Mapping[str, Any]) -> str:
    """Return the line of a journal that holds a record and its checksum."""
    return to_json(_sealed(record)) + "\n"


def append_jsonl(path: str | os.PathLike[str], record: Mapping[str, Any]) -> None:
    """Append one record with its checksum as a line and force it to the disk before returning.

    Raises:
        AutopruneError: if it cannot be written.
    """
    path = Path(path)
    line = to_line(record).encode("utf-8")
    with _writing(path):
        _make_folder(path.parent)
        new = not path.exists()
        handle = open_own(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
        try:
            _write_all(handle, line)
            os.fsync(handle)
        finally:
            os.close(handle)
        if new:
            _sync_folder(path.parent)


def _split_jsonl(path: Path, *, sealed: bool) -> tuple[list[dict[str, Any]], int]:
    """Return the whole records without their checksums, and the number of bytes they take."""
    try:
        data = _read(path)
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
            records.append(_opened(record, sealed=sealed))
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
        with _writing(path):
            handle = open_own(path, os.O_RDWR)
            try:
                os.ftruncate(handle, good)
                os.fsync(handle)
            finally:
                os.close(handle)
    return records


def save_safetensors_atomic(
    path: str | os.PathLike[str], tensors: Mapping[str, Tensor], *, metadata: Mapping[str, str] | None = None
) -> None:
    """Write tensors as safetensors atomically, with a checksum in the metadata.

    Of tied ones (same storage, shape and strides) the first is written.

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
    said = {**(metadata or {}), KEY: tensors_checksum(flat, metadata or {})}
    write_bytes_atomic(path, save(flat, metadata=said))  # safetensors' own writing has temporary files of other names


def load_safetensors(path: str | os.PathLike[str], *, device: str | torch.device = "cpu") -> dict[str, Tensor]:
    """Return the tensors of a safetensors file; their checksum, where the file has one, is compared.

    Raises:
        UsageError: if it is missing, unreadable or damaged.
    """
    return load_described(path, device=device)[0]


def load_described(
    path: str | os.PathLike[str], *, device: str | torch.device = "cpu"
) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Return the tensors of a safetensors file and its metadata; see `load_safetensors`."""
    path = Path(path)
    if not path.is_file():
        raise UsageError(f"The weights file '{path}' does not exist.")
    try:
        with safe_open(path, framework="pt") as opened:
            metadata: dict[str, str] = dict(opened.metadata() or {})
        tensors: dict[str, Tensor] = load_file(path, device="cpu")
    except (SafetensorError, OSError, ValueError) as error:
        raise UsageError(
            f"The weights file '{path}' cannot be read: it is damaged or not safetensors ({error})."
        ) from error
    if KEY in metadata and metadata[KEY] != tensors_checksum(tensors, metadata):
        raise UsageError(
            f"The weights file '{path}' is damaged: its tensors do not match its checksum; restore it or make it again."
        )
    return {name: tensor.to(device) for name, tensor in tensors.items()}, without_checksum(metadata)
