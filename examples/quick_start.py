"""Half the multiply-adds of a network, in a dozen lines.

The network is the embedded default: a small residual network for scikit-learn's handwritten digits, trained on first use
(seconds) and cached. Takes less than a minute.
"""

from __future__ import annotations

import autoprune
from autoprune.data import load_data
from autoprune.models import load_model


def main() -> None:
    """Search, print the table, save the result."""
    dense = load_model("digits")
    images = load_data("digits", mean=dense.mean, std=dense.std)
    result = autoprune.search(
        dense.model,
        dense.example_input(),
        calibration=images.calibration,  # for statistics
        evaluate=images.search,  # policies are scored on these
        report=images.report,  # never seen by the search
        budget=0.5,
        agent="auto",
        episodes=30,
        seed=0,
    )
    print(result.table)
    print(result.model)  # an ordinary, smaller module of the same class
    result.save("runs/quick-start")


if __name__ == "__main__":
    main()
