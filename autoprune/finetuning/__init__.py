"""Training of a pruned network to its best: distillation from the dense one, exact resumption, a from-scratch control."""

from autoprune.finetuning._api import FinetuneResult, finetune
from autoprune.finetuning._progress import FinetuneProgress, Several
from autoprune.finetuning._recipe import Recipe
from autoprune.finetuning._run import finetune_run, finetuned_results, finetuned_weights, refresh_report

__all__ = [
    "FinetuneProgress",
    "FinetuneResult",
    "Recipe",
    "Several",
    "finetune",
    "finetune_run",
    "finetuned_results",
    "finetuned_weights",
    "refresh_report",
]
