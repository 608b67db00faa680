"""Whether the dense network is as good as it should be: if not, its weights, its preprocessing or the labels are wrong."""

from __future__ import annotations

import math

from autoprune.errors import AutopruneError
from autoprune.evaluation import ACCURACY

Z = 3.29
"""Standard errors of the bounds on the dense accuracy: beyond them it is once in a thousand."""
ABOVE_CHANCE = 0.1
"""Share of the way from chance to all right that a network which is worth pruning has made."""
OF_PROMISED = 0.5
"""Share of the published accuracy below which it is far below."""
ADVICE = (
    "the weights, the preprocessing (mean, std, size) or the numbering of the labels are probably wrong; correct that, or go on "
    "with --accept-dense (accept_dense=True)."
)


def check_dense(
    metric: str, accuracy: float, images: float, classes: int | None, promised: tuple[str, float] | None
) -> None:
    """Refuse a dense network that is no better than chance, or far below what its published weights promise.

    Both are said of accuracies with labels alone, and only where there are images enough to exclude, by bounds of 3.29 standard
    errors (Wilson 1927), that the network is fine.

    Args:
        metric: What is measured.
        accuracy: The dense network's, in [0, 1].
        images: On how many images; NaN where that is not known.
        classes: The number of classes, as the outputs say; None where they are no scores of classes.
        promised: The data that the accuracy of the published weights was measured on, and that accuracy; None for other weights.

    Raises:
        AutopruneError: if it is.
    """
    if metric != ACCURACY.name or not images >= 1:
        return
    least, most = wilson(accuracy, images)
    said = f"The dense network is right on {100 * accuracy:.2f} % of {images:,.0f} search images"
    if classes is not None and classes > 1:
        chance = 1 / classes
        if least <= chance and most < chance + ABOVE_CHANCE * (1 - chance):
            raise AutopruneError(
                f"{said}, no more than guessing one of {classes} classes ({100 * chance:.2f} %): {ADVICE}"
            )
    if promised is not None and most < OF_PROMISED * promised[1]:
        data, share = promised
        raise AutopruneError(f"{said}, but its weights promise {100 * share:.2f} % on {data}: {ADVICE}")


def wilson(share: float, count: float) -> tuple[float, float]:
    """Return bounds on a share that was seen in so many independent trials (Wilson 1927, equation 2)."""
    middle = (share + Z**2 / (2 * count)) / (1 + Z**2 / count)
    half = Z / (1 + Z**2 / count) * math.sqrt(share * (1 - share) / count + Z**2 / (4 * count**2))
    return middle - half, middle + half
