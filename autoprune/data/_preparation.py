"""What is done to the pictures of an image folder before a network sees them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from torch import Tensor

from autoprune.errors import UsageError
from autoprune.registry import find_factory
from autoprune.support.packages import lazy

if TYPE_CHECKING:
    from PIL import Image

transforms = lazy("torchvision.transforms", "An image folder needs")

_ENLARGE = 256 / 224  # the usual resize before the centre crop


@dataclass(frozen=True)
class Preparation:
    """What was asked to be done to pictures; None for what is usual.

    Attributes:
        resize: Length of the shorter side, (n,), or both sides, (height, width), or () for no resizing.
        crop: Height and width that are cut out at the centre, or () for no cropping; None for the network's input size.
        transform: ``package.module:function`` from a PIL image to a tensor (C, H, W), which then does all of it.

    Raises:
        UsageError: if both a transform and its parts are asked for.
    """

    resize: tuple[int, ...] | None = None
    crop: tuple[int, ...] | None = None
    transform: str | None = None

    def __post_init__(self) -> None:
        if self.transform is not None and (self.resize is not None or self.crop is not None):
            raise UsageError(
                f"The transform '{self.transform}' does all that is done to an image; leave --resize and --crop out, or it."
            )

    @property
    def asked(self) -> bool:
        """Whether anything was asked for."""
        return self != Preparation()

    def steps(
        self, shape: tuple[int, int, int], mean: Sequence[float], std: Sequence[float]
    ) -> tuple[Callable[[Any], Tensor], str]:
        """Return the transform of a picture, and what it does in words.

        Args:
            shape: The network's input (C, H, W).
            mean: Subtracted per channel.
            std: Divided by per channel.

        Raises:
            UsageError: if the user's transform cannot be imported.
        """
        if self.transform is not None:
            return find_factory(self.transform, "transform"), f"what '{self.transform}' makes of a picture"
        channels, *side = shape
        sized, words = self._sized((side[0], side[1]))
        parts: list[Any] = [transforms.Grayscale()] if channels == 1 else []
        parts += [sized, transforms.ToTensor(), transforms.Normalize(mean, std)]
        numbers = (", ".join(f"{value:g}" for value in values) for values in (mean, std))
        grey = "made grey, " if channels == 1 else ""
        return transforms.Compose(parts), f"{grey}{words}; minus ({next(numbers)}), divided by ({next(numbers)})"

    def _sized(self, side: tuple[int, int]) -> tuple[Callable[[Image.Image], Image.Image], str]:
        crop = side if self.crop is None else self.crop
        resize = (round(max(side) * _ENLARGE),) if self.resize is None else self.resize
        usual = self.resize is None and self.crop is None
        sized = _Sized(resize, crop, exact=side if usual else None)
        words = []
        if resize:
            words.append(
                f"resized to {_by(resize)}" if len(resize) == 2 else f"resized so that the shorter side is {resize[0]}"
            )
        if crop:
            words.append(f"cropped to {_by(crop)} at the centre")
        done = " and ".join(words) or "as they are"
        return sized, f"pictures of {_by(side)} as they are, others {done}" if usual else f"pictures {done}"


@dataclass(frozen=True)
class _Sized:
    """Resizes and crops a picture, unless it has exactly the size wanted."""

    resize: tuple[int, ...]
    crop: tuple[int, ...]
    exact: tuple[int, int] | None

    def __call__(self, image: Image.Image) -> Image.Image:
        if self.exact == (image.height, image.width):
            return image
        if self.resize:
            sides = self.resize[0] if len(self.resize) == 1 else list(self.resize)
            image = transforms.functional.resize(image, sides)
        if self.crop and (image.height < self.crop[0] or image.width < self.crop[1]):
            raise UsageError(
                f"A picture of {_by((image.height, image.width))} cannot be cropped to {_by(self.crop)}; give a larger --resize."
            )
        return transforms.functional.center_crop(image, list(self.crop)) if self.crop else image


def _by(side: Sequence[int]) -> str:
    return "x".join(map(str, side))
