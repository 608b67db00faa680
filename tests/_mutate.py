"""Damage for valid input, drawn from a seed: of bytes (flips, cuts, repeats), of JSON (keys, types, nesting), of text."""

from __future__ import annotations

import copy
import json
import random
from collections.abc import Callable
from typing import Any

from autoprune.support.checksums import KEY, text_checksum, without_checksum
from autoprune.support.strict_json import to_json

NUMBERS = (0, -1, 1, 2**31, 2**63, 10**30, 10**4000, 1e308, -1e308, 5e-324, 0.5, -0.0)
VALUES: tuple[Any, ...] = (
    None, True, False, "", "x", "\x00", "é\u202e😀", "9" * 5000, "NaN", "../../x", [], {}, [[]], {"": {}}, [None], ["a", 1],
    *NUMBERS,
)  # fmt: skip
WORDS = (
    "NaN", "Infinity", "-Infinity", "1e999", "[" * 5000, "{" * 5000, '{"a":' * 5000, "\ud7ff", "\x00", '"', "9" * 5000, "-", ",",
    "null", "true", "0x10", "1_000", "٣", "=", ":", "a:b", "%s", "{}", " ", "\n", "e9", "inf", "nan", "x", "..", "1e400",
)  # fmt: skip


def of_bytes(data: bytes, rng: random.Random) -> bytes:
    """Return damaged bytes."""
    size = len(data)
    place, length = rng.randrange(size + 1), rng.choice((1, 2, 4, 8, 64))
    kind = rng.randrange(7)
    if kind == 0 and size:
        found = bytearray(data)
        for _ in range(rng.choice((1, 1, 1, 8))):
            found[rng.randrange(size)] ^= 1 << rng.randrange(8)
        return bytes(found)
    if kind == 1:
        return data[:place]
    if kind == 2:
        return data[:place] + data[place + length :]
    if kind == 3:
        return data[:place] + data[place : place + length] * 2 + data[place + length :]
    if kind == 4:
        return data[:place] + rng.randbytes(length) + data[place + length :]
    if kind == 5:
        return data[:place] + b"\xff" * length + data[place + length :]
    return data[:place] + rng.choice(WORDS).encode("utf-8") + data[place + rng.choice((0, length)) :]


def of_json(value: Any, rng: random.Random) -> Any:
    """Return damaged JSON values."""
    found = copy.deepcopy(value)
    places = list(_places(found))
    if not places:
        return rng.choice(VALUES)
    for _ in range(rng.choice((1, 1, 1, 2, 3))):
        where, key = rng.choice(places)
        if (isinstance(where, dict) and key not in where) or (isinstance(where, list) and key >= len(where)):
            continue
        kind = rng.randrange(6)
        if kind == 0:
            del where[key]
        elif kind == 1 and isinstance(where, dict):
            where[rng.choice(("", "x", f"{key} ", "version", "😀"))] = where[key]
        elif kind == 2 and isinstance(where, list):
            where.extend([where[key]] * rng.choice((1, 3)))
        elif kind == 3:
            where[key] = rng.choice(NUMBERS)
        elif kind == 4:
            where[key] = [where[key]]
        else:
            where[key] = copy.deepcopy(rng.choice(VALUES))
    return found


def _places(value: Any) -> Any:
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, item in list(items):
        yield value, key
        yield from _places(item)


def of_json_text(text: str, rng: random.Random) -> bytes:
    """Return a damaged JSON file: its values in three of four cases, else its bytes."""
    if rng.random() < 0.75:
        values = of_json(json.loads(text), rng)
        if isinstance(values, dict) and KEY in values and rng.random() < 0.9:  # most get past the checksum
            values[KEY] = text_checksum(to_json(without_checksum(values)))
        return json.dumps(values, ensure_ascii=rng.random() < 0.5).encode("utf-8", "surrogatepass")
    return of_bytes(text.encode(), rng)


def of_lines(text: str, rng: random.Random) -> bytes:
    """Return a damaged file of JSON lines."""
    lines = text.splitlines()
    place = rng.randrange(len(lines))
    if rng.random() < 0.2:
        return of_bytes(text.encode(), rng)
    damaged = of_json_text(lines[place], rng).replace(b"\n", b" ")
    encoded = [line.encode() for line in lines]
    encoded[place : place + 1] = [damaged] * rng.choice((1, 1, 2))
    return b"\n".join(encoded) + b"\n"


def of_text(text: str, rng: random.Random) -> str:
    """Return a damaged option."""
    for _ in range(rng.choice((1, 1, 2))):
        place, end = rng.randrange(len(text) + 1), rng.randrange(len(text) + 1)
        text = rng.choice((
            text[:place] + rng.choice(WORDS) + text[place:],
            text[:place] + rng.choice(WORDS) + text[end:],
            text[:place],
            text[:place] + text[place + 1 :],
            rng.choice(WORDS),
        ))  # fmt: skip
    return text


Damage = Callable[[Any, random.Random], Any]
