"""Plain text: tables and values."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any


def short(value: Any) -> str:
    """Return ``value`` for a message; fingerprints and numbers of many digits are cut to their first 12 characters."""
    text = str(value)
    long = len(text) == 64 if isinstance(value, str) else len(text) > 40 and isinstance(value, int | float)
    return text[:12] + "…" if long else text


def aligned(head: Sequence[str], lines: Sequence[Sequence[str]], *, left: int = 1) -> str:
    """Return an aligned table with a rule below its head.

    Args:
        head: Column titles.
        lines: Cells, as many per line as there are titles.
        left: How many columns, from the first, are aligned to the left; the others are to the right.
    """
    cells = [list(head), *(list(line) for line in lines)]
    widths = [max(len(line[column]) for line in cells) for column in range(len(head))]
    text = [
        "  ".join(
            cell.ljust(width) if column < left else cell.rjust(width)
            for column, (cell, width) in enumerate(zip(line, widths, strict=True))
        ).rstrip()
        for line in cells
    ]
    text.insert(1, "-" * max(len(line) for line in text))
    return "\n".join(text)
