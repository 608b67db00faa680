"""What a search tells about itself while it runs; this one keeps silent, the command line's draws a bar."""

from __future__ import annotations

from autoprune.report._rows import Row
from autoprune.runs import Episode, RunFolder


class Progress:
    """Receives a search's events. Override what is of interest."""

    def stage(self, text: str) -> None:
        """Say what is being done now ("Tracing the network")."""

    def opened(self, folder: RunFolder) -> None:
        """The run is kept in ``folder``, from where it can be continued."""

    def measured(self, done: int, total: int) -> None:
        """Before the search, where latency is limited: ``done`` of at most ``total`` networks are profiled on the target."""

    def begin(self, total: int, done: int) -> None:
        """Policies are going to be scored: at most ``total``, of which an earlier session scored ``done``."""

    def plan(self, policies: int, passes: float) -> None:
        """What is to come: at most so many policies, and steps of about so many dense passes over the search images in all."""

    def step(self, text: str, passes: float) -> None:
        """A step beside the scores begins (probing, one final reconstruction), of about so many of the passes planned."""
        self.stage(text)

    def scored(self, episode: Episode, best: Episode | None) -> None:
        """One policy was scored; ``best`` is its agent's best within the budget so far."""

    def finished(self, row: Row) -> None:
        """One line of the table is finished."""
