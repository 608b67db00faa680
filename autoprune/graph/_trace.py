"""From a model to an exported ATen program, with its parameters under the names the model gives them."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.export import Dim, ExportedProgram
from torch.export.graph_signature import InputKind
from torch.fx import Node

from autoprune.errors import AutopruneError, UsageError


@contextmanager
def eval_mode(model: nn.Module) -> Iterator[None]:
    """Put a model into eval mode and give every module its own mode back afterwards."""
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        yield
    finally:
        for module, training in modes:
            module.training = training


@contextmanager
def attributes_kept(model: nn.Module) -> Iterator[None]:
    """Give every module back the attributes it had: a forward that keeps activations would keep the tracer's fakes."""
    before = [(module, dict(module.__dict__)) for module in model.modules()]
    try:
        yield
    finally:
        for module, attributes in before:
            module.__dict__.clear()
            module.__dict__.update(attributes)


def at_least_two(example_input: Tensor) -> Tensor:
    """Return two images of the example (one is repeated): a batch of one would be burnt into the program."""
    if example_input.dim() == 0 or example_input.shape[0] == 0:
        raise UsageError(
            f"The example input has shape {tuple(example_input.shape)}, but it must hold at least one image, as (N, C, H, W)."
        )
    return torch.cat([example_input[:1], example_input[:1]]) if example_input.shape[0] == 1 else example_input[:2]


def tensor_names(model: nn.Module) -> dict[str, str]:
    """Return for every name of a parameter or buffer the first name of the same tensor."""
    first: dict[int, str] = {}
    names: dict[str, str] = {}
    for source in (model.named_parameters(remove_duplicate=False), model.named_buffers(remove_duplicate=False)):
        for name, tensor in source:
            names[name] = first.setdefault(id(tensor), name)
    return names


def is_symbolic(size: int | torch.SymInt) -> bool:
    """Return whether a size is left open (and not one that the exporter found out to be fixed)."""
    return isinstance(size, torch.SymInt) and not size.node.expr.is_number


@dataclass(frozen=True, eq=False)
class Traced:
    """An exported program and what its placeholders stand for.

    Attributes:
        program: The exported program.
        tensors: For each lifted placeholder the name of its parameter or buffer (the first of tied ones).
        inputs: The placeholders of the network's inputs.
        shapes: Shape of each named parameter and buffer.
        dynamic_batch: Whether the program takes any batch size.
    """

    program: ExportedProgram
    tensors: dict[Node, str]
    inputs: tuple[Node, ...]
    shapes: dict[str, tuple[int, ...]]
    dynamic_batch: bool


def _first_line(error: BaseException) -> str:
    return next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)


def _export(model: nn.Module, example_input: Tensor) -> ExportedProgram:
    attempts: list[tuple[Tensor, bool]] = [(at_least_two(example_input), True), (at_least_two(example_input), False)]
    if example_input.shape[0] != 2:
        attempts.append((example_input, False))
    error: Exception | None = None
    with eval_mode(model), attributes_kept(model), torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the exporter warns of things a user can do nothing about
        for images, dynamic in attempts:
            try:
                shapes = ({0: Dim.AUTO},) if dynamic else None
                return torch.export.export(model, (images,), dynamic_shapes=shapes, strict=False)
            except Exception as failure:
                error = error or failure
        _check_runs(model, example_input)
    assert error is not None
    raise AutopruneError(
        f"The model cannot be traced by torch.export ({_first_line(error)}); "
        "make its forward free of scripted modules and of control flow that depends on the values of the input."
    ) from error


def _check_runs(model: nn.Module, example_input: Tensor) -> None:
    try:
        model(example_input)
    except Exception as error:
        raise UsageError(
            f"The model does not run on an input of shape {tuple(example_input.shape)} ({_first_line(error)}); "
            "give images of the size and number of channels that it was made for."
        ) from error


def trace(model: nn.Module, example_input: Tensor) -> Traced:
    """Export a model in eval mode as ATen operators, undecomposed; every module's mode is restored.

    Args:
        model: The model; its parameters become the program's own (nothing is copied).
        example_input: Images of shape (N, C, H, W), N >= 1.

    Raises:
        AutopruneError: if ``torch.export`` refuses the model.
    """
    program = _export(model, example_input)
    names = tensor_names(model)
    tensors: dict[Node, str] = {}
    inputs: list[Node] = []
    placeholders = program.graph.find_nodes(op="placeholder")
    for node, spec in zip(placeholders, program.graph_signature.input_specs, strict=True):
        if spec.kind in (InputKind.PARAMETER, InputKind.BUFFER) and spec.target in names:
            tensors[node] = names[spec.target]
        elif spec.kind == InputKind.USER_INPUT:
            inputs.append(node)
    shapes = {
        name: tuple(tensor.shape)
        for source in (model.named_parameters(), model.named_buffers())
        for name, tensor in source
    }
    batch = inputs[0].meta["val"].shape[0] if inputs and isinstance(inputs[0].meta.get("val"), Tensor) else 0
    return Traced(program, tensors, tuple(inputs), shapes, is_symbolic(batch))
