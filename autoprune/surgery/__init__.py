"""Surgery: a model and the channels to keep, in; an ordinary smaller model of the same classes, out."""

from autoprune.surgery._load import load_pruned
from autoprune.surgery._plan import Kept
from autoprune.surgery._prune import prune_model

__all__ = ["Kept", "load_pruned", "prune_model"]
