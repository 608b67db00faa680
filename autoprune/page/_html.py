"""Building HTML and SVG from Python calls. Whatever is not built here is escaped."""

from __future__ import annotations

import re
from collections.abc import Sequence

_UNPRINTABLE = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\ud800-\udfff\ufdd0-\ufdef\ufffe\uffff]")
_VOID = {"meta", "br", "input", "hr", "col", "link"}
_ESCAPES = {"&": "&amp;", "<": "&lt;", ">": "&gt;", '"': "&quot;", "'": "&#39;"}


class Html(str):
    """Text that is HTML already and is not escaped again."""

    __slots__ = ()


def escape(text: object) -> Html:
    """Return text as HTML; characters that HTML forbids become the replacement character."""
    if isinstance(text, Html):
        return text
    clean = _UNPRINTABLE.sub("\ufffd", str(text))
    return Html("".join(_ESCAPES.get(character, character) for character in clean))


def el(tag: str, /, *children: object, **attributes: object) -> Html:
    """Return one element.

    Args:
        tag: Its tag.
        *children: What is in it: `Html`, or anything else, which is escaped; None is left out.
        **attributes: Its attributes: ``class_`` is ``class``, ``data_row`` is ``data-row``. None and False are left out,
            True is an attribute without a value.
    """
    parts = [tag]
    for key, value in attributes.items():
        if value is None or value is False:
            continue
        attribute = key.rstrip("_").replace("_", "-")
        parts.append(attribute if value is True else f'{attribute}="{escape(value)}"')
    if tag in _VOID:
        return Html(f"<{' '.join(parts)}>")
    return Html(f"<{' '.join(parts)}>{join(*children)}</{tag}>")


def legend_list(entries: Sequence[tuple[Html, str]]) -> Html | None:
    """Return a legend of keys (groups of a drawing 26 wide and 12 high) and their names; None if it has no entry."""
    items = [
        el("li", el("svg", key, viewBox="0 0 26 12", aria_hidden="true"), el("span", name)) for key, name in entries
    ]
    return el("ul", *items, class_="legend") if items else None


def join(*children: object) -> Html:
    """Return children one after the other."""
    return Html("".join(escape(child) for child in children if child is not None))
