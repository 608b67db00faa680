"""Parts of a network: what they are called with while the whole of it runs, and a module of them alone.

What surrounds a part (a decoder's loop, non-maximum suppression, a language model) need not be traceable then. The part is
traced, proved and refitted on what it really gets.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from autoprune.errors import UsageError
from autoprune.model_guard import ModelInputs, as_inputs, check_inputs, eval_mode, unchanged, why
from autoprune.registry import nearest

Run = Callable[[nn.Module, Any], Any]
"""Runs a network on a batch, as the user does: ``run(model, batch)``."""
MOST_BYTES = 2**31
"""Of what parts are called with, held at once."""
OUTSIDE = "it is also used outside of the part that is pruned"


class Parts(nn.Module):
    """Some modules of a network under their own names, each called with its own arguments.

    Args:
        model: The network, whose modules these are.
        paths: Where they are in it.
        outside: Paths of modules in them that the rest of the network calls as well.

    Attributes:
        outside: Paths of those modules.
        whole: Parameters and buffers that must stay as they are, since the rest of the network uses them, and why.
    """

    def __init__(self, model: nn.Module, paths: Sequence[str], outside: Iterable[str] = ()) -> None:
        super().__init__()
        self.paths = tuple(paths)
        for path in self.paths:
            *parents, name = path.split(".")
            place: nn.Module = self
            for parent in parents:
                if parent not in place._modules:
                    place.add_module(parent, nn.Module())
                place = place._modules[parent]  # type: ignore[assignment]
            place.add_module(name, model.get_submodule(path))
        inside = tuple(f"{path}." for path in self.paths)
        named = [*model.named_parameters(remove_duplicate=False), *model.named_buffers(remove_duplicate=False)]
        others = {id(tensor) for name, tensor in named if not name.startswith(inside)}
        self.outside = tuple(outside)
        called = tuple(f"{path}." for path in self.outside)
        own = [(name, tensor) for name, tensor in named if name.startswith(inside)]
        self.whole = {name: OUTSIDE for name, tensor in own if id(tensor) in others or name.startswith(called)}
        self.training = False

    def forward(self, *calls: tuple[tuple[Any, ...], dict[str, Any]]) -> list[Any]:
        """Return what each part answers to its own arguments, by position and by name."""
        return [
            self.get_submodule(path)(*args, **kwargs) for path, (args, kwargs) in zip(self.paths, calls, strict=True)
        ]


def check_parts(model: nn.Module, paths: Sequence[str]) -> None:
    """See that a network has these parts, and that none is in another.

    Raises:
        UsageError: with the nearest path.
    """
    known = [path for path, _ in model.named_modules() if path]
    for path in paths:
        if path not in known:
            raise UsageError(
                f"The network has no part '{path}'.{nearest(path, known)} Its largest: {', '.join(largest(model))}."
            )
    for one in paths:
        for other in paths:
            if one != other and f"{other}.".startswith(f"{one}."):
                raise UsageError(f"The part '{other}' lies in the part '{one}'; name one of them.")
    if len(set(paths)) < len(paths):
        raise UsageError(f"A part is named twice ({', '.join(paths)}); name each once.")


def largest(model: nn.Module, count: int = 5) -> list[str]:
    """Return the paths of a network's modules with the most parameters, those of its first two levels."""
    found = [(path, module) for path, module in model.named_modules() if path and path.count(".") < 2]
    sizes = {path: sum(parameter.numel() for parameter in module.parameters()) for path, module in found}
    return sorted(sizes, key=lambda path: -sizes[path])[:count]


def paths_of(part: str | Sequence[str]) -> tuple[str, ...]:
    """Return the paths of parts, given one or several."""
    return (part,) if isinstance(part, str) else tuple(part)


