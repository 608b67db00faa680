"""How far outputs are from the dense network's, image by image: what scores and probes measure where no label is read.

A divergence is a function ``fn(found, reference, variance)`` of one tensor of the output, which returns one number for each
image, 0 for equal ones. A user's own is registered with ``@divergences.register("name")``, installed under the entry-point
group ``autoprune.divergences``, or named as ``package.module:function``; `autoprune.testing.DivergenceContract` checks it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from autoprune.errors import AutopruneError, UsageError
from autoprune.evaluation._outputs import Outputs, scores_classes
from autoprune.registry import Registry

TEMPERATURE = 4.0
"""Of distances between class scores; see docs/search.md for what else was tried."""
DivergenceFn = Callable[[Tensor, Tensor, float], Tensor]
"""Of one tensor: (found, reference, variance of the reference over all images and positions) to one number for each image."""
divergences: Registry[DivergenceFn] = Registry("divergence", "autoprune.divergences")


def divergence(found: Tensor, reference: Tensor, temperature: float) -> Tensor:
    """Return the Kullback-Leibler divergence of softmaxes, image by image (Hinton et al. 2015), in nats, shape (N,).

    Args:
        found: Class scores, shape (N, classes).
        reference: Those that they should be, same shape.
        temperature: What both are divided by first.
    """
    ours, theirs = (F.log_softmax(scores.float() / temperature, dim=1) for scores in (found, reference))
    return F.kl_div(ours, theirs, reduction="none", log_target=True).sum(dim=1)


@divergences.register("kl")
def kl(found: Tensor, reference: Tensor, variance: float) -> Tensor:
    """Return the Kullback-Leibler divergence of softmaxes of temperature 4 over the second dimension, averaged over positions.

    Args:
        found: Class scores, shape (N, classes, ...).
        reference: The dense network's, same shape.
        variance: Not used.

    Raises:
        UsageError: if there is no second dimension.
    """
    _check_second(found, "kl", "classes")
    at_each = divergence(found, reference, TEMPERATURE)
    return at_each if at_each.dim() == 1 else at_each.flatten(1).mean(1)


@divergences.register("relative")
def relative(found: Tensor, reference: Tensor, variance: float) -> Tensor:
    """Return the mean squared error over the variance of the dense network's outputs: 1 for a network that gives their mean.

    Args:
        found: Outputs, shape (N, ...).
        reference: The dense network's, same shape.
        variance: Of the dense network's outputs over all images and positions.
    """
    squares = (found.float() - reference.float()).square()
    return squares.reshape(len(squares), -1).mean(1) / max(variance, 1e-12)


@divergences.register("cosine")
def cosine(found: Tensor, reference: Tensor, variance: float) -> Tensor:
    """Return one minus the cosine of the angle between vectors along the second dimension, averaged over positions.

    Args:
        found: Embeddings, shape (N, features, ...).
        reference: The dense network's, same shape.
        variance: Not used.

    Raises:
        UsageError: if there is no second dimension.
    """
    _check_second(found, "cosine", "features")
    distance = 1.0 - F.cosine_similarity(found.float(), reference.float(), dim=1)
    return distance.reshape(len(distance), -1).mean(1).clamp(min=0.0)


def _check_second(found: Tensor, name: str, what: str) -> None:
    if found.dim() < 2:
        raise UsageError(
            f"The divergence '{name}' needs {what} along the second dimension, but an output has shape {tuple(found.shape)}; "
            "use 'relative' for it."
        )


def names_of(asked: str | None) -> tuple[str, ...]:
    """Return the names in ``--divergence A,B,..``; empty for None."""
    return tuple(name for part in (asked or "").split(",") if (name := part.strip()))


def check_divergence(asked: str | None) -> None:
    """Look up every divergence that is named.

    Raises:
        UsageError: for an unknown name (with the nearest), or something that cannot be called.
    """
    for name in names_of(asked):
        if not callable(divergences.get(name)):
            raise UsageError(
                f"The divergence '{name}' is not callable; give a function fn(found, reference, variance) -> tensor (N,)."
            )


class Divergence:
    """How far outputs are from others: the mean over their tensors, each compared by what is asked for or suits its shape.

    What suits: (N, classes) are class scores, compared by ``kl``; anything else by ``relative``. Maps of class scores and
    embeddings look like any other tensor and are to be asked for.

    Args:
        asked: Names with commas between, one for all tensors or one for each; or a function; None for what suits.
        like: Outputs of the network.

    Attributes:
        names: Of what compares each tensor.
        by_kl: For each tensor whether `kl` compares it, so that it is taken as class scores.

    Raises:
        UsageError: for unknown names, or another number of names than of tensors.
    """

    def __init__(self, asked: str | DivergenceFn | None, like: Outputs) -> None:
        self._functions: list[DivergenceFn]
        if callable(asked):
            self.names = [getattr(asked, "__name__", repr(asked))] * len(like.tensors)
            self._functions = [asked] * len(like.tensors)
            self.by_kl = [asked is kl] * len(like.tensors)
            return
        check_divergence(asked)
        self.names = list(names_of(asked))
        if not self.names:
            self.names = ["kl" if scores_classes(tensor) else "relative" for tensor in like.tensors]
        elif len(self.names) == 1:
            self.names *= len(like.tensors)
        elif len(self.names) != len(like.tensors):
            raise UsageError(
                f"{len(self.names)} divergences are named ({', '.join(self.names)}), but the network gives {len(like.tensors)} "
                f"tensors that can be compared, of shape {like.text}; name one for all, or one for each."
            )
        self._functions = [divergences.get(name) for name in self.names]
        self.by_kl = [function is kl for function in self._functions]

    def __call__(self, found: Sequence[Tensor], reference: Sequence[Tensor], variances: Sequence[float]) -> Tensor:
        """Return the divergence of each image, shape (N,).

        Args:
            found: Outputs, shapes (N, ...).
            reference: The dense network's.
            variances: Of the dense network's over all images, one for each tensor.

        Raises:
            UsageError: if a function raises, or returns anything but one number for each image.
        """
        return _mean(
            [self._of(place, *given) for place, given in enumerate(zip(found, reference, variances, strict=True))]
        )

    def loss(
        self, found: Sequence[Tensor], reference: Sequence[Tensor], variances: Sequence[float], *, temperature: float
    ) -> Tensor:
        """Return what a network that learns these outputs makes small, shape (N,).

        It is the divergence, that of class scores at a temperature of its own and times its square, which keeps the size of
        the gradient (Hinton et al. 2015).

        Args:
            found: Outputs, shapes (N, ...).
            reference: The dense network's.
            variances: Of the dense network's over all images, one for each tensor.
            temperature: Of class scores.

        Raises:
            UsageError: as for a call.
        """
        values = []
        for place, given in enumerate(zip(found, reference, variances, strict=True)):
            if self.by_kl[place]:
                _check_second(given[0], "kl", "classes")
                values.append(
                    temperature**2 * divergence(given[0], given[1], temperature).reshape(len(given[0]), -1).mean(1)
                )
            else:
                values.append(self._of(place, given[0].float(), given[1].float(), given[2]))
        return _mean(values)

    def _of(self, place: int, found: Tensor, reference: Tensor, variance: float) -> Tensor:
        return _called(self._functions[place], self.names[place], found, reference, variance)


def _mean(values: Sequence[Tensor]) -> Tensor:
    return values[0] if len(values) == 1 else torch.stack([value.float() for value in values]).mean(0)


def _called(function: DivergenceFn, name: str, found: Tensor, reference: Tensor, variance: float) -> Tensor:
    value: object
    try:
        value = function(found, reference, variance)
    except AutopruneError:
        raise
    except Exception as error:
        raise UsageError(
            f"The divergence '{name}' raised {type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}; it must "
            f"return one number for each image, for outputs of shape {tuple(found.shape)}."
        ) from error
    if not isinstance(value, Tensor) or tuple(value.shape) != (len(found),):
        got = f"a tensor of shape {tuple(value.shape)}" if isinstance(value, Tensor) else f"a {type(value).__name__}"
        raise UsageError(
            f"The divergence '{name}' returned {got} for {len(found)} images; it must return one number for each, shape (N,)."
        )
    return value
