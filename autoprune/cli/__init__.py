"""The command line: thin, and fast to answer, since every verb imports what it needs when it runs."""

from autoprune.cli._main import main, run

__all__ = ["main", "run"]
