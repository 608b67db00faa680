"""Automatic channel pruning: a budget in, a smaller ordinary PyTorch network and the policy that made it out.

The names listed here are what most users need; ``docs/api.md`` says what each is for and how stable it is. The rest is in
packages by role (``autoprune.agents``, ``autoprune.latency``, ...; see CONTRIBUTING).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from autoprune._checkout import import_from_the_checkout
from autoprune.support.packages import lazy_names

if TYPE_CHECKING:
    from autoprune.agents import Agent
    from autoprune.budget import Budget, costs
    from autoprune.comparison import compare
    from autoprune.errors import AutopruneError, UsageError
    from autoprune.evaluation import Score, rewards
    from autoprune.exporting import export_model
    from autoprune.finetuning import FinetuneResult, Recipe, finetune
    from autoprune.graph import proved_graph
    from autoprune.inspection import inspect_model
    from autoprune.latency import Target
    from autoprune.problem import Problem, make_problem
    from autoprune.searching import SearchResult, search
    from autoprune.select import Selection, selections
    from autoprune.surgery import Policy, load_pruned, prune_model

__version__ = "0.1.0"

__all__ = [
    "Agent",
    "AutopruneError",
    "Budget",
    "FinetuneResult",
    "Policy",
    "Problem",
    "Recipe",
    "Score",
    "SearchResult",
    "Selection",
    "Target",
    "UsageError",
    "__version__",
    "compare",
    "costs",
    "export_model",
    "finetune",
    "inspect_model",
    "load_pruned",
    "make_problem",
    "proved_graph",
    "prune_model",
    "rewards",
    "search",
    "selections",
]

import_from_the_checkout()

# Imported when first asked for, so that the command line can answer without loading torch.
__getattr__ = lazy_names(
    __name__,
    {
        "Agent": "agents",
        "AutopruneError": "errors",
        "Budget": "budget",
        "FinetuneResult": "finetuning",
        "Policy": "surgery",
        "Problem": "problem",
        "Recipe": "finetuning",
        "Score": "evaluation",
        "SearchResult": "searching",
        "Selection": "select",
        "Target": "latency",
        "UsageError": "errors",
        "compare": "comparison",
        "costs": "budget",
        "export_model": "exporting",
        "finetune": "finetuning",
        "inspect_model": "inspection",
        "load_pruned": "surgery",
        "make_problem": "problem",
        "proved_graph": "graph",
        "prune_model": "surgery",
        "rewards": "evaluation",
        "search": "searching",
        "selections": "select",
    },
)


def __dir__() -> list[str]:
    return sorted(set(globals()) | set(__all__))
