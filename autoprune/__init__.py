"""Automatic channel pruning: a budget in, a smaller ordinary PyTorch network and the policy that made it out."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

from autoprune._checkout import import_from_the_checkout

if TYPE_CHECKING:
    from autoprune.budget import Budget, Limit
    from autoprune.errors import AutopruneError, UsageError
    from autoprune.evaluation import Score
    from autoprune.finetuning import FinetuneResult, Recipe, finetune
    from autoprune.graph import build_graph
    from autoprune.problem import Problem, make_problem
    from autoprune.searching import SearchResult, search
    from autoprune.surgery import Policy, prune_model

__version__ = "0.1.0"

__all__ = [
    "AutopruneError",
    "Budget",
    "FinetuneResult",
    "Limit",
    "Policy",
    "Problem",
    "Recipe",
    "Score",
    "SearchResult",
    "UsageError",
    "__version__",
    "build_graph",
    "finetune",
    "make_problem",
    "prune_model",
    "search",
]

import_from_the_checkout()

# Imported when first asked for, so that the command line can answer without loading torch.
_HOMES = {
    "AutopruneError": "errors",
    "Budget": "budget",
    "FinetuneResult": "finetuning",
    "Limit": "budget",
    "Policy": "surgery",
    "Problem": "problem",
    "Recipe": "finetuning",
    "Score": "evaluation",
    "SearchResult": "searching",
    "UsageError": "errors",
    "build_graph": "graph",
    "finetune": "finetuning",
    "make_problem": "problem",
    "prune_model": "surgery",
    "search": "searching",
}


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module 'autoprune' has no attribute '{name}'")
    value: object = getattr(import_module(f"autoprune.{_HOMES[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(set(globals()) | set(__all__))
