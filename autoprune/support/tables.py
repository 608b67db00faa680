"""Text tables, drawn by rich: all of one look, and never narrower than what is in them, whatever the terminal's width."""

from __future__ import annotations

import io
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from autoprune.support.packages import lazy

if TYPE_CHECKING:
    import rich.box as boxes
    import rich.console as consoles
    import rich.table as tables
    import rich.text as texts
    from rich.console import Console, ConsoleOptions, RenderableType, RenderResult
    from rich.table import Table
    from rich.text import Text
else:
    boxes, consoles, tables, texts = (
        lazy(f"rich.{name}", "A text table needs") for name in ("box", "console", "table", "text")
    )

WIDE = 10_000
"""Columns of a console on which nothing is too wide."""
_RULE = "    \n    \n----\n    \n    \n    \n    \n    "  # a rule below the head, and nothing else (see `rich.box.Box`)
_LEAST = 20  # columns that a cell which may be wrapped has in any case


@dataclass(frozen=True)
class Grid:
    """A table that reaches beyond a terminal too narrow for it, instead of losing what is in it: print with ``crop=False``.

    Attributes:
        table: Rich's table.
        least: The fewest columns of a terminal that it needs.
    """

    table: Table
    least: int

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """Draw the table, at least as wide as it must be."""
        yield from console.render(self.table, options.update_width(max(self.least, options.max_width)))


def grid(
    head: Sequence[str], justify: str, lines: Sequence[Sequence[str | Text]], *, wrapped: Collection[str] = ()
) -> Grid:
    """Return a table whose columns are two spaces apart.

    Args:
        head: Column titles.
        justify: For each column "l" or "r": aligned to the left or to the right.
        lines: Cells, as many per line as there are titles.
        wrapped: Titles of columns whose cells may be wrapped where the terminal is narrow.
    """
    rows = [[texts.Text(cell) if isinstance(cell, str) else cell for cell in line] for line in (head, *lines)]
    table = tables.Table(box=boxes.Box(_RULE), show_edge=False, pad_edge=False, padding=(0, 1, 0, 0), header_style="")
    for number, (title, side) in enumerate(zip(head, justify, strict=True)):
        widest = max(row[number].cell_len for row in rows)
        table.add_column(
            rows[0][number],
            justify="left" if side == "l" else "right",
            no_wrap=title not in wrapped,
            min_width=min(widest, _LEAST) if title in wrapped else widest,
        )
    for row in rows[1:]:
        table.add_row(*row)
    return Grid(table, sum(column.min_width or 0 for column in table.columns) + 2 * (len(head) - 1))


def plain(what: RenderableType, *, width: int = WIDE) -> str:
    """Return what rich draws as text without colours, with lines of at most ``width`` characters where tables allow it."""
    console = consoles.Console(
        file=io.StringIO(), width=width, color_system=None, force_terminal=False, legacy_windows=False
    )
    with console.capture() as capture:
        console.print(what, crop=False)
    return "\n".join(line.rstrip() for line in capture.get().splitlines())


def aligned(head: Sequence[str], lines: Sequence[Sequence[str]], *, left: int = 1) -> str:
    """Return an aligned table with a rule below its head.

    Args:
        head: Column titles.
        lines: Cells, as many per line as there are titles.
        left: How many columns, from the first, are aligned to the left; the others are to the right.
    """
    return plain(grid(head, "l" * left + "r" * (len(head) - left), lines))
