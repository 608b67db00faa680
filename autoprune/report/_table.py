"""A report as a table to read. Pure functions over plain data."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from autoprune.budget import amount, noun
from autoprune.evaluation import ACCURACY, Metric, loss_name, loss_text
from autoprune.support.tables import aligned


def table(report: Mapping[str, Any]) -> str:
    """Return the report's rows as an aligned text table."""
    dense, metric = report["dense"], metric_of(report)
    scored = {found["name"]: found for found in report["scored"]}
    head = (
        "",
        "MACs",
        "ratio",
        "params",
        "ratio",
        "as scored",
        f"search {short_name(metric)}",
        f"{report['accuracy_part']} {short_name(metric)}",
        loss_name(metric),
        "policies",
        "cost",
        "images",
        *(kind for kind in dense["costs"] if kind != "latency"),
        *(("predicted", "measured") if "latency" in dense["costs"] else ()),
    )
    lines: list[tuple[str, ...]] = []
    finished = {row["name"]: row for row in report["rows"]}
    for name in dict.fromkeys(["dense", *scored, *finished]):
        row = finished.get(name)
        found = scored[name] if row is None else row
        own = " *" if name == report["exported"] else ""
        several = " best" if found["policies_scored"] > 1 else ""
        cost = "-" if found["score_cost"] is None else f"{found['score_cost']:.2f}"
        policies = str(found["policies_scored"] or "-")
        effort = "-" if row is None or row["images"] is None else f"{row['images'] / 1e3:,.1f}k"
        measured = _measured_cells(row, metric)
        as_scored = metric.text(scored[name]["accuracy"]) if name in scored else "-"
        sizes = (*_sizes(found, dense), as_scored)
        lines.append((f"{name}{several}{own}", *sizes, *measured, policies, cost, effort, *_costs(found, dense)))
    lines += [
        (
            f"+ {found['name']}, {found['epochs_done']} ep",
            *(*_sizes(found, dense), "-"),
            *_measured_cells(found, metric),
            *(["-"] * (len(head) - 9)),
        )
        for found in report.get("finetuned", ())
    ]
    return aligned(head, lines)


def _sizes(found: Mapping[str, Any], dense: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the cells about a network's size."""
    return (
        f"{found['macs']:,}",
        f"{found['macs'] / dense['macs']:.3f}",
        f"{found['params']:,}",
        f"{found['params'] / dense['params']:.3f}",
    )


def _measured_cells(found: Mapping[str, Any] | None, metric: Metric) -> tuple[str, ...]:
    """Return the cells about how good a finished or fine-tuned network is: the metric on both parts, the loss."""
    if found is None:
        return ("-", "-", "-")
    return (
        metric.text(found["search_accuracy"]),
        with_error(found, metric),
        "-" if found["loss"] is None else loss_text(metric, found["loss"]),
    )


def _costs(row: Mapping[str, Any], dense: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the cells of the further costs: amounts with their share of the dense network's; latency predicted, measured."""
    cells = [
        f"{amount(kind, value)} ({value / dense['costs'][kind]:.3f})"
        for kind, value in row["costs"].items()
        if kind != "latency"
    ]
    if "latency" in row["costs"]:
        value = row["costs"]["latency"]
        cells.append(f"{amount('latency', value)} ({value / dense['costs']['latency']:.3f})")
        cells.append(_measured(row))
    return tuple(cells)


def _measured(row: Mapping[str, Any]) -> str:
    found = row.get("measured")
    return "-" if found is None else f"{amount('latency', found['seconds'])} ({found['ratio']:.3f})"


def front_table(report: Mapping[str, Any]) -> str:
    """Return the points of a front as an aligned text table."""
    found, metric = report["front"], metric_of(report)
    kind = found["kind"]
    lines = [
        (
            f"{row['name']}{' *' if row['counts'] == report['final']['counts'] else ''}",
            amount(kind, row["cost"]),
            f"{row['cost'] / found['dense']:.3f}",
            metric.text(row["search_accuracy"]),
            with_error(row, metric),
            *((_measured(row),) if kind == "latency" else ()),
        )
        for row in found["points"]
    ]
    name = short_name(metric)
    head = ("", noun(kind), "ratio", f"search {name}", f"{report['accuracy_part']} {name}")
    return aligned((*head, "measured") if kind == "latency" else head, lines)


def metric_of(report: Mapping[str, Any]) -> Metric:
    """Return what a report's networks are measured in."""
    return Metric.from_dict(report.get("metric"))


def short_name(metric: Metric) -> str:
    """Return a metric's name for the head of a column: "acc" for the accuracy."""
    return "acc" if metric == ACCURACY else metric.name


def with_error(found: Mapping[str, Any], metric: Metric) -> str:
    """Return the metric's value as it is shown, with its standard error if that is known."""
    return metric.with_error(found["accuracy"], found["accuracy_se"])
