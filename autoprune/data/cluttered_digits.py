"""Scenes of 1x32x32 composed of scikit-learn's digits: which digit is in the middle, among others that cover its edges, in noise.

The digits are split before scenes are composed of them, so that no digit is in scenes of two parts. All arithmetic is in
whole numbers, so that every machine composes the same scenes.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from autoprune.data.digits import SEARCH, TRAIN, read_digits

NAME = "cluttered-digits"
SHAPE = (1, 32, 32)
MEAN = (0.4406,)  # of the training scenes in [0, 1]
STD = (0.2725,)
SCENES = {"train": 8000, "search": 1000, "report": 2000}
"""Scenes of each part, in the order of their seeds."""
CALIBRATION = 2000
"""The first of the training scenes, for statistics."""
_SIZE, _MARGIN = 16, 16  # pixels of a digit's side, and around the scene while it is composed
_SHIFT = 3  # most pixels between the digit in the middle and the middle
_BESIDE, _ALONG = (12, 15), 8  # pixels from its centre to another's, and most along its edge
_INK, _FAINTER, _NOISE = (
    12,
    (3, 4),
    140,
)  # a digit has 17 levels; the others' ink as a share of its; noise is below this
Images = npt.NDArray[np.uint8]
Labels = npt.NDArray[np.int64]


def read_scenes(part: str) -> tuple[Images, Labels]:
    """Compose the scenes of a part, the same on every call.

    Args:
        part: "train", "search" or "report".

    Returns:
        Images, shape (N, 1, 32, 32), and the label of each one's digit in the middle, shape (N,).
    """
    images, labels = read_digits()
    first, second = TRAIN, TRAIN + SEARCH
    own = {"train": slice(0, first), "search": slice(first, second), "report": slice(second, None)}[part]
    pictures = np.rint(images[own, 0] * 16).astype(np.uint16)
    return compose(pictures, labels[own], SCENES[part], np.random.default_rng(list(SCENES).index(part)))


def compose(
    pictures: npt.NDArray[np.uint16], labels: Labels, count: int, rng: np.random.Generator
) -> tuple[Images, Labels]:
    """Compose scenes of digits: one in the middle, a fainter one on each of its four sides behind it, and noise.

    Args:
        pictures: The digits, shape (n, 8, 8), 0 to 16; each pixel becomes two by two.
        labels: Their labels, shape (n,).
        count: Scenes.
        rng: Which digits go where, and the noise.
    """
    large = pictures.repeat(2, 1).repeat(2, 2) * _INK
    side = SHAPE[-1] + 2 * _MARGIN
    canvas = np.zeros((count, side, side), np.uint16)
    within = np.arange(_SIZE)

    def put(ink: npt.NDArray[np.uint16], top: Labels, left: Labels) -> None:
        rows, columns = (top[:, None] + within)[:, :, None], (left[:, None] + within)[:, None, :]
        at = (np.arange(count)[:, None, None], rows, columns)
        canvas[at] = np.maximum(canvas[at], ink)

    middle = rng.integers(0, len(large), count)
    top, left = (side - _SIZE) // 2 + rng.integers(-_SHIFT, _SHIFT + 1, (2, count))
    for down, right in ((-1, 0), (1, 0), (0, -1), (0, 1)):
        other = large[rng.integers(0, len(large), count)] * _FAINTER[0] // _FAINTER[1]
        away = rng.integers(_BESIDE[0], _BESIDE[1] + 1, count)
        along = rng.integers(-_ALONG, _ALONG + 1, count)
        put(other, top + (down * away if down else along), left + (right * away if right else along))
    put(large[middle], top, left)
    scenes = canvas[:, _MARGIN:-_MARGIN, _MARGIN:-_MARGIN] + rng.integers(
        0, _NOISE, (count, *SHAPE[1:]), dtype=np.uint16
    )
    return np.minimum(scenes, 255).astype(np.uint8)[:, None], labels[middle]
