"""What can be pruned: groups, layers and sensitivities of a network, before any search."""

from typing import TYPE_CHECKING

from autoprune.inspection._inspection import inspect_model, letters
from autoprune.inspection._network import Network, Stage, describe, read_network, run_network
from autoprune.inspection._sensitivity import FILE, Probe, measure, measure_problem, plan, probes_among, read_probes
from autoprune.support.packages import lazy_names

if TYPE_CHECKING:
    from autoprune.inspection._text import inspection_text, inspection_view, together, tree_rows

__all__ = [
    "FILE",
    "Network",
    "Probe",
    "Stage",
    "describe",
    "inspect_model",
    "inspection_text",
    "inspection_view",
    "letters",
    "measure",
    "measure_problem",
    "plan",
    "probes_among",
    "read_network",
    "read_probes",
    "run_network",
    "together",
    "tree_rows",
]

_TEXT = ("inspection_text", "inspection_view", "together", "tree_rows")
__getattr__ = lazy_names(__name__, dict.fromkeys(_TEXT, "_text"))  # drawn by rich
