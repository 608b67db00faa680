"""The user's module is run and given back as it was: what it takes, what it keeps, and gradients that cannot crash."""

from autoprune.model_guard._described import described, from_description
from autoprune.model_guard._gradients import SafeGradients
from autoprune.model_guard._guard import eval_mode, modes_as_they_were, unchanged
from autoprune.model_guard._inputs import ModelInputs, as_inputs
from autoprune.model_guard._takes import check_example, check_inputs, check_signature, run_once, why

__all__ = [
    "ModelInputs",
    "SafeGradients",
    "as_inputs",
    "check_example",
    "check_inputs",
    "check_signature",
    "described",
    "eval_mode",
    "from_description",
    "modes_as_they_were",
    "run_once",
    "unchanged",
    "why",
]
