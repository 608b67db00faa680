"""What ``autoprune inspect`` says, for people: a tree of layers with their coupling groups, the groups, and what stays whole."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Group, RenderableType
from rich.text import Text

from autoprune.budget import amount
from autoprune.support.tables import WIDE, Grid, grid, plain

COLOURS = (
    *("bright_cyan", "bright_magenta", "bright_green", "bright_yellow", "bright_blue", "bright_red"),
    *("cyan", "magenta", "green", "yellow", "blue", "red"),
)
WHOLE = "dim"
_SHOWN = 3  # groups of one layer, and layers of one group, that are written out
_NUMBER = re.compile(r"\d+")


def inspection_view(found: Mapping[str, Any]) -> RenderableType:
    """Return what `inspect_model` found, for a terminal; coupling groups by letter and colour."""
    styles = _styles(found["groups"])
    tables = (_layers(found, styles), _groups(found["groups"], styles))
    parts: list[RenderableType] = [_title(found), *(part for table in tables for part in ("", table)), ""]
    limits = (_left_whole(found["groups"], styles), _bounded(found["groups"], styles))
    for text in (*limits, _refusals(found), _notes(found), _budgets(found)):
        if text:
            parts += [text, ""]
    return Group(*parts[:-1])


def inspection_text(found: Mapping[str, Any], *, width: int = WIDE) -> str:
    """Return the same as plain text, with lines of at most ``width`` characters where tables allow it."""
    return plain(inspection_view(found), width=width)


def _styles(groups: Sequence[Mapping[str, Any]]) -> dict[str, tuple[str, str]]:
    """Return group name -> (letter, style); colours go round among the groups that can be pruned."""
    styles: dict[str, tuple[str, str]] = {}
    number = 0
    for group in groups:
        style = WHOLE
        if group["prunable"]:
            style = f"bold {COLOURS[number % len(COLOURS)]}" + (" underline" if group["kind"] == "residual" else "")
            number += 1
        styles[group["name"]] = (group["letter"], style)
    return styles


def _title(found: Mapping[str, Any]) -> Text:
    shape = "x".join(str(n) for n in found.get("input_shape", ()))
    text = Text.assemble((str(found.get("model", "network")), "bold"))
    if shape:
        text.append(f" on {shape}")
    return text.append(f": {found['macs']:,} MACs, {found['params']:,} parameters, {len(found['layers'])} layers")


def _layers(found: Mapping[str, Any], styles: Mapping[str, tuple[str, str]]) -> Grid:
    lines: list[list[str | Text]] = []
    layers = found["layers"]
    most = max((layer["macs"] for layer in layers), default=1)
    for prefix, name, layer in tree_rows([layer["name"] for layer in layers]):
        first = Text.assemble((prefix, "dim"), name)
        if layer is None:
            first.stylize("dim")
            lines.append([first, *[""] * 7])
            continue
        row = layers[layer]
        share = row["macs"] / max(1, found["macs"])
        lines.append(
            [
                first,
                _op(row),
                _kernel(row),
                f"{row['in_channels']} → {row['out_channels']}",
                _through(row, styles),
                f"{row['macs'] / 1e6:,.2f} M",
                Text.assemble(("▇" * max(1, round(4 * row["macs"] / max(1, most))), "blue"), f" {100 * share:.1f}%"),
                f"{row['params']:,}",
            ]
        )
    return grid(("layer", "op", "kernel", "channels", "groups", "MACs", "", "params"), "lllrlrlr", lines)


def tree_rows(names: Sequence[str]) -> list[tuple[str, str, int | None]]:
    """Return a tree of dotted names, a row each: what is drawn before it, its last part, and its number if it is a name.

    A module with a single child that is no name itself shares a row with it ("blocks.0").
    """
    root: dict[str, Any] = {}
    for number, name in enumerate(names):
        node = root
        for part in name.split("."):
            node = node.setdefault(part, {})
        node[""] = number
    rows: list[tuple[str, str, int | None]] = []

    def add(node: Mapping[str, Any], before: str) -> None:
        children = [(part, child) for part, child in node.items() if part]
        for place, (part, child) in enumerate(children):
            last = place == len(children) - 1
            while "" not in child and len(child) == 1:
                ((inner, child),) = child.items()
                part = f"{part}.{inner}"
            branch = "" if node is root else "└─ " if last else "├─ "
            rows.append((before + branch, part, child.get("")))
            add(child, before + ("" if node is root else "   " if last else "│  "))

    add(root, "")
    return rows


def _op(layer: Mapping[str, Any]) -> str:
    count = layer["conv_groups"]
    if count > 1:
        return "depthwise" if count == layer["in_channels"] else f"{layer['op']} /{count}"
    return str(layer["op"])


def _kernel(layer: Mapping[str, Any]) -> str:
    text = "x".join(str(k) for k in layer["kernel"])
    strides = set(layer["stride"])
    return f"{text} ↓{max(strides)}" if strides - {1} else text


def _through(layer: Mapping[str, Any], styles: Mapping[str, tuple[str, str]]) -> Text:
    return Text.assemble(
        _letters(layer["in_groups"], styles, "image"), (" → ", "dim"), _letters(layer["out_groups"], styles, "-")
    )


def _letters(names: Sequence[str], styles: Mapping[str, tuple[str, str]], none: str) -> Text:
    if not names:
        return Text(none, style=WHOLE)
    shown = names if len(names) <= _SHOWN else names[: _SHOWN - 1]
    text = Text("+").join(Text(*styles[name]) for name in shown)
    return text if len(names) <= _SHOWN else text.append(f"+{len(names) - len(shown)} more", style=WHOLE)


def _groups(groups: Sequence[Mapping[str, Any]], styles: Mapping[str, tuple[str, str]]) -> Grid:
    lines: list[list[str | Text]] = []
    for group in groups:
        letter, style = styles[group["name"]]
        verdict = _verdict(group)
        lines.append(
            [
                Text(letter, style=style),
                group["name"],
                str(group["channels"]),
                group["kind"],
                together(group["producers"]),
                together(group["consumers"]) or "-",
                Text(verdict, style="green" if group["decided"] else "" if group["prunable"] else WHOLE),
            ]
        )
    made, read = "made by (these lose the same channels)", "read by"
    return grid(
        ("", "coupling group", "channels", "kind", made, read, "decided"), "llrllll", lines, wrapped=(made, read)
    )


def _verdict(group: Mapping[str, Any]) -> str:
    """Return whether a group is decided, within which shares, or what would have it decided."""
    low, high = group["least_share"], group["most_share"]
    if not group["decided"]:
        return "no" if not group["prunable"] else "off limits" if low == 1.0 else "--include-residual"
    if not group["restricted_by"]:
        return "yes"
    return f"keeps {low:g}" if low == high else f"keeps {low:g} to {high:g}"


def together(names: Sequence[str]) -> str:
    """Return a list of names, those that differ in numbers only put together: "layer1.*.conv2 (3)"."""
    found: dict[str, list[str]] = {}
    for name in names:
        found.setdefault(_NUMBER.sub("*", name), []).append(name)
    return ", ".join(same[0] if len(same) == 1 else f"{_pattern(same)} ({len(same)})" for same in found.values())


def _pattern(names: Sequence[str]) -> str:
    """Return the names' text with a star for each number in which they differ."""
    numbers = list(zip(*(_NUMBER.findall(name) for name in names), strict=True))
    parts = _NUMBER.split(names[0])
    texts = [place[0] if len(set(place)) == 1 else "*" for place in numbers]
    return parts[0] + "".join(text + part for text, part in zip(texts, parts[1:], strict=True))


