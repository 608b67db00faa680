"""Measured times, read from ``timing.json``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from autoprune.page._cells import table_box, value_cell
from autoprune.page._html import Html, el
from autoprune.page._run import Run


def _kinds(run: Run) -> list[Mapping[str, Any]]:
    """Return the kinds of measurement, as their first rows."""
    found: dict[tuple[str, int], Mapping[str, Any]] = {}
    for row in (run.timing or {}).get("rows", ()):
        found.setdefault((row["target"], row["batch"]), row)
    return list(found.values())


def where(row: Mapping[str, Any]) -> str:
    """Return what a time was measured with."""
    return f"{row['target']}, batch {row['batch']}"


def _time(run: Run, name: str, kind: Mapping[str, Any]) -> Mapping[str, Any] | None:
    for row in (run.timing or {}).get("rows", ()):
        if (row["name"], row["target"], row["batch"]) == (name, kind["target"], kind["batch"]):
            found: Mapping[str, Any] = row
            return found
    return None


def headline_time(run: Run, name: str) -> Mapping[str, Any] | None:
    """Return the measurement for the headline: onnxruntime before eager, the smallest batch."""
    kinds = sorted(_kinds(run), key=lambda row: (row["target"] != "onnxruntime", row["batch"]))
    return next((row for kind in kinds if (row := _time(run, name, kind)) is not None), None)


def _time_cell(run: Run, name: str, kind: Mapping[str, Any]) -> Html:
    row = _time(run, name, kind)
    if row is None:
        return el("td", "–")
    key = f"{name}/{kind['target']}/{kind['batch']}"
    text = f"{row['ms']:.3g}" + ("" if name == "dense" else f" ({row['ratio']:.2f})")
    return value_cell(key, "ms", row["ms"], text)


def timing_part(run: Run) -> Html | None:
    """Return the table of times, None if nothing was measured."""
    timing, kinds = run.timing, _kinds(run)
    if timing is None or not kinds:
        return None
    names = dict.fromkeys(str(row["name"]) for row in timing["rows"])
    lines = [
        el(
            "tr",
            el("th", name, scope="row"),
            *(_time_cell(run, name, kind) for kind in kinds),
            class_="own" if name == run.config.agent else None,
        )
        for name in names
    ]
    machine = [f"{timing.get('threads')} threads", str(timing.get("cpu") or timing.get("device"))]
    machine += [f"{name} {timing[name]}" for name in ("torch", "onnxruntime") if timing.get(name)]
    note = (
        "Time of one batch in ms (median), in brackets as a share of the dense network's, measured in turn with it in one "
        f"process: {', '.join(machine)}."
    )
    return table_box("times", note, ("", *(where(kind) for kind in kinds)), lines, label="Table of times")
