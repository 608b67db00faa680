"""Surgery: a model and the channels to keep, in; an ordinary smaller model of the same classes, out."""

from autoprune.surgery._calls import calls_that_follow
from autoprune.surgery._fold import foldable, folded
from autoprune.surgery._layout import Inputs, fast_layout, lay_out, run_in_layout, strides_kept
from autoprune.surgery._load import load_pruned, load_state
from autoprune.surgery._plan import Kept
from autoprune.surgery._policy import Policy, PolicyGroup
from autoprune.surgery._prune import copy_model, prune_model
from autoprune.surgery._standalone import LOADER, loader_text

__all__ = [
    "LOADER",
    "Inputs",
    "Kept",
    "Policy",
    "PolicyGroup",
    "calls_that_follow",
    "copy_model",
    "fast_layout",
    "foldable",
    "folded",
    "lay_out",
    "load_pruned",
    "load_state",
    "loader_text",
    "prune_model",
    "run_in_layout",
    "strides_kept",
]
