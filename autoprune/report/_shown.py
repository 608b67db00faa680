"""Whether and how a search is shown on stderr."""

from __future__ import annotations

import sys
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING

from autoprune.report._progress import Progress
from autoprune.support.packages import missing

if TYPE_CHECKING:
    from autoprune.report._bar import SearchBar


def progress_of(asked: Progress | bool | None) -> AbstractContextManager[Progress]:
    """Return what receives a search's events until it is closed.

    Args:
        asked: A receiver; True for a bar on stderr, False for none, None for a bar on a terminal or in a notebook alone.
    """
    if isinstance(asked, Progress):
        return nullcontext(asked)
    watched = (sys.stderr.isatty() or "ipykernel" in sys.modules) and missing(["rich"]) is None
    return search_bar() if asked or (asked is None and watched) else nullcontext(Progress())


def search_bar(*, quiet: bool = False) -> SearchBar:
    """Return the progress of a search on stderr, to be used in a ``with`` statement; see there."""
    from autoprune.report._bar import SearchBar

    return SearchBar(quiet=quiet)
