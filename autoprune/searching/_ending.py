"""How a search ends: limits that a run may reach before its agent has proposed all its policies, and whose network it hands over.

Nothing here is part of what a run is: with more time, or without limits, the same run goes on where it ended.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Literal, cast

from autoprune.errors import UsageError
from autoprune.evaluation import Score
from autoprune.runs import RunFolder
from autoprune.support.reading import reading

CONVERGED: Final = "converged"
"""The patience that rests on what the agent expects."""
ENOUGH = 0.1
"""Standard errors by which a policy must be expected to be better than the best so far, so that a search goes on."""

Why = Literal["converged", "patience", "timeout", "passes", "interrupted"]


@dataclass(frozen=True)
class Stop:
    """Why a search ended early.

    Attributes:
        why: The limit that was reached.
        text: The same in words, as the end of a sentence: "... because it was interrupted".
        after: For patience the policies without a better one.
    """

    why: Why
    text: str
    after: int | None = None

    @property
    def hurried(self) -> bool:
        """Whether time is up, so that no more is finished than need be."""
        return self.why in ("timeout", "passes", "interrupted")

    @classmethod
    def from_report(cls, report: Mapping[str, Any]) -> Stop | None:
        """Return why the search of a finished run ended early, None if it did not."""
        values = report.get("stopped")
        if values is None:
            return None
        with reading("What the report says of the search's end", "restore it or run the search again"):
            found = cls(cast(Why, str(values["why"])), str(values["text"]), values["after"])
        return found


@dataclass(frozen=True)
class Ending:
    """How a search is to end.

    Attributes:
        timeout_s: Wall time in seconds, of all sessions of the run together, after which nothing more is scored.
        max_passes: Dense passes over the search images, for preparing and scores, after which nothing more is scored.
        patience: Policies without a better one after which the agent's search ends; "converged" for when the agent expects none
            that is better by more than the noise; None for never.
        row: The agent or rule whose best network is to be the result; None for the best of all.
        stop: Set from outside to end with the best so far.
        only_row: Whether the run had ended, so that nothing more is scored.

    Raises:
        UsageError: if a limit is not positive.
    """

    timeout_s: float | None = None
    max_passes: float | None = None
    patience: int | Literal["converged"] | None = CONVERGED
    row: str | None = None
    stop: threading.Event = field(default_factory=threading.Event, compare=False)
    only_row: bool = False

    def __post_init__(self) -> None:
        for name, value in (("timeout", self.timeout_s), ("max-passes", self.max_passes)):
            if value is not None and not 0 < value < float("inf"):
                raise UsageError(f"The value of {name} is {value:g}, but must be above 0.")
        if self.patience not in (None, CONVERGED) and (type(self.patience) is not int or self.patience < 1):
            raise UsageError(
                f"The value of patience is {self.patience!r:.40}, but must be a whole number of at least 1, "
                f"'{CONVERGED}' or none."
            )

    def reached(self, elapsed_s: float, passes: float) -> Stop | None:
        """Return why nothing more is to be scored after so much time and so many dense passes; None if there is no reason."""
        if self.stop.is_set():
            return Stop("interrupted", "it was interrupted")
        if self.timeout_s is not None and elapsed_s >= self.timeout_s:
            return Stop("timeout", f"the {self.timeout_s:g} s that it may take were over")
        if self.max_passes is not None and passes >= self.max_passes:
            return Stop("passes", f"the {self.max_passes:g} dense passes that it may take were spent")
        return None

    def is_spent(self, since: Callable[[], int]) -> Stop | None:
        """Return why an agent's search ends that found nothing better for long; None if it goes on.

        Args:
            since: Returns how many policies came after its best; asked only where they count.
        """
        if not isinstance(self.patience, int) or (policies := since()) < self.patience:
            return None
        return Stop("patience", f"{policies} policies in a row were not better than the best", self.patience)

    def is_converged(self, gain: float, best: Score) -> Stop | None:
        """Return why the policy that an agent just proposed need not be scored; None if it should be.

        Args:
            gain: What the agent expects of it (`Agent.expected_gain`).
            best: Its best policy's score so far.
        """
        if self.patience != CONVERGED or not gain <= ENOUGH * best.drop_se:  # which may be NaN
            return None
        metric = best.metric
        most = metric.error_text(max(gain, 1e-4) if metric.share else gain)
        return Stop("converged", f"no policy is expected to be better by more than {most}{metric.difference_unit}")

    def goes_on(self, report: Mapping[str, Any]) -> bool:
        """Return whether a finished run that ended early has something left to do under these limits."""
        stopped = Stop.from_report(report)
        if stopped is None:
            return False
        with reading("What the report says of the run's cost", "restore it or run the search again"):
            elapsed, spent = float(report["wall_s"]), report["passes"]
            passes = float(spent["preparing"] + spent["scoring"])
        if self.reached(elapsed, passes) is not None:
            return False
        if stopped.why == "converged":
            return self.patience != CONVERGED
        if stopped.why == "patience":
            return not isinstance(self.patience, int) or self.patience > (stopped.after or 0)
        return True


def has_ended(folder: RunFolder, ending: Ending | None) -> bool:
    """Return whether a run is finished, and nothing is left to do with these limits and this choice of its result.

    Raises:
        UsageError: if its report is damaged.
    """
    if not folder.finished:
        return False
    report, ending = folder.read_report(), ending or Ending()
    return not ending.goes_on(report) and ending.row in (None, report["exported"])


def parse_seconds(text: str) -> float:
    """Read a time like "90", "60s", "10m" or "1.5h" to seconds.

    Raises:
        UsageError: if it is none.
    """
    units = {"s": 1.0, "m": 60.0, "h": 3600.0}
    number, unit = (text[:-1], units[text[-1]]) if text[-1:] in units else (text, 1.0)
    try:
        return float(number) * unit
    except ValueError:
        raise UsageError(f"The time '{text}' is none; give seconds, minutes or hours, like 90s, 10m or 1.5h.") from None
