"""What the numbers allow to say: whether the agent beats the best simple rule by more than chance."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from autoprune.evaluation import Difference, Networks
from autoprune.page._html import Html, el
from autoprune.page._numbers import percent, with_error
from autoprune.page._run import Run
from autoprune.report import Row, drop_sentences, front_sentences, images_of

Outcome = Literal["for", "open", "against"]


def compare(rows: Sequence[Row], first: int, second: int) -> Difference:
    """Return the difference of two of several networks, by their places.

    Args:
        rows: All networks measured on the same images that are compared with one another.
        first: Place of the one.
        second: Place of the other.
    """
    sizes = {images_of(row) for row in rows}
    networks = Networks(
        [row.accuracy for row in rows], [row.answers for row in rows], sizes.pop() if len(sizes) == 1 else None
    )
    return networks.difference(first, second)


def outcome_of(found: Difference) -> Outcome:
    """Return the sign, "for" or "against", if it is more than chance, else "open"."""
    return "open" if not found.shown else "for" if found.value > 0 else "against"


def best_rule(run: Run) -> Row | None:
    """Return the simple rule of the best accuracy (on the part that the page shows), None if there is none."""
    return max(run.rules, key=lambda row: row.accuracy, default=None)


def verdict(run: Run) -> tuple[Outcome, list[str]]:
    """Return the outcome and the sentences that say it."""
    final, rule = run.final, best_rule(run)
    budget = run.config.budget
    if budget.minimize is not None and run.report is not None:
        said = drop_sentences(run.report, budget) if budget.max_drop is not None else front_sentences(run.report)
        return "open", [sentence.removeprefix("* ") for sentence in said]
    if final is None:
        return "open", ["The run is not finished, so there is no verdict yet."]
    if rule is None:
        return "open", ["The run has no simple rule to compare with within the budget."]
    pruned = [row for row in run.rows if row.name != "dense"]
    agent, found = final.name, compare(pruned, pruned.index(final), pruned.index(rule))
    outcome = outcome_of(found)
    by = size(found)
    if found.p is None:
        lead = "ahead of" if found.value > 0 else "level with" if found.value == 0 else "behind"
        said = [
            f"{agent} is {lead} the best simple rule, {rule.name} ({percent(final.accuracy)} against "
            f"{percent(rule.accuracy)} %); how many images that was measured on is not known, so nothing is known of chance."
        ]
    elif outcome == "for":
        said = [f"{agent} beats the best simple rule, {rule.name}, by {by}, which is more than chance."]
    elif outcome == "against":
        said = [
            f"A simple rule wins: {rule.name} ({with_error(rule.accuracy, rule.accuracy_se)} %) beats {agent} by "
            f"{by}, which is more than chance. Take its network with --agent {rule.name}."
        ]
    elif found.value > 0:
        said = [
            f"{agent} is ahead of the best simple rule, {rule.name}, by {by}: no difference is shown, so this run "
            "does not show that the search beats the rule."
        ]
    elif found.value == 0:
        said = [f"{agent} and the best simple rule, {rule.name}, are level ({percent(rule.accuracy)} %)."]
    else:
        said = [
            f"A simple rule, {rule.name} ({with_error(rule.accuracy, rule.accuracy_se)} %), is ahead of {agent} by "
            f"{by}: no difference is shown, but the search has nothing to show for its effort here."
        ]
    random = run.row("random")
    if random is not None and agent != "random":
        said.append(_about_random(compare(pruned, pruned.index(final), pruned.index(random)), random))
    if found.p is not None:
        said.append(
            f"± of differences: half of a 95 % interval for other images, which holds for all pairs of the {len(pruned)} pruned "
            "networks at once, "
            + ("image by image" if found.paired else "as of independent images (no answers by image), which is wider")
            + f"{'' if found.value == 0 else f' (p = {max(found.p, 1e-3):.3f})'}. It is about these networks: with another seed "
            "each would be another one, see autoprune compare."
        )
    return outcome, said


def size(found: Difference) -> str:
    """Return a difference in percentage points, on one line."""
    return found.text().replace(" ± ", "\xa0±\xa0")


def _about_random(found: Difference, random: Row) -> str:
    effort = f"random search with {random.policies_scored:,} policies"
    if found.value == 0:
        return f"It is level with {effort}."
    where = "ahead of" if found.value > 0 else "behind"
    chance = "" if found.p is None else ", more than chance" if found.shown else ", no difference shown"
    return f"It is {size(found)} {where} {effort}{chance}."


def verdict_box(run: Run) -> Html:
    """Return the verdict as a box."""
    outcome, said = verdict(run)
    kind = {"for": "verdict", "open": "verdict open", "against": "verdict against"}[outcome]
    return el(
        "div",
        el("p", el("strong", said[0])),
        *(el("p", sentence, class_="note") for sentence in said[1:]),
        class_=kind,
        data_outcome=outcome,
    )
