"""scikit-learn's handwritten digits: 1,797 images of 1x8x8, bundled with the package, so that nothing is downloaded."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from autoprune.support.packages import lazy

datasets = lazy("sklearn.datasets", "The data 'digits' need")

NAME = "digits"
MEAN = (0.3053,)  # of the images in [0, 1]
STD = (0.3761,)
TRAIN, SEARCH = 1000, 400  # the remaining 397 images are the report part
_SPLIT_SEED = 0


def read_digits() -> tuple[npt.NDArray[np.float32], npt.NDArray[np.int64]]:
    """Return all images, shape (1797, 1, 8, 8) in [0, 1], and labels, shape (1797,), in a fixed random order."""
    images, labels = datasets.load_digits(return_X_y=True)
    order = np.random.default_rng(_SPLIT_SEED).permutation(len(labels))
    x = (images[order] / 16.0).astype(np.float32).reshape(-1, 1, 8, 8)
    return x, labels[order].astype(np.int64)
