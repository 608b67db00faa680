"""Where the command line writes: results on stdout, everything else on stderr."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import Any

from autoprune.support.packages import missing


def result(text: str) -> None:
    """Print a result for people on stdout."""
    sys.stdout.write(text + "\n")


def result_json(values: Mapping[str, Any]) -> None:
    """Print a result for machines on stdout, as one JSON object."""
    from autoprune.support.strict_json import to_json

    sys.stdout.write(to_json(values, indent=2) + "\n")


def say(text: str) -> None:
    """Print something that is not a result on stderr."""
    sys.stderr.write(text + "\n")


def complain(text: str) -> None:
    """Print what went wrong on stderr."""
    if missing(["rich"]) is not None:
        say(f"Error: {text}")
        return
    from rich.console import Console

    Console(stderr=True, soft_wrap=True, highlight=False).print("[bold red]Error:[/]", end=" ")
    say(text)
