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

    def begin(self, total: int, done: int) -> None:
        """Policies are going to be scored: at most ``total``, of which an earlier session scored ``done``."""

    def scored(self, episode: Episode, best: Episode | None) -> None:
        """One policy was scored; ``best`` is its agent's best within the budget so far."""

    def finished(self, row: Row) -> None:
        """One line of the table is finished."""
