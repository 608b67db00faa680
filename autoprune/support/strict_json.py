"""Strict JSON with checksums: one text for one value, nothing that other parsers would read differently.

NaN and infinities are written as null; duplicate keys and numbers out of range are refused on reading. Objects carry a checksum
(see `checksums`) as their last entry, which is compared on reading.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Mapping
from dataclasses import asdict, is_dataclass
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from autoprune.errors import UsageError
from autoprune.support.checksums import KEY, text_checksum, without_checksum
from autoprune.support.files import read_regular, write_text_atomic


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


def seal(value: object) -> object:
    """Return what is written: an object gets a checksum over its other values as its last entry."""
    plain = _plain(value)
    if not isinstance(plain, dict):
        return plain
    values = without_checksum(plain)
    return {**values, KEY: text_checksum(to_json(values))}


def write_json_atomic(path: str | os.PathLike[str], value: object) -> None:
    """Write indented strict JSON atomically, an object with its checksum; see `to_json` and `autoprune.support.files`."""
    write_text_atomic(path, to_json(seal(value), indent=2) + "\n")


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


def unseal(content: Any, *, sealed: bool) -> Any:
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
        content = parse_json(read_regular(Path(path)).decode("utf-8"))
    except FileNotFoundError as error:
        raise UsageError(f"The {what} '{path}' does not exist.") from error
    except OSError as error:
        raise UsageError(f"Cannot read the {what} '{path}': {error.strerror or error}.") from error
    except (ValueError, RecursionError) as error:
        raise UsageError(f"The {what} '{path}' is damaged: it is not valid JSON ({error}).") from error
    try:
        return unseal(content, sealed=sealed)
    except (ValueError, RecursionError) as error:
        way = "restore it" if sealed else f'restore it, or take its "{KEY}" out if the change is meant'
        raise UsageError(f"The {what} '{path}' is damaged or was edited: {error}; {way}.") from error
