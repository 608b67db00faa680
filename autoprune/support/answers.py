"""Which images a network got right, as text that a table line can keep: one bit an image, base64."""

from __future__ import annotations

import base64
import binascii
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from autoprune.errors import UsageError

BoolArray: TypeAlias = npt.NDArray[np.bool_]


def pack(right: BoolArray) -> str:
    """Return ``"N:BITS"`` for which of N images were right, shape (N,)."""
    return f"{len(right)}:{base64.b64encode(np.packbits(right).tobytes()).decode('ascii')}"


def unpack(text: str) -> BoolArray:
    """Return which images were right, shape (N,), from what `pack` wrote.

    Raises:
        UsageError: if the text is damaged.
    """
    try:
        size, _, bits = text.partition(":")
        count = int(size)
        packed = np.frombuffer(base64.b64decode(bits, validate=True), dtype=np.uint8)
        if not size.isdecimal() or count < 1 or len(packed) != (count + 7) // 8:
            raise ValueError(f"{len(packed)} bytes for {size} images")
        if np.unpackbits(packed)[count:].any():
            raise ValueError("a bit is set behind the last image")
    except (ValueError, binascii.Error, AttributeError) as error:
        raise UsageError(
            f"The answers by image of a finished network are damaged ({error}); restore the file."
        ) from error
    return np.unpackbits(packed, count=count).astype(bool)
