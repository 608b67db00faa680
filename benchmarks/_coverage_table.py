"""The coverage table as Markdown, from the records of a run."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

from _zoo import Entry

HEAD = """# Coverage

What of {models} networks of {families} families autoprune can prune, with random weights. Made by

    python benchmarks/coverage.py --out docs/coverage.md

**Layers** are convolutions and linear layers that run in eval mode, each weight counted once. **Prunable** layers have
output channels that can be removed (more than half of them), in an *inner* group or in a *residual* one (crosses an addition
that joins two layers' outputs); the **share** is that of the layers that are not the network's **output**. **Groups** are the
coupling groups that passed the proof, of all. **Right** compares pruned networks with an oracle: {policies} random policies each,
channel counts drawn for all prunable groups at once, against the dense network that ignores the removed channels (largest
distance relative to the output's norm, in double precision where the network is small enough), and MACs and parameters with
torch's counters. **Trace** is `build_graph`, in brackets relative to `torch.export.export` alone; **proof** is `prove`; both
in CPU seconds on one thread, export and trace the better of two.
"""

ENOUGH = 0.95
"""Convolutional families with a smaller share of prunable layers are named, with what stands in the way."""

NAMED = {
    "condconv": "some layers mix their weights for every image anew from several sets (conditional convolutions); such a weight "
    "is no parameter that could be cut. All other layers are pruned.",
    "eca": "each block weighs its channels by a convolution that runs along the channels (ECA), so every channel's weight "
    "depends on which channels are its neighbours, and removing one would change those of others. The channels inside the "
    "blocks are pruned.",
    "gc-resnet": "each context block makes a map of attention with one single channel, in which there is nothing to remove. "
    "All other layers are pruned.",
    "shufflenet": "every unit splits its channels into halves and shuffles them, and so couples each channel of a stage to every "
    "other; removing some exactly would need a step that gathers channels, which the network does not have. The channels "
    "inside the units are pruned.",
}

NUMBERS = """## Numbers in the code

Networks whose code says how many channels there are, before such numbers followed the channels that are left (commit b4cb240) and
after, with random weights on images of 64x64; made by `python benchmarks/refusals.py` with transformers and ultralytics
installed.

| network | layers | prunable before | refused before | prunable | refused | output |
| --- | --- | --- | --- | --- | --- | --- |
| SHViT-S1 (timm) | 78 | 33 | 39 | 72 | 0 | 6 |
| MobileViT (transformers) | 90 | 62 | 27 | 89 | 0 | 1 |
| YOLO11n (ultralytics) | 88 | 70 | 9 | 75 | 0 | 13 |
"""
"""What `refusals.py` measured."""

EXCEPTIONS = """## Exceptions

Every layer that is not prunable and not the network's output, with its reason (`*` stands for a number).

"""


def render(entries: Sequence[Entry], records: Mapping[str, Mapping[str, Any]]) -> str:
    """Return the document."""
    shown = [(entry, records[entry.key]) for entry in entries if entry.key in records]
    right = [(entry, record) for entry, record in shown if record["status"] == "ok"]
    parts = [
        HEAD.format(models=len(shown), families=len({entry.family for entry, _ in shown}), policies=3),
        _summary(shown),
        "## Families\n\n" + _families(right) + "\n\n" + _named(right),
        "## Networks\n\n" + _networks(shown),
        NUMBERS,
        EXCEPTIONS + _exceptions(shown),
    ]
    return "\n".join(part.rstrip() + "\n" for part in parts)


def _summary(shown: Sequence[tuple[Entry, Mapping[str, Any]]]) -> str:
    count: dict[str, int] = defaultdict(int)
    for _, record in shown:
        count[record["status"]] += 1
    ok = [record for _, record in shown if record["status"] == "ok"]
    versions = {record["code"] for _, record in shown}
    ratios = sorted(record["build_s"] / record["export_s"] for record in ok)
    wrong, macs, params = (sum(bool(record[key]) for record in ok) for key in ("wrong", "macs_wrong", "params_wrong"))
    lines = [
        f"- measured: {count['ok']}; refused whole: {count['refused']}; crashed: {count['crashed']}; hung: {count['hung']}",
        f"- networks with wrong outputs: {wrong}; with wrong MACs: {macs}; with wrong parameters: {params}",
        f"- tracing and labelling, relative to `torch.export.export`: median {ratios[len(ratios) // 2]:.2f}, "
        f"largest {ratios[-1]:.2f}"
        if ratios
        else "",
        "" if len(versions) == 1 else f"- measured with {len(versions)} versions of the code",
    ]
    return "\n".join(line for line in lines if line)


def _share(records: Sequence[Mapping[str, Any]]) -> tuple[int, int]:
    good = sum(record["inner"] + record["residual"] for record in records)
    return good, sum(record["layers"] - record["output"] for record in records)


def _percent(records: Sequence[Mapping[str, Any]]) -> str:
    good, of = _share(records)
    return f"{100 * good / of:.1f} %" if of else "-"


def _families(right: Sequence[tuple[Entry, Mapping[str, Any]]]) -> str:
    found: dict[str, list[tuple[Entry, Mapping[str, Any]]]] = defaultdict(list)
    for entry, record in right:
        found[entry.family].append((entry, record))
    rows = []
    for mixing in (False, True):
        for family, members in sorted(found.items()):
            records = [record for entry, record in members if entry.mixing is mixing]
            if records:
                good, of = _share(records)
                kind = "attention or MLPs over positions" if mixing else "convolutional"
                rows.append([family, kind, str(len(records)), f"{good} of {of}", _percent(records)])
    return table(["family", "kind", "networks", "prunable", "share"], rows)


def _named(right: Sequence[tuple[Entry, Mapping[str, Any]]]) -> str:
    """Return why convolutional families have a small share."""
    found: dict[str, list[Mapping[str, Any]]] = defaultdict(list)
    for entry, record in right:
        if not entry.mixing:
            found[entry.family].append(record)
    lines = [f"Convolutional families with less than {ENOUGH:.0%} of their layers prunable, and why:\n"]
    for family, records in sorted(found.items()):
        good, of = _share(records)
        if good < ENOUGH * of:
            lines.append(f"- **{family}** ({_percent(records)}): {NAMED.get(family, 'see the exceptions below.')}")
    return "\n".join(lines)


def _networks(shown: Sequence[tuple[Entry, Mapping[str, Any]]]) -> str:
    rows = []
    for entry, record in shown:
        name = f"{entry.name} ({entry.source}, {entry.side}²)"
        if record["status"] != "ok":
            rows.append([name, record["status"], *[""] * 8])
            continue
        counted = not record["macs_wrong"] and not record["params_wrong"]
        rows.append(
            [
                name,
                str(record["layers"]),
                str(record["inner"]),
                str(record["residual"]),
                str(record["output"]),
                str(len(record["refused"])),
                _percent([record]),
                f"{record['proved']} of {record['groups']}",
                ("**WRONG** " if record["wrong"] else "yes ")
                + f"({_scientific(record['distance'])})"
                + ("" if counted else ", **cost differs**"),
                f"{record['build_s']:.1f} s ({record['build_s'] / record['export_s']:.2f})",
                f"{record['prove_s']:.1f} s",
            ]
        )
    head = ["network", "layers", "inner", "residual", "output", "refused", "share", "groups", "right", "trace", "proof"]
    return table(head, rows)


def _scientific(value: float) -> str:
    return "infinite" if value == float("inf") else f"{value:.0e}"


def _exceptions(shown: Sequence[tuple[Entry, Mapping[str, Any]]]) -> str:
    lines: list[str] = []
    for entry, record in shown:
        if record["status"] != "ok":
            lines.append(f"- **{entry.name}** ({entry.family}): {record['status']}: {_clean(record['error'])}")
            continue
        by_reason: dict[str, list[str]] = defaultdict(list)
        for layer, reason in record["refused"].items():
            by_reason[re.sub(r"\d+", "*", _clean(reason))].append(layer)
        if by_reason:
            lines.append(f"- **{entry.name}** ({entry.family}), {len(record['refused'])} layers")
        refused = record["refused"]
        lines += [f"    - {_layers(layers)}: {_clean(refused[layers[0]])}" for layers in by_reason.values()]
        if record["not_called"]:
            lines.append(
                f"- **{entry.name}** ({entry.family}): not run in eval mode, so not covered: {_layers(record['not_called'])}"
            )
    return "\n".join(lines)


def _layers(names: Sequence[str]) -> str:
    """Return names with those that differ in numbers only put together."""
    patterns: dict[str, list[str]] = defaultdict(list)
    for name in names:
        patterns[re.sub(r"\d+", "*", name)].append(name)
    return ", ".join(
        f"`{found[0]}`" if len(found) == 1 else f"`{pattern}` ({len(found)})" for pattern, found in patterns.items()
    )


def _clean(text: str) -> str:
    return re.sub(r"\s+", " ", text.removeprefix("autoprune.errors.")).replace("|", "\\|")[:400]


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join([*line, *[""] * (len(head) - len(line))]) + " |" for line in lines)
