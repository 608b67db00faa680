"""Measured times as text."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from autoprune.support.tables import aligned


def timing_table(rows: Sequence[Mapping[str, Any]]) -> str:
    """Return rows of times as an aligned table: one line a network, one column for each target and batch size.

    A cell is the median of one batch in ms and, in brackets, its share of the first network's time; with a ~ where
    the shares are not known to 2 %.
    """
    kinds = list(dict.fromkeys((row["target"], row["batch"]) for row in rows))
    names = list(dict.fromkeys(row["name"] for row in rows))
    cells = {(row["name"], row["target"], row["batch"]): _cell(row, first=row["name"] == names[0]) for row in rows}
    head = ("ms", *(f"{target}, batch {batch}" for target, batch in kinds))
    return aligned(head, [(name, *(cells.get((name, *kind), "-") for kind in kinds)) for name in names])


def _cell(row: Mapping[str, Any], *, first: bool) -> str:
    if first:
        return f"{row['ms']:.3g}"
    return f"{row['ms']:.3g} ({'' if row['precise'] else '~'}{row['ratio']:.2f})"
