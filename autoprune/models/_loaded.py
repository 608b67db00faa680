"""``load_model``: from what the user wrote to a network with its weights, its input and its preprocessing."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from numbers import Integral
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from autoprune.data import cluttered_digits, digits
from autoprune.errors import UsageError
from autoprune.models import _timm, _torchvision
from autoprune.models._cluttered_digits import CLUTTERED_DIGITS, ClutteredDigitsNet
from autoprune.models._digits import DIGITS, DigitsNet
from autoprune.models._files import not_a_network
from autoprune.models._resnet import plain20, resnet
from autoprune.models._trained import Embedded, trained_state
from autoprune.models._vgg import vgg16
from autoprune.models._weights import check_finite, load_into, read_weights, state_fingerprint
from autoprune.registry import call_factory, is_factory, nearest

BUILT_IN: Mapping[str, Callable[[int], nn.Module]] = {
    "cifar-plain20": plain20,
    "cifar-resnet20": resnet(20),
    "cifar-resnet32": resnet(32),
    "cifar-resnet44": resnet(44),
    "cifar-resnet56": resnet(56),
    "cifar-resnet110": resnet(110),
    "cifar-vgg16": vgg16,
    "cluttered-digits": ClutteredDigitsNet,
    "digits": DigitsNet,
}
_EMBEDDED: Mapping[str, tuple[Embedded, tuple[int, ...], tuple[float, ...], tuple[float, ...]]] = {
    "cluttered-digits": (CLUTTERED_DIGITS, cluttered_digits.SHAPE, cluttered_digits.MEAN, cluttered_digits.STD),
    "digits": (DIGITS, (1, 8, 8), digits.MEAN, digits.STD),
}  # with input shape, mean and standard deviation
_PUBLISHED_MEAN, _PUBLISHED_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # of the published CIFAR ResNets, too
_LAST_LAYERS = (".linear.weight", ".classifier.6.weight")

_log = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False)
class LoadedModel:
    """A network and what has to be known to feed it.

    Attributes:
        model: The network, in eval mode, on the CPU.
        spec: What the user asked for; with it the network can be built again.
        input_shape: Shape of one input: (C, H, W) of an image, (C, L) of a signal, (C, D, H, W) of a volume; empty where nothing
            says it, as of a network of several inputs, which are told by data.
        mean, std: Per channel, of the images in [0, 1] it was trained on; empty where the model does not say.
        weights: What the weights were loaded from; None for the constructor's own.
        fingerprint: SHA-256 of all parameters and buffers.
        transform: The weights' own preprocessing, from a PIL image to a tensor (C, H, W); None where there is
            none, or for an input of another size than its own.
        promised: The data that published weights were measured on, and their accuracy there, in [0, 1]; None for other weights.
    """

    model: nn.Module
    spec: str
    input_shape: tuple[int, ...]
    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()
    weights: str | None = None
    fingerprint: str = ""
    transform: Callable[[Any], Tensor] | None = None
    promised: tuple[str, float] | None = None

    def example_input(self, batch: int = 2, *, seed: int = 0) -> Tensor:
        """Return normal noise of shape (batch, *input_shape), the same on every call.

        Raises:
            UsageError: if the shape is not known.
        """
        if not self.input_shape:
            raise UsageError(
                f"The model '{self.spec}' does not say the size of its images; "
                "give it (--input-size 32), or set input_shape = (C, H, W) on the module."
            )
        return torch.randn(batch, *self.input_shape, generator=torch.Generator().manual_seed(seed))


def load_model(
    spec: str,
    *,
    weights: str | None = None,
    num_classes: int | None = None,
    input_size: int | Sequence[int] | None = None,
    preprocessing: str | None = None,
    say: Callable[[str], None] | None = None,
) -> LoadedModel:
    """Build a network and load its weights.

    Args:
        spec: A built-in (``BUILT_IN``), ``torchvision:NAME``, ``timm:NAME``, ``package.module:factory`` or
            ``path/to/file.py:factory``. A factory returns the module; it gets ``num_classes`` if it has a parameter of this name,
            and may set ``input_shape`` (C, H, W), ``mean`` and ``std`` on the module.
        weights: A ``.safetensors`` or ``.pth`` file, or the name of torchvision's weights ("IMAGENET1K_V1"). Without, the
            network has the constructor's values, drawn from a fixed seed.
        num_classes: Number of outputs; without, what the weights or else the constructor say.
        input_size: Size of one image where the network does not say or takes several: its side, (H, W) or (C, H, W);
            likewise (C, L) and (C, D, H, W) for networks whose first convolution runs over one or three dimensions.
        preprocessing: Without ``weights``, the name of the torchvision weights whose preprocessing is used, where the
            values do not matter; anything else is ignored.
        say: Told in one line what takes time and which of a file's weights were taken; the log by default.

    Raises:
        UsageError: for an unknown model, weights that are missing or do not fit, or NaN weights.
        AutopruneError: if a factory raises or a download fails.
    """
    tell = say or _log.warning
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(0)
        if spec in BUILT_IN:
            loaded = _built_in(spec, weights, num_classes, say or _log.info, tell)
        elif spec.startswith("torchvision:"):
            loaded = _from_torchvision(spec, weights, num_classes, preprocessing, tell)
        elif spec.startswith("timm:"):
            loaded = _from_timm(spec, weights, num_classes, tell)
        elif is_factory(spec):
            loaded = _from_factory(spec, weights, num_classes, input_size, tell)
        elif Path(spec).is_file():
            raise UsageError(not_a_network(Path(spec)))
        else:
            known = [*BUILT_IN, "torchvision:NAME", "timm:NAME", "package.module:factory", "path/to/file.py:factory"]
            raise UsageError(f"Unknown model '{spec}'.{nearest(spec, list(BUILT_IN))} Known: {', '.join(known)}.")
    model = loaded.model.eval()
    state = model.state_dict()
    check_finite(state, weights=weights or f"of {spec}")
    shape = loaded.input_shape
    if input_size is not None:
        shape = _full_shape(input_size, shape[0], dims=len(shape) - 1)
    transform = loaded.transform if shape == loaded.input_shape else None  # it crops to its own size
    return replace(loaded, fingerprint=state_fingerprint(state), input_shape=shape, transform=transform)


MOST_NUMBERS = 2**31
"""In one input: 8 GiB, far more than a network's activations leave room for."""


