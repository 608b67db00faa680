"""How much of a search is done, in dense passes over the search images, and how long the rest takes."""

from __future__ import annotations

FIRST_GUESS = 1.0
"""Dense passes that a score is taken to cost before the first is known."""


class Workload:
    """The work of one session of a search: policies to score, and steps beside them, some of which are still to come.

    Times are in seconds since the same moment, and the caller's.

    Attributes:
        done: Work that is done, in dense passes.
        policies: How many policies are to be scored at most.
        scored: How many were scored in this session.
    """

    def __init__(self) -> None:
        self.done = 0.0
        self.policies = self.scored = 0
        self._planned = self._running = self._spent = 0.0

    def plan(self, policies: int, passes: float) -> None:
        """Say what is to come: at most so many policies, and steps of about so many dense passes in all."""
        self._end_step()
        self.policies, self._planned = policies, passes

    def step(self, passes: float) -> None:
        """Begin a step of those planned, of about so many dense passes."""
        self._end_step()
        self._running = passes
        self._planned = max(0.0, self._planned - passes)

    def score(self, cost: float) -> None:
        """Count a policy that was scored, for so many dense passes; one whose score was known costs nothing."""
        self._end_step()
        self.done += cost
        self._spent += cost
        self.scored += 1
        self.policies = max(0, self.policies - 1)

    @property
    def left(self) -> float:
        """Work that is left, in dense passes: a score is taken to cost what those before it cost in the mean."""
        each = self._spent / self.scored if self.scored else FIRST_GUESS
        return self.policies * each + self._running + self._planned

    def seconds_left(self, elapsed_s: float) -> float | None:
        """Return how long what is left takes at the pace so far; None before anything is done."""
        return elapsed_s / self.done * self.left if self.done > 0 else None

    def _end_step(self) -> None:
        self.done += self._running
        self._running = 0.0
