"""What the numbers allow to say: whether the agent beats the best simple rule by more than the noise."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from autoprune.page._html import Html, el
from autoprune.page._numbers import PLUS_MINUS, percent, with_error
from autoprune.page._run import Run
from autoprune.report import Row, drop_sentences, front_sentences

Outcome = Literal["for", "open", "against"]
SURE = 2.0
"""Differences of at least so many standard errors count as more than noise."""


@dataclass(frozen=True)
class Difference:
    """Two accuracies compared.

    Attributes:
        value: First minus second, in [-1, 1].
        error: Its standard error, as of independent measurements; None if not known.
    """

    value: float
    error: float | None

    @property
    def outcome(self) -> Outcome:
        """The sign, "for" or "against", if it is more than noise, else "open"."""
        if self.error is None or abs(self.value) < SURE * self.error or self.value == 0:
            return "open"
        return "for" if self.value > 0 else "against"

    def text(self) -> str:
        """Return it in percentage points."""
        error = "" if self.error is None else f"{PLUS_MINUS}{percent(self.error)}"
        return f"{percent(abs(self.value))}{error} points"


def compare(first: Row, second: Row) -> Difference:
    """Return the difference of two networks' accuracies.

    Both are measured on the same images, so their errors rise and fall together and the true standard error of the difference
    is smaller than the one used here, sqrt(a^2 + b^2). How much smaller cannot be told from counts of right answers.
    """
    errors = (first.accuracy_se, second.accuracy_se)
    error = None if None in errors else math.hypot(*(e for e in errors if e is not None))
    return Difference(first.accuracy - second.accuracy, error)


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
    agent, found = final.name, compare(final, rule)
    outcome = found.outcome
    if found.error is None:
        lead = "ahead of" if found.value > 0 else "level with" if found.value == 0 else "behind"
        said = [
            f"{agent} is {lead} the best simple rule, {rule.name} ({percent(final.accuracy)} against "
            f"{percent(rule.accuracy)} %); how many images that was measured on is not known, so the noise is not either."
        ]
    elif outcome == "for":
        said = [f"{agent} beats the best simple rule, {rule.name}, by {found.text()}, which is more than the noise."]
    elif outcome == "against":
        said = [
            f"A simple rule wins: {rule.name} ({with_error(rule.accuracy, rule.accuracy_se)} %) beats {agent} by "
            f"{found.text()}, which is more than the noise. Take its network with --agent {rule.name}."
        ]
    elif found.value > 0:
        said = [
            f"{agent} is ahead of the best simple rule, {rule.name}, by {found.text()}: within the noise, so this run "
            "does not show that the search beats the rule."
        ]
    elif found.value == 0:
        said = [f"{agent} and the best simple rule, {rule.name}, are level ({percent(rule.accuracy)} %)."]
    else:
        said = [
            f"A simple rule, {rule.name} ({with_error(rule.accuracy, rule.accuracy_se)} %), is ahead of {agent} by "
            f"{found.text()}: within the noise, but the search has nothing to show for its effort here."
        ]
    random = run.row("random")
    if random is not None and agent != "random":
        said.append(_about_random(final, random))
    if found.error is not None:
        said.append(
            "± is one standard error, and less than two of them count as noise. The counts of right answers do not allow a "
            "paired test: the standard error of the difference is that of independent measurements, which is too large for "
            "networks measured on the same images. That is conservative."
        )
    return outcome, said


def _about_random(final: Row, random: Row) -> str:
    found = compare(final, random)
    effort = f"random search with {random.policies_scored:,} policies"
    if found.value == 0:
        return f"It is level with {effort}."
    where = "ahead of" if found.value > 0 else "behind"
    noise = (
        "" if found.error is None else (", within the noise" if found.outcome == "open" else ", more than the noise")
    )
    return f"It is {found.text()} {where} {effort}{noise}."


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
