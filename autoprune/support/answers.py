"""What a network got right, or how well it did, image by image, as text that a table line can keep: bits or floats, base64."""

from __future__ import annotations

import base64
import binascii
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from autoprune.errors import UsageError

BoolArray: TypeAlias = npt.NDArray[np.bool_]
ByImage: TypeAlias = BoolArray | npt.NDArray[np.float64]
"""Which images were right, or numbers whose mean is the metric, shape (N,)."""
_FLOATS = "f4"


def pack(right: ByImage) -> str:
    """Return ``"N:BITS"`` for which of N images were right, shape (N,), or ``"N:f4:FLOATS"`` for numbers of single precision."""
    if right.dtype != np.bool_:
        return f"{len(right)}:{_FLOATS}:{base64.b64encode(right.astype('<f4').tobytes()).decode('ascii')}"
    return f"{len(right)}:{base64.b64encode(np.packbits(right.astype(np.bool_)).tobytes()).decode('ascii')}"


def unpack(text: str) -> ByImage:
    """Return which images were right, or their numbers, shape (N,), from what `pack` wrote.

    Raises:
        UsageError: if the text is damaged.
    """
    try:
        size, _, bits = text.partition(":")
        count = int(size)
        if bits.startswith(f"{_FLOATS}:"):
            numbers = np.frombuffer(base64.b64decode(bits.removeprefix(f"{_FLOATS}:"), validate=True), dtype="<f4")
            if not size.isdecimal() or count < 1 or len(numbers) != count or not np.isfinite(numbers).all():
                raise ValueError(f"{len(numbers)} numbers for {size} images")
            return numbers.astype(np.float64)
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
