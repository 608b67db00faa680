"""A strict reading of a page with the standard library's parser."""

from __future__ import annotations

from html.parser import HTMLParser

VOID = {"meta", "br", "input", "hr", "col", "link", "img"}


class Page(HTMLParser):
    """Reads a page; every element must be closed in order.

    Attributes:
        values: (data-row, data-field) -> data-value of every cell.
        groups: data-group -> data-value.
        tags: Names of all elements, in order.
        attributes: (tag, attribute, value) of all attributes.
        text: All text outside the style sheet.
        ids: All ids.
    """

    def __init__(self, source: str) -> None:
        super().__init__(convert_charrefs=True)
        self.values: dict[tuple[str, str], str] = {}
        self.groups: dict[str, str] = {}
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str, str]] = []
        self.ids: list[str] = []
        self._text: list[str] = []
        self._open: list[str] = []
        self.feed(source)
        self.close()
        assert not self._open, self._open
        self.text = "".join(self._text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = {name: value or "" for name, value in attrs}
        assert len(found) == len(attrs), (tag, attrs)
        self.tags.append(tag)
        self.attributes += [(tag, name, value) for name, value in found.items()]
        if "id" in found:
            self.ids.append(found["id"])
        if "data-field" in found:
            self.values[found["data-row"], found["data-field"]] = found["data-value"]
        if "data-group" in found:
            self.groups[found["data-group"]] = found["data-value"]
        if tag not in VOID:
            self._open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self._open, tag
        assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        if "style" not in self._open:
            self._text.append(data)
