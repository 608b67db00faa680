"""The search: agents propose, a problem scores, the best are finished, and everything is kept."""

from autoprune.searching._api import SearchResult, search
from autoprune.searching._apply import apply_policy
from autoprune.searching._choice import area, descent, front, knee, ranked, thinned
from autoprune.searching._driver import FINISHED, MOST_TRIED, Driver
from autoprune.searching._lanes import checked
from autoprune.searching._recheck import check_score
from autoprune.searching._session import (
    check_plugins,
    inputs_of,
    make_problem,
    refuse_differences,
    search_to_folder,
    target_for,
)

__all__ = [
    "FINISHED",
    "MOST_TRIED",
    "Driver",
    "SearchResult",
    "apply_policy",
    "area",
    "check_plugins",
    "check_score",
    "checked",
    "descent",
    "front",
    "inputs_of",
    "knee",
    "make_problem",
    "ranked",
    "refuse_differences",
    "search",
    "search_to_folder",
    "target_for",
    "thinned",
]