def _left_whole(groups: Sequence[Mapping[str, Any]], styles: Mapping[str, tuple[str, str]]) -> Text | None:
    reasons: dict[str, list[str]] = {}
    for group in groups:
        if not group["decided"]:
            off_limits = f"off limits by {group['restricted_by']}" if group["least_share"] == 1.0 else None
            reason = group["reason"] or off_limits or "it crosses a residual join; add --include-residual"
            reasons.setdefault(reason, []).append(group["name"])
    return _listed("Not decided, and why", reasons, styles)


def _listed(title: str, found: Mapping[str, Sequence[str]], styles: Mapping[str, tuple[str, str]]) -> Text | None:
    """Return groups below a title, a line for each reason that they share; None if there are none."""
    if not found:
        return None
    text = Text(f"{title}\n", style="bold")
    for number, (reason, names) in enumerate(found.items()):
        text.append("\n" if number else "").append("  ")
        text.append_text(Text(", ").join(Text(*styles[name]) for name in names)).append(f"  {reason}", style="not bold")
    return text


def _bounded(groups: Sequence[Mapping[str, Any]], styles: Mapping[str, tuple[str, str]]) -> Text | None:
    """Return which groups the user bounds, and by what."""
    found: dict[str, list[str]] = {}
    for group in groups:
        if group["decided"] and group["restricted_by"]:
            found.setdefault(group["restricted_by"], []).append(group["name"])
    return _listed("Decided within bounds", found, styles)


def _refusals(found: Mapping[str, Any]) -> Text | None:
    """Return the operators that stopped channels, unless their reason stands with a group already."""
    said = {group["reason"] for group in found["groups"]}
    places: dict[str, list[str]] = {}
    for refusal in found["refusals"]:
        if refusal["reason"] not in said:
            places.setdefault(refusal["reason"], []).append(refusal["where"])
    if not places:
        return None
    text = Text("Not understood, so what touches it is left whole\n", style="bold")
    lines = [f"  {together(where)}: {reason}" for reason, where in places.items()]
    return text.append("\n".join(lines), style="not bold")


def _notes(found: Mapping[str, Any]) -> Text | None:
    """Return what to know of the network as a whole, unless it stands among the refusals."""
    said = {refusal["reason"] for refusal in found["refusals"]}
    notes = [f"{note}." for note in found.get("notes", ()) if note not in said]
    return Text("\n".join(notes)) if notes else None


def _budgets(found: Mapping[str, Any]) -> Text:
    decided = sum(group["decided"] for group in found["groups"])
    if not decided:
        return Text("No group can be pruned, so only the budget 1 can be met.")
    groups = "1 group is" if decided == 1 else f"{decided} groups are"
    least = [
        f"{kind}={_up(values['least'] / values['dense'])} (of {amount(kind, values['dense'])})"
        for kind, values in found["budgets"].items()
        if values["dense"]
    ]
    return Text(f"{groups} decided by a search; the smallest budgets that can be met: {', '.join(least)}.")


def _up(ratio: float) -> str:
    """Return a ratio with four digits, rounded up, so that it can be met."""
    return f"{-(-ratio * 10**4 // 1) / 10**4:.4f}"