class _Calls:
    """What parts are called with in one pass of the network.

    Args:
        model: The network.
        paths: The parts; the path "" is the network itself.
    """

    def __init__(self, model: nn.Module, paths: Sequence[str]) -> None:
        self.seen: dict[str, list[ModelInputs]] = {path: [] for path in paths}
        self.outside: set[str] = set()
        self._within = 0
        for path in paths:
            part = model.get_submodule(path)
            part.register_forward_pre_hook(partial(self._enter, path), with_kwargs=True)
            part.register_forward_hook(self._leave, always_call=True)
            for inner, module in part.named_modules():
                if inner:
                    module.register_forward_pre_hook(partial(self._inner, f"{path}.{inner}".lstrip(".")))

    def _enter(self, path: str, _module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        self._within += 1
        try:
            inputs = ModelInputs(args, dict(kwargs))
        except UsageError as error:
            raise UsageError(f"The part '{path}' cannot be pruned alone: {error}") from None
        for leaf in inputs.leaves if path else ():
            held = [] if isinstance(leaf, Tensor) else getattr(leaf, "__dict__", {}).values()
            if any(isinstance(value, Tensor) for value in held):
                raise UsageError(
                    f"The part '{path}' cannot be pruned alone: it is called with an object of type {type(leaf).__name__}, whose "
                    "tensors torch does not see (only those in lists, tuples, dicts, data classes); name a module inside of it."
                )
        self.seen[path].append(inputs.map(lambda tensor: tensor.detach().clone()))  # it may write into them

    def _leave(self, *_: Any) -> None:
        self._within -= 1

    def _inner(self, path: str, *_: Any) -> None:
        if not self._within:
            self.outside.add(path)

    def one(self) -> dict[str, ModelInputs]:
        """Return what each part was called with.

        Raises:
            UsageError: if one was called never, or several times.
        """
        for path, calls in self.seen.items():
            if len(calls) != 1:
                often = "never called" if not calls else f"called {len(calls)} times"
                raise UsageError(
                    f"The part '{path}' is {often} in a pass of the network, but what it is called with must be told from one "
                    "call; name a module that is called once."
                    if path
                    else f"The function that runs the network calls it {len(calls)} times for a batch; it must call it once."
                )
        return {path: calls[0] for path, calls in self.seen.items()}


def captured(
    model: nn.Module, part: Sequence[str], batches: Iterable[Any], run: Run | None = None, *, most: int = MOST_BYTES
) -> ModelInputs:
    """Run a network on batches, and return what its parts are called with.

    Args:
        model: The network; given back as it was.
        part: Paths of the parts; none for the network itself.
        batches: What the network is run on, see `as_inputs`, or what ``run`` takes.
        run: Runs the network on a batch; None for a plain call.
        most: Bytes at which no further batch is run.

    Returns:
        What the network is called with; of parts what `Parts` is called with: the arguments of each.

    Raises:
        UsageError: if a part is called never, several times, or with changing shapes, or ``run`` raises.
    """
    return _captured(model, part, batches, run, most)[0]


def _captured(
    model: nn.Module, part: Sequence[str], batches: Iterable[Any], run: Run | None, most: int
) -> tuple[ModelInputs, set[str]]:
    if not part and run is None:
        return ModelInputs.join([as_inputs(batch, model) for batch in batches]), set()
    check_parts(model, part)
    paths = tuple(part) or ("",)
    found: list[dict[str, ModelInputs]] = []
    outside: set[str] = set()
    held = 0
    for batch in batches:
        with unchanged(model), eval_mode(model), torch.no_grad():
            calls = _Calls(model, paths)
            _run(model, batch, run)
        found.append(calls.one())
        outside |= calls.outside
        held += sum(t.numel() * t.element_size() for inputs in found[-1].values() for t in inputs.tensors)
        if held >= most:
            break
    if not found:
        raise UsageError("There is no batch to run the network on; give at least one.")
    joined = {path: _joined(path, [one[path] for one in found]) for path in paths}
    if not part:
        return joined[""], outside
    try:
        return ModelInputs(tuple((inputs.args, inputs.kwargs) for inputs in joined.values())), outside
    except UsageError as error:
        raise UsageError(
            f"The parts {', '.join(paths)} cannot be pruned together: {error} Prune one after the other."
        ) from None


def _joined(path: str, found: Sequence[ModelInputs]) -> ModelInputs:
    try:
        return ModelInputs.join(found)
    except UsageError as error:
        what = f"The part '{path}'" if path else "The network"
        raise UsageError(
            f"{what} is called with other inputs from batch to batch ({found[0].text}, then {found[-1].text}), so one trace does "
            f"not stand for all: {error}"
        ) from None


def _run(model: nn.Module, batch: Any, run: Run | None) -> None:
    try:
        if run is None:
            as_inputs(batch, model).call(model)
        else:
            run(model, batch)
    except UsageError:
        raise
    except Exception as error:
        doing = "The network does not run" if run is None else "The function that runs the network fails"
        raise UsageError(f"{doing} on a batch ({why(error)}); check the batch, or say how with run=.") from error


def parts_and_inputs(
    model: nn.Module, example: Any, part: str | Sequence[str] = (), run: Run | None = None
) -> tuple[nn.Module, ModelInputs]:
    """Return what is traced of a network, and what that is called with.

    Args:
        model: The network.
        example: A batch of it.
        part: Paths of the parts that are pruned; none for all of it.
        run: Runs the network on a batch; None for a plain call.

    Raises:
        UsageError: as `captured` and `check_parts`.
    """
    part = paths_of(part)
    if not part and run is None:
        return model, check_inputs(example, model)
    inputs, outside = _captured(model, part, [example], run, MOST_BYTES)
    return (Parts(model, part, sorted(outside)) if part else model), inputs


def view(model: nn.Module, part: Sequence[str], outside: Sequence[str] = ()) -> nn.Module:
    """Return what is traced of a network of the same structure: its parts, or all of it.

    Args:
        model: The network.
        part: Paths of its parts.
        outside: Paths of modules in them that the rest of the network calls as well.

    Raises:
        UsageError: as `check_parts`.
    """
    check_parts(model, [*part])
    return Parts(model, part, outside) if part else model


def tensors_kept(model: nn.Module) -> dict[str, str]:
    """Return the tensors of parts that the rest of the network uses, and why they stay as they are."""
    return dict(model.whole) if isinstance(model, Parts) else {}


__all__ = ["Parts", "Run", "captured", "check_parts", "largest", "parts_and_inputs", "paths_of", "tensors_kept", "view"]
