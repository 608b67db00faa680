"""The settings of a fine-tuning: plain data that round-trips JSON and refuses what it does not know."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

from autoprune.errors import UsageError
from autoprune.registry import nearest

AUGMENTATIONS = ("auto", "crop-flip", "shift", "none")
PRECISIONS = ("auto", "bf16", "fp32")
_LARGEST = 2**53
FINETUNE_LR, SCRATCH_LR = 0.03, 0.1
"""Highest learning rates for batches of 128, for pruned and for random weights; proportional to the batch size."""


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """How a network is fine-tuned.

    Attributes:
        epochs: Passes over the training images.
        lr: Highest learning rate; None for 0.03 per 128 images of a batch (0.1 from scratch).
        momentum: Of SGD, Nesterov's.
        weight_decay: Of weights with two or more dimensions; norms and biases are not decayed.
        warmup: Share of all steps in which the rate rises linearly; it then falls to 0 along a half cosine.
        label_smoothing: Share of the target that is spread over all classes.
        batch_size: Images per step.
        accumulate: Parts a batch is cut in, one after the other, to need less memory. BatchNorm sees the parts.
        clip: Largest norm of the gradient; 0 does not limit it.
        ema: Decay per step of the moving average of the weights, which is what is evaluated and kept; 0 for the weights as
            they are. Early on the decay is less, (1 + step) / (10 + step), so that short trainings forget their beginning.
        distill: Share of the loss that is distillation from the dense network; 0 for none.
        temperature: Of the distillation (Hinton et al. 2015).
        feature_weight: Weight of the feature matching at the boundaries of the coupling groups; 0 for none.
        from_scratch: Whether training begins from random weights.
        augment: "crop-flip" (random crops of the image padded by an eighth, mirrored half the time; of image folders crops of
            random size), "shift" (by up to an eighth, not mirrored), "none", or "auto" by the data set.
        precision: "fp32", "bf16" (autocast), or "auto" for what is faster here, which is measured once.
        patience: Epochs without a better one on the search part after which training ends early; 0 for never.
        seed: The one seed.

    Raises:
        UsageError: if a value is out of its range.
    """

    epochs: int = 10
    lr: float | None = None
    momentum: float = 0.9
    weight_decay: float = 5e-4
    warmup: float = 0.05
    label_smoothing: float = 0.1
    batch_size: int = 128
    accumulate: int = 1
    clip: float = 5.0
    ema: float = 0.998
    distill: float = 0.9
    temperature: float = 4.0
    feature_weight: float = 0.0
    from_scratch: bool = False
    augment: str = "auto"
    precision: str = "auto"
    patience: int = 0
    seed: int = 0

    def __post_init__(self) -> None:
        for item in fields(self):
            value = getattr(self, item.name)
            _check(item.name, value, not isinstance(value, int) or abs(value) <= _LARGEST, "at most 2^53")
        for name in ("epochs", "batch_size", "accumulate"):
            _check(name, getattr(self, name), getattr(self, name) >= 1, "at least 1")
        for name in ("patience", "seed", "clip", "feature_weight", "weight_decay"):
            value = getattr(self, name)
            _check(name, value, math.isfinite(value) and value >= 0, "0 or more")
        for name in ("momentum", "ema", "label_smoothing"):
            _check(name, getattr(self, name), 0 <= getattr(self, name) < 1, "at least 0 and below 1")
        for name in ("warmup", "distill"):
            _check(name, getattr(self, name), 0 <= getattr(self, name) <= 1, "between 0 and 1")
        _check("temperature", self.temperature, 0 < self.temperature < math.inf, "above 0")
        _check("lr", self.lr, self.lr is None or 0 < self.lr < math.inf, "above 0")
        _check(
            "accumulate", self.accumulate, self.accumulate <= self.batch_size, f"at most the {self.batch_size} images"
        )
        for name, known in (("augment", AUGMENTATIONS), ("precision", PRECISIONS)):
            if getattr(self, name) not in known:
                given = getattr(self, name)
                raise UsageError(f"Unknown {name} '{given}'.{nearest(given, list(known))} Known: {', '.join(known)}.")

    @property
    def rate(self) -> float:
        """The highest learning rate."""
        if self.lr is not None:
            return self.lr
        return (SCRATCH_LR if self.from_scratch else FINETUNE_LR) * self.batch_size / 128

    @property
    def needs_teacher(self) -> bool:
        """Whether the dense network takes part."""
        return self.distill > 0 or self.feature_weight > 0

    @property
    def name(self) -> str:
        """What such a fine-tuning is called where no name is given."""
        return {
            (True, False): "distilled",
            (False, False): "plain",
            (True, True): "scratch-distilled",
            (False, True): "scratch",
        }[self.needs_teacher, self.from_scratch]

    def to_dict(self) -> dict[str, Any]:
        """Return the recipe as JSON-ready values."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Recipe:
        """Return the recipe that ``to_dict`` wrote.

        Raises:
            UsageError: for unknown keys or values of the wrong type.
        """
        kinds = {item.name: item.type for item in fields(cls)}
        for name, value in values.items():
            if name not in kinds:
                raise UsageError(f"The recipe has the unknown setting '{name}'.{nearest(name, list(kinds))}")
            allowed = _KINDS[str(kinds[name])]
            if not isinstance(value, allowed) or (isinstance(value, bool) and bool not in allowed):
                raise UsageError(f"The recipe's '{name}' is {value!r}, which is of the wrong type.")
        return cls(**values)


_KINDS: Mapping[str, tuple[type, ...]] = {
    "int": (int,),
    "float": (int, float),
    "float | None": (int, float, type(None)),
    "bool": (bool,),
    "str": (str,),
}


def _check(name: str, value: object, right: bool, rule: str) -> None:
    if not right:
        raise UsageError(f"The value of {name.replace('_', '-')} is {value}, but must be {rule}.")
