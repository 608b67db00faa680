"""What a network is called with: any nesting of tensors, by position and by name, whose first dimension is the batch."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, is_dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from autoprune.errors import UsageError


@dataclass(frozen=True, eq=False)
class ModelInputs:
    """The arguments of one call of a network.

    Tensors lie in any nesting of tuples, lists, dicts and data classes. The first dimension of each is the batch; a tensor
    without dimensions, and whatever else there is, is passed on as it is.

    >>> inputs = ModelInputs((torch.zeros(4, 3),), {"scale": torch.ones(4)})
    >>> len(inputs), len(inputs[:2])
    (4, 2)

    Attributes:
        args: Arguments by position.
        kwargs: Arguments by name.

    Raises:
        UsageError: if there is no tensor with a batch dimension, or two of them hold different numbers of items.
    """

    args: tuple[Any, ...] = ()
    kwargs: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        _register_data_classes(self.leaves)
        sizes = {len(tensor) for tensor in self.tensors if tensor.dim()}
        if not sizes:
            raise UsageError(
                "The inputs hold no tensor with a batch dimension; give at least one, its first dimension the batch."
            )
        if len(sizes) > 1:
            raise UsageError(
                f"The inputs of {self.text} disagree on the number of items, the first dimension of every tensor; give tensors "
                "of as many items each."
            )

    @property
    def leaves(self) -> list[Any]:
        """What is nested in the arguments, in order: tensors and others."""
        return pytree.tree_leaves((self.args, self.kwargs))

    @property
    def tensors(self) -> tuple[Tensor, ...]:
        """The tensors, in order."""
        return tuple(leaf for leaf in self.leaves if isinstance(leaf, Tensor))

    @property
    def device(self) -> torch.device:
        """Where the first tensor lies."""
        return self.tensors[0].device

    @property
    def text(self) -> str:
        """The tensors' shapes, for messages."""
        shapes = [str(tuple(tensor.shape)) for tensor in self.tensors]
        return f"shape {shapes[0]}" if len(shapes) == 1 else f"shapes {', '.join(shapes)}"

    def __len__(self) -> int:
        return next(len(tensor) for tensor in self.tensors if tensor.dim())

    def __getitem__(self, items: slice | Tensor | Sequence[int]) -> ModelInputs:
        """Return some of the items: a slice, or indices of shape (n,)."""
        return self.map(lambda tensor: tensor[items] if tensor.dim() else tensor)

    def map(self, change: Callable[[Tensor], Tensor]) -> ModelInputs:
        """Return the same nesting with each tensor changed by ``change(tensor)``."""
        args, kwargs = pytree.tree_map_only(Tensor, change, (self.args, self.kwargs))
        return ModelInputs(args, kwargs)

    def to(self, device: torch.device | str) -> ModelInputs:
        """Return them on a device; their types stay."""
        return self.map(lambda tensor: tensor.to(device))

    def call(self, model: nn.Module) -> Any:
        """Return what a network answers."""
        return model(*self.args, **self.kwargs)

    def dynamic_shapes(self, model: nn.Module, size: Any) -> tuple[Any, ...]:
        """Return what ``torch.export`` is told so that the batch is open, nested as the forward's parameters are.

        Args:
            model: The network.
            size: What the first dimension of every tensor is: a ``torch.export.Dim``.
        """
        try:
            given = tuple(inspect.signature(model.forward).bind(*self.args, **self.kwargs).arguments.values())
        except (TypeError, ValueError):  # of compiled code
            given = (*self.args, *self.kwargs.values())
        return tuple(_opened(value, size) for value in given)

    @staticmethod
    def join(parts: Sequence[ModelInputs]) -> ModelInputs:
        """Return the items of several inputs of one nesting, in order.

        Raises:
            UsageError: if they are nested differently, or differ in more than their items.
        """
        flat = [pytree.tree_flatten((part.args, part.kwargs)) for part in parts]
        structure = flat[0][1]
        if any(other != structure for _, other in flat):
            raise UsageError("The batches are nested differently from one to the next; give all in one form.")
        columns = zip(*(leaves for leaves, _ in flat), strict=True)
        args, kwargs = pytree.tree_unflatten([_joined(column) for column in columns], structure)
        return ModelInputs(args, kwargs)


def _opened(value: Any, size: Any) -> Any:
    if isinstance(value, Tensor):
        return {0: size} if value.dim() else None
    if isinstance(value, dict):
        return {key: _opened(item, size) for key, item in value.items()}
    if type(value) not in pytree.SUPPORTED_NODES:
        return None
    items = [_opened(item, size) for item in pytree.SUPPORTED_NODES[type(value)].flatten_fn(value)[0]]
    return tuple(items) if isinstance(value, tuple) else items  # torch wants lists for data classes


def as_inputs(given: Any, model: nn.Module | None = None) -> ModelInputs:
    """Return how a network is called with what a user or a loader gives.

    A tensor is ``model(x)``, a tuple ``model(*x)``, a dict ``model(**x)`` if the forward takes its keys by name and needs
    nothing else (else ``model(x)``); anything else is one argument.

    Args:
        given: A tensor, any nesting of tensors, or `ModelInputs`, which are returned as they are.
        model: The network; without it a dict is one argument.

    Raises:
        UsageError: if there is no tensor with a batch dimension, or two of them hold different numbers of items.
    """
    if isinstance(given, ModelInputs):
        return given
    if isinstance(given, tuple):
        return ModelInputs(given)
    if isinstance(given, Mapping) and model is not None and _takes_names(model, given):
        return ModelInputs(kwargs=dict(given))
    return ModelInputs((given,))


def _takes_names(model: nn.Module, given: Mapping[Any, Any]) -> bool:
    """Return whether a forward can be called with a mapping's items by name."""
    try:
        inspect.signature(model.forward).bind(**given)
    except (TypeError, ValueError):  # it does not take them; or it is compiled code, which has no signature
        return False
    return True


def _joined(column: Sequence[Any]) -> Any:
    first = column[0]
    if isinstance(first, Tensor) and first.dim():
        if len({(tensor.shape[1:], tensor.dtype) for tensor in column}) > 1:
            shapes = sorted({str((*tensor.shape[1:],)) for tensor in column})
            raise UsageError(
                f"The items of the batches differ in shape or type ({', '.join(shapes)}); resize or pad them to one."
            )
        return torch.cat(list(column))
    for other in column[1:]:
        equal = torch.equal(first, other) if isinstance(first, Tensor) else first is other or bool(first == other)
        if not equal:
            plain = isinstance(first, bool | int | float | str | None)
            told = [repr(one) if plain else f"of type {type(one).__name__}" for one in (first, other)]
            raise UsageError(
                f"The batches differ in an input that is not a batch of tensors ({', then '.join(told)}); give all the same."
            )
    return first


def _register_data_classes(leaves: Sequence[Any]) -> None:
    """Let torch look into data classes of the user's own, as it does into tuples and dicts."""
    for leaf in leaves:
        if is_dataclass(leaf) and not isinstance(leaf, type):
            torch.export.register_dataclass(type(leaf))
