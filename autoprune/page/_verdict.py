"""What the numbers allow to say: whether the agent beats the best simple rule by more than chance."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np

from autoprune.agents import RULES
from autoprune.evaluation import ACCURACY, Difference, Metric, Networks, clearly_ahead
from autoprune.page._html import Html, el
from autoprune.page._numbers import said
from autoprune.page._run import Run
from autoprune.report import Row, drop_sentences, front_sentences, images_of

Outcome = Literal["for", "open", "against"]


def compare(rows: Sequence[Row], first: int, second: int, metric: Metric = ACCURACY) -> Difference:
    """Return by how much one of several networks is better than another, by their places.

    Args:
        rows: All networks measured on the same images that are compared with one another.
        first: Place of the one.
        second: Place of the other.
        metric: What they are measured in.
    """
    sizes = {images_of(row) for row in rows}
    networks = Networks(
        [metric.sign * row.accuracy for row in rows],
        [None if (by_image := row.answers) is None else np.float64(metric.sign) * by_image for row in rows],
        sizes.pop() if len(sizes) == 1 else None,
    )
    return networks.difference(first, second)


def outcome_of(found: Difference) -> Outcome:
    """Return the sign, "for" or "against", if it is more than chance, else "open"."""
    return "open" if not found.shown else "for" if found.value > 0 else "against"


def best_rule(run: Run) -> Row | None:
    """Return the simple rule that is best (on the part that the page shows), None if there is none."""
    return max(run.rules, key=lambda row: run.metric.sign * row.accuracy, default=None)


def verdict(run: Run) -> tuple[Outcome, list[str]]:
    """Return the outcome and the sentences that say it."""
    final, rule = run.final, best_rule(run)
    budget = run.config.budget
    if budget.minimize is not None and run.report is not None:
        text = drop_sentences(run.report, budget) if budget.max_drop is not None else front_sentences(run.report)
        return "open", [sentence.removeprefix("* ") for sentence in text]
    if final is not None and final.name in RULES:  # it won, or was asked for: the agent is to be compared with it
        final = run.row(run.config.agent) or final
    if final is None:
        return "open", ["The run is not finished, so there is no verdict yet."]
    if rule is None:
        return _as_scored(run, final)
    pruned = [row for row in run.rows if row.name != "dense"]
    metric = run.metric
    agent, found = final.name, compare(pruned, pruned.index(final), pruned.index(rule), metric)
    outcome = outcome_of(found)
    by = size(found, metric)
    if found.p is None:
        lead = "ahead of" if found.value > 0 else "level with" if found.value == 0 else "behind"
        text = [
            f"{agent} is {lead} the best simple rule, {rule.name} ({metric.text(final.accuracy)} against "
            f"{said(metric, rule.accuracy)}); how many images that was measured on is not known, so nothing is known of chance."
        ]
    elif outcome == "for":
        text = [f"{agent} beats the best simple rule, {rule.name}, by {by}, which is more than chance."]
    elif outcome == "against":
        text = [
            f"A simple rule wins: {rule.name} ({said(metric, rule.accuracy, rule.accuracy_se)}) beats {agent} by "
            f"{by}, which is more than chance. Take its network with --row {rule.name}."
        ]
    elif found.value > 0:
        text = [
            f"{agent} is ahead of the best simple rule, {rule.name}, by {by}: no difference is shown, so this run "
            "does not show that the search beats the rule."
        ]
    elif found.value == 0:
        text = [f"{agent} and the best simple rule, {rule.name}, are level ({said(metric, rule.accuracy)})."]
    else:
        text = [
            f"A simple rule, {rule.name} ({said(metric, rule.accuracy, rule.accuracy_se)}), is ahead of {agent} by "
            f"{by}: no difference is shown, but the search has nothing to show for its effort here."
        ]
    random = run.row("random")
    if random is not None and agent != "random":
        text.append(_about_random(compare(pruned, pruned.index(final), pruned.index(random), metric), random, metric))
    if found.p is not None:
        text.append(
            f"± of differences: half of a 95 % interval for other images, which holds for all pairs of the {len(pruned)} pruned "
            "networks at once, "
            + ("image by image" if found.paired else "as of independent images (no answers by image), which is wider")
            + f"{'' if found.value == 0 else f' (p = {max(found.p, 1e-3):.3f})'}. It is about these networks: with another seed "
            "each would be another one, see autoprune compare."
        )
    return outcome, text


def _as_scored(run: Run, final: Row) -> tuple[Outcome, list[str]]:
    """Return the verdict where no simple rule was finished: from the scores of all on the search part."""
    scored = {str(found["name"]): found for found in (run.report or {}).get("scored", ())}
    own, metric = scored.get(final.name), run.metric
    rules = [found for name, found in scored.items() if name in RULES and name != final.name]
    if own is None or not rules:
        return "open", ["The run has no simple rule to compare with within the budget."]
    best = max(rules, key=lambda found: metric.sign * float(found["accuracy"]))
    ahead = metric.sign * (own["accuracy"] - best["accuracy"])
    clear = clearly_ahead(ahead, own["drop_se"], best["drop_se"])
    lead = "ahead of" if ahead > 0 else "level with" if ahead == 0 else "behind"
    return "for" if clear else "open", [
        f"As scored, on the search part, {final.name}'s best is {lead} the best simple rule, {best['name']} "
        f"({metric.text(own['accuracy'])} against {said(metric, best['accuracy'])})"
        + (", by more than chance." if clear else "; no difference is shown."),
        f"The rules were not among the best and so not finished; --row {best['name']} finishes that one, to compare what is left "
        "after the final reconstruction.",
    ]


def size(found: Difference, metric: Metric) -> str:
    """Return the size of a difference, on one line."""
    return found.text(metric).replace(" ± ", "\xa0±\xa0")


def _about_random(found: Difference, random: Row, metric: Metric) -> str:
    effort = f"random search with {random.policies_scored:,} policies"
    if found.value == 0:
        return f"It is level with {effort}."
    where = "ahead of" if found.value > 0 else "behind"
    chance = "" if found.p is None else ", more than chance" if found.shown else ", no difference shown"
    return f"It is {size(found, metric)} {where} {effort}{chance}."


def verdict_box(run: Run) -> Html:
    """Return the verdict as a box."""
    outcome, text = verdict(run)
    kind = {"for": "verdict", "open": "verdict open", "against": "verdict against"}[outcome]
    return el(
        "div",
        el("p", el("strong", text[0])),
        *(el("p", sentence, class_="note") for sentence in text[1:]),
        class_=kind,
        data_outcome=outcome,
    )
