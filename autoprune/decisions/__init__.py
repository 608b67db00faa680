"""What a policy decides: levels by name. A coupling group's channels are the first kind; others are registered."""

from autoprune.decisions._apply import applied, decisions_of, entries_of, kinds_of, network_of
from autoprune.decisions._decision import CHANNELS, Decision, StandaloneDecision, channel_groups, share_lost, standalone
from autoprune.decisions._find import Finder, find, finders, standalone_decisions

__all__ = [
    "CHANNELS",
    "Decision",
    "Finder",
    "StandaloneDecision",
    "applied",
    "channel_groups",
    "decisions_of",
    "entries_of",
    "find",
    "finders",
    "kinds_of",
    "network_of",
    "share_lost",
    "standalone",
    "standalone_decisions",
]