def _full_shape(size: int | Sequence[int], channels: int, *, dims: int = 2) -> tuple[int, ...]:
    """Return the shape of one input for its side, the sizes of its dimensions, or all of it.

    Args:
        size: What was given.
        channels: Those that the network takes.
        dims: Dimensions that the network's convolutions run over: (H, W) are two sizes, and (C, L) is the shape in one dimension.
    """
    sizes: list[Any] = [size] if isinstance(size, int) else list(size)
    sizes = sizes * dims if len(sizes) == 1 else sizes
    sizes = [channels, *sizes] if len(sizes) == dims else sizes
    if len(sizes) != dims + 1 or any(not isinstance(side, Integral) or side < 1 for side in sizes):
        forms = {1: ("signal", "or (C, L)"), 3: ("volume", "(D, H, W) or (C, D, H, W)")}
        what, form = forms.get(dims, ("image", "(H, W) or (C, H, W)"))
        raise UsageError(f"The input size {size} is no {what}'s size; give its side, {form}, each 1 or more.")
    if math.prod(sizes) > MOST_NUMBERS:
        raise UsageError(f"The input size {size} is of more than {MOST_NUMBERS} numbers; give a smaller one.")
    return tuple(sizes)


def _convolutions(model: nn.Module, size: int | Sequence[int]) -> tuple[int, int]:
    """Return the channels that a network takes and over how many dimensions its first convolution runs.

    Without convolutions the size says it: two numbers are (C, L), three (C, H, W), four (C, D, H, W).
    """
    for module in model.modules():
        if isinstance(module, nn.Conv1d | nn.Conv2d | nn.Conv3d):
            return module.in_channels, len(module.kernel_size)
    length = 1 if isinstance(size, int) else len(size)
    return 3, length - 1 if 2 <= length <= 4 else 2


