"""What a report says where the size is not fixed: of the smallest network within a drop of accuracy, and of a front."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from autoprune.budget import AnyDrop, Budget, noun, read_drop
from autoprune.evaluation import Metric
from autoprune.report._table import metric_of


def drop_sentences(report: Mapping[str, Any], budget: Budget) -> list[str]:
    """Return what is to be said of the smallest network within a drop of accuracy."""
    final, dense, kind, metric = report["final"], report["dense"], str(budget.minimize), metric_of(report)
    assert budget.max_drop is not None
    allowed = f"{budget.max_drop:g}{metric.difference_unit}"
    costs = [{**row["costs"], "macs": row["macs"], "params": row["params"]}[kind] for row in (final, dense)]
    smaller = 1.0 - costs[0] / costs[1]
    share = f"{costs[0] / costs[1]:.3f} of the dense network's"
    decided = report.get("drop") or {}
    last, failed = (None if decided.get(key) is None else read_drop(decided[key]) for key in ("smallest", "failed"))
    if smaller <= 0:
        out = [_unconfirmed(allowed, share, failed, metric)]
    elif last is None:
        out = [
            f"* exported: the least {noun(kind)} that lost at most {allowed} on the search part, found by "
            f"{report['exported']}: {share}. Its images are not known one by one, so how sure that is is not known either."
        ]
    else:
        out = [
            f"* exported: the least {noun(kind)} that was confirmed to lose at most {allowed}, found by "
            f"{report['exported']}: {share}. {_decided(last, metric)}: at most {metric.text(last.most)} with 95 % confidence."
        ]
    lost = metric.scale * metric.gain(dense["accuracy"], final["accuracy"])
    part = "the report part" if report["accuracy_part"] == "report" else "the search part"
    if final["drop_se"] is None:
        return [*out, f"On {part} it lost {metric.text(lost / metric.scale)}{metric.difference_unit}."]
    error = metric.scale * final["drop_se"]

    def said(value: float) -> str:
        return metric.text(value / metric.scale)

    low, high = lost - 1.96 * error, lost + 1.96 * error
    verdict = (
        "the drop is confirmed"
        if high <= budget.max_drop
        else "the drop is not exceeded, but the images are too few to be sure"
        if lost <= budget.max_drop
        else "more than asked for, though within the error of so many images"
        if low <= budget.max_drop
        else "more than asked for"
    )
    return [
        *out,
        f"On {part} it lost {said(lost)} ± {metric.error_text(error / metric.scale)}{metric.difference_unit} (95 % confidence: "
        f"{said(low)} to {said(high)}): {verdict}.",
    ]


def _unconfirmed(allowed: str, share: str, failed: AnyDrop | None, metric: Metric) -> str:
    """Return why the dense network is the result, and what may be done about it."""
    text = f"* exported: the dense network ({share}); no smaller network was confirmed to lose at most {allowed}"
    if failed is None:
        return f"{text}, since none that was scored was within the drop; give more --episodes or allow a larger drop."
    return (
        f"{text}. {_decided(failed, metric)} by the first that was tried, up to {metric.text(failed.most)} with 95 % "
        "confidence; allow a larger drop, or search on more images."
    )


def _decided(drop: AnyDrop, metric: Metric) -> str:
    lost = f"{metric.text(drop.value)}{metric.difference_unit}"
    return f"On the {drop.images:,} search images that no policy was scored on {lost} {'were' if metric.share else 'was'} lost"


def front_sentences(report: Mapping[str, Any]) -> list[str]:
    """Return what is to be said of a front."""
    found = report["front"]
    areas = sorted(found["areas"].items(), key=lambda item: -item[1])
    out = [
        f"{len(found['points'])} points of {report['agent']}'s front are in front/, each with its policy and weights; * the one "
        "farthest above the line between both ends is the run's policy too.",
        f"Area below each front, {metric_of(report).name} over the share of the cost (larger is better), by scores: "
        + ", ".join(f"{name} {value:.4f}" for name, value in areas)
        + ".",
    ]
    if areas[0][0] != report["agent"]:
        out.append(f"Note: {areas[0][0]} did better than {report['agent']}.")
    return out
