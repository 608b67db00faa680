"""Tables, and cells that say their number exactly, too."""

from __future__ import annotations

from collections.abc import Sequence

from autoprune.page._html import Html, el


def value_cell(name: str, field: str, value: float | int | None, text: str) -> Html:
    """Return a table cell that says its number exactly too."""
    return el("td", text, data_row=name, data_field=field, data_value="" if value is None else repr(value))


def table_box(name: str, caption: str, head: Sequence[str], lines: Sequence[Html], *, label: str) -> Html:
    """Return a table in a box that scrolls sideways where it does not fit.

    Args:
        name: Its ``data-table``.
        caption: Said above it.
        head: Titles of the columns.
        lines: Its ``tr`` elements.
        label: What the box is, for screen readers.
    """
    return el(
        "div",
        el(
            "table",
            el("caption", caption),
            el("thead", el("tr", *(el("th", text, scope="col") for text in head))),
            el("tbody", *lines),
            data_table=name,
        ),
        class_="scroll",
        tabindex="0",
        role="group",
        aria_label=label,
    )
