"""The command line: thin, and fast to answer, since every verb imports what it needs when it runs."""

from autoprune.cli._main import main

__all__ = ["main"]
