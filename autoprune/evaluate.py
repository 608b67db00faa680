"""Accuracy and loss of a model on one part of the data."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset, TensorDataset

from autoprune.errors import AutopruneError, UsageError

Evaluate = Callable[[nn.Module], Mapping[str, float]]
Part = Dataset[Any] | DataLoader[Any] | Evaluate
MAX_CACHED_BYTES = 2**31


class Evaluator:
    """Scores models on one data part, always the same images in the same order.

    Args:
        part: A dataset of (image, label), a loader of (images, labels), or a callable ``model -> {"accuracy", "loss"}``.
        name: What the part is called in messages ("search").
        device: Where the model runs.
        batch_size: Images per forward pass (a loader keeps its own).

    Attributes:
        size: Number of images, or None if a callable does the work.
        right: Which images the last model got right, shape (size,); None if a callable does the work.

    Raises:
        UsageError: if the part holds no images.
    """

    def __init__(self, part: Part, *, name: str, device: torch.device, batch_size: int = 64) -> None:
        self.name = name
        self.device = device
        self._batches: list[tuple[Tensor, Tensor]] | None = None
        self._call: Evaluate | None = None
        self._loader: Iterable[tuple[Tensor, Tensor]] | None = None
        self.size: int | None = None
        self.right: Tensor | None = None
        if isinstance(part, Dataset | DataLoader):
            dataset = part.dataset if isinstance(part, DataLoader) else part
            length = len(cast(Any, dataset))
            if length == 0:
                raise UsageError(f"The {name} part of the data is empty; it must hold at least one image.")
            self.size = length
            if isinstance(dataset, TensorDataset) and not isinstance(part, DataLoader):
                images, labels = dataset.tensors[:2]
                images = fast_layout(images, device)
                self._batches = [
                    (images[start : start + batch_size], labels[start : start + batch_size])
                    for start in range(0, length, batch_size)
                ]
            else:
                self._loader = part if isinstance(part, DataLoader) else DataLoader(dataset, batch_size=batch_size)
        elif callable(part):
            self._call = part
        else:
            raise UsageError(f"The {name} data must be a dataset, a loader or a callable, not {type(part).__name__}.")

    def _stream(self) -> Iterator[tuple[Tensor, Tensor]]:
        if self._batches is None and self._loader is not None:
            # Decode once, keep if it fits: a search runs over the same images hundreds of times.
            kept: list[tuple[Tensor, Tensor]] | None = []
            held = 0
            for images, labels in self._loader:
                if kept is not None:
                    kept.append((images, labels))
                    held += images.numel() * images.element_size()
                    if held > MAX_CACHED_BYTES:
                        kept = None
                yield images, labels
            self._batches = kept
        else:
            yield from self._batches or ()

    @torch.no_grad()
    def __call__(self, model: nn.Module) -> tuple[float, float]:
        """Return (top-1 accuracy in [0, 1], mean cross-entropy in nats) of ``model`` in eval mode.

        Raises:
            AutopruneError: if a user's callable returns something else than a dict with an accuracy in [0, 1].
        """
        training = model.training
        model.eval()
        try:
            if self._call is not None:
                return self._called(model)
            found: list[Tensor] = []
            loss = 0.0
            for images, labels in self._stream():
                logits = model(images.to(self.device))
                labels = labels.to(self.device)
                found.append(logits.argmax(dim=1) == labels)
                loss += float(F.cross_entropy(logits.float(), labels, reduction="sum"))
            self.right = torch.cat(found)
            return int(self.right.sum()) / len(self.right), loss / len(self.right)
        finally:
            model.train(training)

    def _called(self, model: nn.Module) -> tuple[float, float]:
        assert self._call is not None
        result = self._call(model)
        try:
            accuracy, loss = float(result["accuracy"]), float(result.get("loss", math.nan))
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise AutopruneError(
                f"The evaluate function for the {self.name} part returned {result!r}; "
                "it must return a dict with 'accuracy' and 'loss'."
            ) from error
        if not 0.0 <= accuracy <= 1.0:
            raise AutopruneError(
                f"The evaluate function for the {self.name} part returned accuracy {accuracy}; "
                "it must be a share in [0, 1], not a percentage."
            )
        return accuracy, loss


def fast_layout(images: Tensor, device: torch.device) -> Tensor:
    """Return the images channels-last where they are 4-D and the CPU computes.

    Convolutions follow the layout of their input, whatever that of the weights; on CPUs a small network is about twice as
    fast this way.
    """
    if images.dim() == 4 and device.type == "cpu":
        return images.contiguous(memory_format=torch.channels_last)
    return images


def stack_images(data: Dataset[Any] | Iterable[Any] | Tensor, count: int, *, seed: int) -> Tensor:
    """Return up to ``count`` images, chosen at random by ``seed``, shape (n, C, H, W).

    Args:
        data: A tensor of images, a dataset of images or (image, label), or a loader of (images, labels), whose first
            batches are taken.
        count: Most images.
        seed: Seed of the choice.

    Raises:
        UsageError: if there is no image.
    """
    if isinstance(data, Tensor | Dataset):
        length = len(cast(Any, data))
        chosen = torch.randperm(length, generator=torch.Generator().manual_seed(seed))[:count]
        if length == 0:
            raise UsageError("The calibration part of the data is empty; it must hold at least one image.")
        if isinstance(data, Tensor):
            return data[chosen]
        if isinstance(data, TensorDataset):
            return data.tensors[0][chosen]
        items = (cast(Any, data)[int(index)] for index in chosen)
        return torch.stack([torch.as_tensor(item[0] if isinstance(item, list | tuple) else item) for item in items])
    batches: list[Tensor] = []
    for batch in data:
        batches.append(batch[0] if isinstance(batch, list | tuple) else batch)
        if sum(map(len, batches)) >= count:
            break
    if not any(map(len, batches)):
        raise UsageError("The calibration part of the data is empty; it must hold at least one image.")
    return torch.cat(batches)[:count]
