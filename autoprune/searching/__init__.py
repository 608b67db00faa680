"""The search: agents propose, a problem scores, the best are finished, and everything is kept."""

from autoprune.searching._agent_state import checked
from autoprune.searching._api import SearchResult, search
from autoprune.searching._apply import apply_policy
from autoprune.searching._choice import area, candidates, descent, front, knee, ranked, thinned
from autoprune.searching._driver import Driver
from autoprune.searching._ending import CONVERGED, Ending, Stop, parse_seconds
from autoprune.searching._plugins import check_plugins
from autoprune.searching._recheck import check_score
from autoprune.searching._resolve import metric_asked, resolve
from autoprune.searching._session import (
    drive,
    inputs_of,
    load_asked,
    problem_of,
    refuse_dense,
    refuse_differences,
    search_to_folder,
    take_over,
    told_to,
)

__all__ = [
    "CONVERGED",
    "Driver",
    "Ending",
    "SearchResult",
    "Stop",
    "apply_policy",
    "area",
    "candidates",
    "check_plugins",
    "check_score",
    "checked",
    "descent",
    "drive",
    "front",
    "inputs_of",
    "knee",
    "load_asked",
    "metric_asked",
    "parse_seconds",
    "problem_of",
    "ranked",
    "refuse_dense",
    "refuse_differences",
    "resolve",
    "search",
    "search_to_folder",
    "take_over",
    "thinned",
    "told_to",
]
