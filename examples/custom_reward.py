"""A reward of one's own: how much accuracy a saved multiply-add is worth is the user's to say.

The same from the command line, from this folder:
    autoprune search --budget-mode at-most --budget 0.8 --reward custom_reward:thrifty --agent tpe --episodes 30
"""

from __future__ import annotations

import autoprune
from autoprune import Budget, Score
from autoprune.data import load_data
from autoprune.models import load_model


def thrifty(score: Score, dense: Score, budget: Budget) -> float:
    """Return the accuracy kept, plus one point of accuracy for every tenth of the MACs saved.

    Args:
        score: The policy's accuracy, loss, macs and params.
        dense: The same of the network before pruning.
        budget: What was asked for.
    """
    saved = 1 - score.macs / dense.macs
    return (score.accuracy - dense.accuracy) + 0.01 * saved / 0.1


def main() -> None:
    """Search with the reward; the budget is only a ceiling."""
    dense = load_model("digits")
    images = load_data("digits", mean=dense.mean, std=dense.std)
    result = autoprune.search(
        dense.model,
        dense.example_input(),
        calibration=images.calibration,
        evaluate=images.search,
        report=images.report,
        budget=0.8,
        budget_mode="at-most",
        reward=thrifty,
        agent="tpe",
        episodes=30,
    )
    print(result.table)
    kept = result.policy.achieved["ratio"]
    print(f"The reward chose {kept:.3f} of the MACs where 0.800 were allowed.")


if __name__ == "__main__":
    main()
