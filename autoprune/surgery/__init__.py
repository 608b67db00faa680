"""Surgery: a model and the channels to keep, in; an ordinary smaller model of the same classes, out."""

from autoprune.surgery._calls import calls_that_follow
from autoprune.surgery._fold import foldable, folded
from autoprune.surgery._load import load_pruned
from autoprune.surgery._plan import Kept
from autoprune.surgery._prune import copy_model, prune_model

__all__ = ["Kept", "calls_that_follow", "copy_model", "foldable", "folded", "load_pruned", "prune_model"]
