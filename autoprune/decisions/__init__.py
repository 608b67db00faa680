"""What a policy decides: levels by name. A coupling group's channels are the first kind; others are registered."""

from autoprune.decisions._apply import applied, decisions_of, entries_of, kinds_of, network_of
from autoprune.decisions._decision import CHANNELS, Decision, StandaloneDecision, channel_groups, share_lost, standalone
from autoprune.decisions._find import Finder, find, finders, standalone_decisions
from autoprune.decisions._given import Bounds, Ignore, as_share, restrictions_of
from autoprune.decisions._restrictions import Restricted, Restrictions, Share

__all__ = [
    "CHANNELS",
    "Bounds",
    "Decision",
    "Finder",
    "Ignore",
    "Restricted",
    "Restrictions",
    "Share",
    "StandaloneDecision",
    "applied",
    "as_share",
    "channel_groups",
    "decisions_of",
    "entries_of",
    "find",
    "finders",
    "kinds_of",
    "network_of",
    "restrictions_of",
    "share_lost",
    "standalone",
    "standalone_decisions",
]
