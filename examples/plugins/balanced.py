"""A reward of one's own: accuracy and the multiply-adds saved count alike, by their harmonic mean.

From this folder the same is
``autoprune search --budget-mode at-most --budget 0.9 --reward balanced:balanced --agent tpe --episodes 10``.
"""

from __future__ import annotations

import autoprune
from autoprune import Budget, Score
from autoprune.data import load_data
from autoprune.evaluation import rewards
from autoprune.models import load_model


@rewards.register("balanced")
def balanced(score: Score, dense: Score, budget: Budget) -> float:
    """Return 2 a s / (a + s) of the accuracy kept a and the share of MACs saved s.

    Args:
        score: The policy's accuracy, loss, macs and params.
        dense: The same of the network before pruning.
        budget: What was asked for.
    """
    kept = score.accuracy / dense.accuracy
    saved = 1 - score.macs / dense.macs
    return 2 * kept * saved / (kept + saved) if kept + saved > 0 else 0.0


def main() -> None:
    """Search with it; the budget is only a ceiling."""
    dense = load_model("digits")
    images = load_data("digits", mean=dense.mean, std=dense.std)
    result = autoprune.search(
        dense.model,
        dense.example_input(),
        calibration=images.calibration,
        evaluate=images.search,
        report=images.report,
        budget=0.9,
        budget_mode="at-most",
        reward="balanced",
        agent="tpe",
        episodes=4,
        baselines=("uniform",),
        finish_steps=0,  # seconds; leave it out for the best network
    )
    print(result.table)


if __name__ == "__main__":
    main()