def untrained(spec: str, weights: str | None) -> bool:
    """Whether a specification builds a network of ours, torchvision's or timm's with random weights."""
    return weights is None and spec.startswith(("cifar-", "torchvision:", "timm:"))


def _built_in(
    spec: str, weights: str | None, num_classes: int | None, say: Callable[[str], None], tell: Callable[[str], None]
) -> LoadedModel:
    embedded = _EMBEDDED.get(spec)
    if weights is not None:
        state = read_weights(weights, say=tell)
        last = next((state[name] for name in state if f".{name}".endswith(_LAST_LAYERS)), None)
        if num_classes is None and last is not None and last.ndim == 2:
            num_classes = len(last)
    elif embedded is not None and num_classes in (None, 10):
        state = trained_state(embedded[0], say)
    else:
        state = {}
    model = BUILT_IN[spec](10 if num_classes is None else num_classes)
    if state:
        load_into(model, state, weights=weights or spec, say=tell)
    if embedded is not None:
        return LoadedModel(model, spec, *embedded[1:], weights)
    return LoadedModel(model, spec, (3, 32, 32), _PUBLISHED_MEAN, _PUBLISHED_STD, weights)


def _from_torchvision(
    spec: str, weights: str | None, num_classes: int | None, preprocessing: str | None, tell: Callable[[str], None]
) -> LoadedModel:
    name = spec.partition(":")[2]
    _torchvision.check_name(name)
    wanted = weights if weights is not None else preprocessing
    named = wanted is not None and wanted.rpartition(".")[2].isupper()  # IMAGENET1K_V1, ResNet18_Weights.DEFAULT
    published = _torchvision.find_weights(name, wanted if named else None)
    transform, side, mean, std = _torchvision.preprocessing(published)
    model = _torchvision.build(name, num_classes, published=named)
    if weights is not None:
        state = _torchvision.download(published) if named else read_weights(weights, say=tell)
        load_into(model, state, weights=weights, say=tell)
    own = weights is not None and named and num_classes is None
    return LoadedModel(
        model,
        spec,
        (3, side, side),
        mean,
        std,
        weights,
        transform=transform if named else None,
        promised=_torchvision.promised(published) if own else None,
    )


def _from_timm(spec: str, weights: str | None, num_classes: int | None, tell: Callable[[str], None]) -> LoadedModel:
    model, shape, mean, std = _timm.build(spec.partition(":")[2], num_classes)
    if weights is not None:
        load_into(model, read_weights(weights, say=tell), weights=weights, say=tell)
    return LoadedModel(model, spec, shape, mean, std, weights)


def _from_factory(
    spec: str,
    weights: str | None,
    num_classes: int | None,
    input_size: int | Sequence[int] | None,
    tell: Callable[[str], None],
) -> LoadedModel:
    model = call_factory(spec, "model", {} if num_classes is None else {"num_classes": num_classes})
    if not isinstance(model, nn.Module):
        raise UsageError(f"The model '{spec}' returned a {type(model).__name__}; it must return a torch.nn.Module.")
    size = getattr(model, "input_shape", None) if input_size is None else input_size
    if weights is not None:
        load_into(model, read_weights(weights, say=tell), weights=weights, say=tell)
    shape: tuple[int, ...] = ()
    if isinstance(size, int | Sequence) and size != ():
        channels, dims = _convolutions(model, size)
        shape = _full_shape(size, channels, dims=dims)
    mean, std = (_numbers(getattr(model, name, ())) for name in ("mean", "std"))
    return LoadedModel(model, spec, shape, mean, std, weights)


def _numbers(values: Any) -> tuple[float, ...]:
    """Return what a module says about its images as floats; a tensor (a buffer) counts, a method does not."""
    if isinstance(values, Tensor):
        values = values.flatten().tolist()
    return tuple(float(value) for value in values) if isinstance(values, list | tuple) else ()
