"""A network as columns: what each layer was as an outline, what is left of it filled."""

from __future__ import annotations

from autoprune.page._axes import Axis, make_axis
from autoprune.page._html import Html, el, legend_list
from autoprune.page._spec import Bar, Bars

KINDS = {"decided": "kept by the policy", "smaller": "what is left", "whole": "left whole"}
_JOIN = "M-4 0a4 4 0 1 0 8 0a4 4 0 1 0 -8 0zM-4 0h8M0 -4v8"  # a circled plus
_BOX = "M1 1H25V11H1z"
_WIDTH, _LEFT, _TOP, _PLOT = 1152, 62, 12, 230
_LETTER = 7.3  # average width of a character of a rotated label


def bars_figure(picture: Bars) -> Html:
    """Return the columns with title, legend and note as a ``figure``."""
    return el(
        "figure",
        el("h3", picture.title),
        el("div", bars_svg(picture), class_="wide", tabindex="0", role="group", aria_label=picture.title),
        legend_list(legend(picture)),
        el("figcaption", picture.note) if picture.note else None,
        id=picture.key,
    )


def legend(picture: Bars) -> list[tuple[Html, str]]:
    """Return the key of everything that is drawn, as a group of a drawing 26 wide and 12 high, and what it is."""
    used = {bar.kind for bar in picture.bars}
    entries = [(el("path", d=_BOX, class_=kind), text) for kind, text in KINDS.items() if kind in used]
    entries.append((el("path", d=_BOX, class_="before"), "before"))
    if any(bar.residual for bar in picture.bars):
        entries.append((el("path", d=_JOIN, transform="translate(13 6)", class_="join"), "crosses a residual join"))
    if picture.rule:
        entries.append((el("path", d="M0 6H26", class_="ruled"), f"kept by {picture.rule}"))
    return entries


def size(picture: Bars) -> tuple[int, int]:
    """Return width and height of the drawing."""
    longest = max((len(bar.name) for bar in picture.bars), default=0)
    return _WIDTH, round(_TOP + _PLOT + min(170.0, 14 + _LETTER * min(longest, 24)))


def bars_svg(picture: Bars) -> Html:
    """Return the drawing alone."""
    count = max(1, len(picture.bars))
    width, height = size(picture)
    y = make_axis([bar.before for bar in picture.bars], _TOP + _PLOT, _TOP, zero=True, count=4)
    pitch = (_WIDTH - _LEFT - 4) / count
    name = f"{picture.key}-title"
    middle = (y.start + y.end) / 2
    labels = max(1, -(-count * 12 // (_WIDTH - _LEFT)))
    return el(
        "svg",
        el("title", picture.title, id=name),
        el("path", d=" ".join(f"M{_LEFT} {y.at(t):.1f}H{_WIDTH}" for t in y.ticks), class_="grid"),
        *(
            el("text", y.label(t), x=_LEFT - 8, y=f"{y.at(t) + 4.5:.1f}", text_anchor="end", class_="tick")
            for t in y.ticks
        ),
        el("text", picture.y_label, x=14, y=middle, text_anchor="middle", transform=f"rotate(-90 14 {middle:.0f})"),
        *(
            _column(bar, _LEFT + place * pitch, pitch, y, label=place % labels == 0)
            for place, bar in enumerate(picture.bars)
        ),
        el("path", d=f"M{_LEFT} {y.start}H{_WIDTH}", class_="axis"),
        class_="chart",
        viewBox=f"0 0 {width} {height}",
        role="img",
        aria_labelledby=name,
    )


def _column(bar: Bar, left: float, pitch: float, y: Axis, *, label: bool) -> Html:
    width = min(0.74 * pitch, 40.0)
    start = left + (pitch - width) / 2
    top, kept, foot = y.at(bar.before), y.at(bar.after), y.start
    parts = [
        el("title", bar.title),
        el("rect", x=f"{left:.1f}", y=_TOP, width=f"{pitch:.1f}", height=_PLOT, class_="hit"),
        el(
            "rect",
            x=f"{start:.1f}",
            y=f"{kept:.1f}",
            width=f"{width:.1f}",
            height=f"{foot - kept:.1f}",
            class_=bar.kind,
        ),
        el("rect", x=f"{start:.1f}", y=f"{top:.1f}", width=f"{width:.1f}", height=f"{foot - top:.1f}", class_="before"),
    ]
    if bar.rule is not None:
        parts.append(el("path", d=f"M{start - 2:.1f} {y.at(bar.rule):.1f}h{width + 4:.1f}", class_="ruled"))
    if bar.residual:
        parts.append(el("path", d=_JOIN, transform=f"translate({left + pitch / 2:.1f} {top - 7:.1f})", class_="join"))
    if label:
        at = left + pitch / 2 + 4
        text = bar.name if len(bar.name) <= 24 else "…" + bar.name[-23:]
        parts.append(
            el("text", text, x=f"{at:.1f}", y=foot + 8, text_anchor="end", class_="tick",
               transform=f"rotate(-90 {at:.1f} {foot + 8:.0f})")
        )  # fmt: skip
    return el("g", *parts, class_="col")
