"""What shows a search, and what receives its events."""

from __future__ import annotations

from contextlib import ExitStack
from typing import TYPE_CHECKING

from autoprune.report import Progress, SearchEvents, search_bar

if TYPE_CHECKING:
    from autoprune.report import SearchBar


def search_progress(stack: ExitStack, *, tensorboard: bool, quiet: bool) -> tuple[SearchBar, Progress]:
    """Return what shows a search until ``stack`` is closed, and what receives its events: that, and event files if wanted."""
    shown = stack.enter_context(search_bar(quiet=quiet))
    return shown, stack.enter_context(SearchEvents(shown)) if tensorboard else shown
