"""What a report says in sentences. Pure functions over plain data."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from autoprune.budget import Budget, Limit, amount, noun
from autoprune.report._goals import drop_sentences, front_sentences
from autoprune.report._rows import Row
from autoprune.report._table import metric_of, with_error


def limit_sentences(report: Mapping[str, Any]) -> list[str]:
    """Return for each limit other than one ratio of MACs: what was asked for, what came out, and whether it is met."""
    final, dense = report["final"], report["dense"]
    budget = Budget.from_dict(report["budget"])
    out = []
    for limit in budget.limits:
        value, whole = (Row.from_dict(row).cost(limit.kind) for row in (final, dense))
        if len(budget.limits) == 1 and limit.kind == "macs":
            continue

        def said(cost: float, share: float, limit: Limit = limit) -> str:
            return f"{share:.4f}" if limit.unit == "ratio" else amount(limit.kind, cost)

        asked = said(limit.value, limit.value)
        text = f"{noun(limit.kind)}: budget {asked}, "
        found = final["measured"] if limit.kind == "latency" else None
        if found is None:
            out.append(f"{text}used {said(value, value / whole)}.")
            continue
        share = found["ratio"] if limit.unit == "ratio" else found["seconds"]
        verdict = (
            "met"
            if share <= limit.value
            else "met as far as can be measured"
            if share * (1 - found["known"]) <= limit.value
            else "NOT met: measured above the budget; profile again on a quiet machine, or ask for a little less"
        )
        out.append(
            f"{text}predicted {said(value, value / whole)}, measured {said(found['seconds'], found['ratio'])} "
            f"± {100 * found['known']:.1f} % against the dense network in turn: {verdict}."
        )
    return out


def finetuned_sentence(found: Mapping[str, Any]) -> str:
    """Return what is to be said about a fine-tuning: how, how long, and which epoch was kept.

    Args:
        found: As in its ``result.json``.
    """
    metric = metric_of(found)
    start = "trained from random weights" if found["from_scratch"] else "fine-tuned"
    how = " with distillation from the dense network" if found["distilled"] else ""
    last = " (the last)" if found["best_epoch"] == found["epochs_done"] else ""
    return (
        f"{found['name']}: {start}{how} for {found['epochs_done']} epochs in {found['wall_s']:.0f} s; kept is epoch "
        f"{found['best_epoch']}{last}, best on the search part ({metric.text(found['search_accuracy'])}); "
        f"{metric.name} {with_error(found, metric)}."
    )


def sentences(report: Mapping[str, Any]) -> list[str]:
    """Return what is to be said below the table: what was exported, what speaks against it, what the run cost."""
    agent, final, dense = report["exported"], report["final"], report["dense"]
    budget = Budget.from_dict(report["budget"])
    if budget.max_drop is not None:
        out = drop_sentences(report, budget)
        return [*out, *limit_sentences(report), *report["notes"], *_cost_sentences(report)]
    if budget.minimize is not None:
        return [*front_sentences(report), *report["notes"], *_cost_sentences(report)]
    out = [
        f"* exported, at {final['macs'] / dense['macs']:.3f} of the MACs: the policy of {agent}, the best by its reward on the "
        "search part of those that were finished.",
        *limit_sentences(report),
        *_choice_sentences(report),
    ]
    return [*out, *report["notes"], *_cost_sentences(report)]


def _choice_sentences(report: Mapping[str, Any]) -> list[str]:
    """Return what is to be said about rows that are not the result: those that did better, and the unfinished."""
    final, own, metric = report["final"], report["agent"], metric_of(report)
    rows = {row["name"]: row for row in report["rows"]}
    out = []

    def against(one: Mapping[str, Any], other: Mapping[str, Any]) -> str:
        if report["reward"] == "accuracy" or one["search_reward"] is None or other["search_reward"] is None:
            return f"{metric.text(one['search_accuracy'])} against {metric.text(other['search_accuracy'])}"
        return f"reward {one['search_reward']:.4g} against {other['search_reward']:.4g}"

    others = [row for name, row in rows.items() if name not in ("dense", final["name"])]
    best = max(others, key=lambda row: _merit(row, metric.sign), default=None)
    if best is not None and _merit(best, metric.sign) > _merit(final, metric.sign):
        out.append(
            f"Note: {best['name']} did better than {final['name']} on the search part ({against(best, final)}); get its network "
            f"with --row {best['name']}."
        )
    elif final["name"] != own and own in rows:
        out.append(
            f"Note: {final['name']} did better than {own} on the search part ({against(final, rows[own])}), so its network is "
            f"the result; get the other with --row {own}."
        )
    elif final["name"] != own and own not in [found["name"] for found in report["scored"]]:
        out.append(f"Note: {own} proposed no policy within the budget, so {final['name']}'s network is the result.")
    unfinished = [found["name"] for found in report["scored"] if found["name"] not in rows]
    if unfinished:
        some = ", ".join(unfinished)
        out.append(
            f"As scored, before the final reconstruction, {some} {'are' if len(unfinished) > 1 else 'is'} not among the best; "
            f"--row {unfinished[0]} finishes it."
        )
    return out


def _cost_sentences(report: Mapping[str, Any]) -> list[str]:
    agent, final = report["agent"], report["final"]
    out = []
    if report["accuracy_part"] == "search":
        out.append("No report part was given: the results are those that the search was led by, so they flatter.")
    out += [finetuned_sentence(found) for found in report.get("finetuned", ())]
    own = next((row for row in report["rows"] if row["name"] == agent), final)
    asked = next((found for found in report["scored"] if found["name"] == agent), own)
    count, cost = asked["policies_scored"], asked["score_cost"]
    each = "" if cost is None else f", {cost:.2f} dense passes" + (" each" if count > 1 else "")
    stopped, spent = report["stopped"], report["passes"]
    ended = "" if stopped is None else f" It ended there because {stopped['text']}."
    parts = ", ".join(f"{value:.1f} for {what}" for what, value in spent.items())
    out.append(
        f"{agent} had {count} {'policies' if count != 1 else 'policy'} scored{each}.{ended} The whole run took "
        f"{sum(spent.values()):.0f} passes of the dense network over the search images ({parts}), {report['wall_s']:.0f} s."
        + (
            ""
            if own["images"] is None
            else f" In multiply-adds {agent}'s search took as much as {own['images']:,.0f} dense images."
        )
    )
    if "policies_stopped" in report:
        out.append(
            f"The race stopped {report['policies_stopped']} of them after a part of the search images, clearly worse there than "
            "the best simple rule; their numbers are estimates."
            if report["policies_stopped"]
            else "The race stopped none of them: none was clearly worse than the best simple rule."
        )
    return out


def _merit(row: Mapping[str, Any], sign: float) -> float:
    """Return what the search maximises of a finished network: its reward on the search part."""
    reward = row["search_reward"]
    return float(sign * row["search_accuracy"] if reward is None else reward)
