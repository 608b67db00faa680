"""A named data source of one's own: scikit-learn's digits with noise, ``noisy-digits:0.4`` for a deviation of 0.4.

From this folder the same without noise is ``autoprune search --model digits --data noisy_digits:noisy_digits --episodes 10``.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from sklearn.datasets import load_digits
from torch.utils.data import TensorDataset

import autoprune
from autoprune.data import data_sources, load_data
from autoprune.models import load_model


@data_sources.register("noisy-digits")
def noisy_digits(root: str = "0", mean: Sequence[float] = (), std: Sequence[float] = ()) -> dict[str, TensorDataset]:
    """Return the parts by name.

    Args:
        root: What stands behind the colon: the noise's standard deviation, in units of full brightness.
        mean: Subtracted from images in [0, 1]; the network's.
        std: Divided by.
    """
    pixels, labels = load_digits(return_X_y=True)
    x = torch.tensor(pixels / 16, dtype=torch.float32).reshape(-1, 1, 8, 8)
    x += float(root or 0) * torch.randn(x.shape, generator=torch.Generator().manual_seed(0))
    x, y = (x - (*mean, 0.0)[0]) / (*std, 1.0)[0], torch.tensor(labels)
    ends = {"calibration": slice(0, 1000), "search": slice(1000, 1400), "report": slice(1400, None)}
    return {name: TensorDataset(x[part], y[part]) for name, part in ends.items()}


def main() -> None:
    """Search on it."""
    dense = load_model("digits")
    images = load_data("noisy-digits:0.2", mean=dense.mean, std=dense.std)
    print(images.description)
    result = autoprune.search(
        dense.model,
        dense.example_input(),
        calibration=images.calibration,
        evaluate=images.search,
        report=images.report,
        budget=0.5,
        agent="tpe",
        episodes=4,
        baselines=("uniform",),
        finish_steps=0,  # seconds; leave it out for the best network
    )
    print(result.table)


if __name__ == "__main__":
    main()
