"""From a model to an exported ATen program, with its parameters under the names the model gives them."""

from __future__ import annotations

import io
import logging
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout, suppress
from dataclasses import dataclass, field
from typing import Any, TypeGuard

import torch
from torch import Tensor, nn
from torch.export import Dim, ExportedProgram
from torch.export.graph_signature import InputKind
from torch.fx import Node
from torch.utils import _pytree as pytree

from autoprune.errors import AutopruneError, UsageError
from autoprune.graph._execute import Executor, input_nodes
from autoprune.graph._parts import tensors_kept
from autoprune.graph._record import output_tensors, record
from autoprune.graph._sizes import SizeFinder
from autoprune.groups import CallFinder, RecordedCall, recorded_calls
from autoprune.model_guard import ModelInputs, check_signature, eval_mode, run_once, unchanged

_log = logging.getLogger(__name__)


def at_least_two(inputs: ModelInputs) -> ModelInputs:
    """Return two items of the inputs (one is repeated): a batch of one would be burnt into the program."""
    return ModelInputs.join([inputs[:1], inputs[:1]]) if len(inputs) == 1 else inputs[:2]


def tensor_names(model: nn.Module) -> dict[str, str]:
    """Return for every name of a parameter or buffer the first name of the same tensor."""
    first: dict[int, str] = {}
    names: dict[str, str] = {}
    for source in (model.named_parameters(remove_duplicate=False), model.named_buffers(remove_duplicate=False)):
        for name, tensor in source:
            names[name] = first.setdefault(id(tensor), name)
    return names


def is_symbolic(size: int | torch.SymInt) -> TypeGuard[torch.SymInt]:
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
        assumption: What has to hold beyond the proof, a sentence for the user; None if nothing has to.
        frozen: Names of parameters and buffers that must stay as they are, and why.
        sizes: Finds the attributes of modules that numbers in the program come from.
        calls: Finds the calls in the code that numbers in the program come from.
    """

    program: ExportedProgram
    tensors: dict[Node, str]
    inputs: tuple[Node, ...]
    shapes: dict[str, tuple[int, ...]]
    dynamic_batch: bool
    assumption: str | None = None
    frozen: dict[str, str] = field(default_factory=dict)
    sizes: SizeFinder | None = None
    calls: CallFinder = field(default_factory=CallFinder)


def _first_line(error: BaseException) -> str:
    line = next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)
    return line.split(". ")[0].rstrip(".")


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep the exporter from logging and printing what it makes of a model that it then refuses."""
    loggers = [logging.getLogger(name) for name in ("torch.fx.experimental", "torch.export", "torch._export")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.CRITICAL)
    silence = io.StringIO()
    with warnings.catch_warnings(), redirect_stdout(silence), redirect_stderr(silence):
        warnings.simplefilter("ignore")  # of things a user can do nothing about
        try:
            yield
        finally:
            for logger, level in zip(loggers, levels, strict=True):
                logger.setLevel(level)


def _export(model: nn.Module, inputs: ModelInputs) -> tuple[ExportedProgram, list[RecordedCall], str | None]:
    """Return the program, the calls that it was made of, and why it had to be recorded instead of exported."""
    check_signature(model, inputs)
    attempts = [(at_least_two(inputs), True), (at_least_two(inputs), False)]
    if len(inputs) != 2:
        attempts.append((inputs, False))
    error: Exception | None = None
    modules = dict(model.named_modules())
    with unchanged(model) as as_it_was, eval_mode(model), torch.no_grad(), _quiet():
        for batch, dynamic in attempts:
            _prepare(model, as_it_was)
            try:
                program, calls = _exported(model, batch, dynamic)
                _check_modules(model, modules)
                if dynamic and not _has_open_batch(program):
                    _prepare(model, as_it_was)
                    with suppress(Exception):  # it may compare with the shape that it saw last, which is this one
                        another, its_calls = _exported(model, ModelInputs.join([batch, batch[:1]]), dynamic)
                        if _has_open_batch(another):
                            return another, its_calls, None
                return program, calls, None
            except UsageError:
                raise
            except Exception as failure:
                error = error or failure
                # A size or a branch that hangs on values does so for any number of images.
                if "data-dependent" in str(failure):
                    break
        _prepare(model, as_it_was)
        run_once(model, inputs, advice="give images of the shape and type that it was made for")
        assert error is not None
        _log.debug("torch.export refuses the model: %s", error)
        refused: Exception = error
        for batch, _ in attempts[1:]:
            _prepare(model, as_it_was)
            try:
                with recorded_calls(model) as calls:
                    program = record(model, batch)
                _check_modules(model, modules)
                return program, calls, _first_line(refused)
            except UsageError:
                raise
            except Exception as failure:
                error = failure
    raise AutopruneError(
        f"The model can be traced neither by torch.export ({_first_line(refused)}) nor by recording it ({_first_line(error)}); "
        "make its forward free of what the messages name."
    ) from error


def _exported(model: nn.Module, inputs: ModelInputs, dynamic: bool) -> tuple[ExportedProgram, list[RecordedCall]]:
    shapes = inputs.dynamic_shapes(model, Dim.AUTO) if dynamic else None
    with recorded_calls(model) as calls:
        program = torch.export.export(model, inputs.args, inputs.kwargs or None, dynamic_shapes=shapes, strict=False)
    _inline_regions(program)
    _check_sizes(program)
    return program, calls


def _check_sizes(program: ExportedProgram) -> None:
    """Refuse a program in which the size of a tensor hangs on values, as of what a mask picks out."""
    for node in program.graph.nodes:
        for value in pytree.tree_leaves(node.meta.get("val")):
            sizes = value.shape if isinstance(value, Tensor) else [value]
            if any(isinstance(size, torch.SymInt) and not size.node.has_hint() for size in sizes):
                raise RuntimeError(f"The size of what {node.target} returns is data-dependent")


def _has_open_batch(program: ExportedProgram) -> bool:
    values = [node.meta.get("val") for node in input_nodes(program)]
    batched = [value for value in values if isinstance(value, Tensor) and value.dim()]
    return bool(batched) and all(is_symbolic(value.shape[0]) for value in batched)


def _prepare(model: nn.Module, as_it_was: Callable[[], None]) -> None:
    """Put a model into the state of its first run in eval mode, whatever was tried before."""
    as_it_was()
    model.eval()
    for module in model.modules():
        if isinstance(module, nn.DataParallel):
            module.device_ids = []  # it then calls the module itself


def _check_modules(model: nn.Module, before: dict[str, nn.Module]) -> None:
    now = dict(model.named_modules())
    for path in {**before, **now}:
        if now.get(path) is not before.get(path):
            raise UsageError(
                f"The forward pass replaces or adds the module '{path}' when it first runs, so its weights are not those that "
                "it computes with; run the model once before you pass it."
            )


def _inline_regions(program: ExportedProgram) -> None:
    """Put what ran under ``torch.autocast(enabled=False)`` or with gradients on or off into the program itself."""
    module, graph = program.graph_module, program.graph
    wrapped = torch.ops.higher_order.wrap_with_autocast, torch.ops.higher_order.wrap_with_set_grad_enabled
    for node in list(graph.nodes):
        if node.op != "call_function" or node.target not in wrapped:
            continue
        count = 4 if node.target is wrapped[0] else 1  # the region's settings, before its graph
        if count == 4 and node.args[2] is not False:
            continue
        function, *inputs = node.args[count:]
        inner = getattr(module, str(function.target)).graph
        values = dict(zip(inner.find_nodes(op="placeholder"), inputs, strict=True))
        with graph.inserting_before(node):
            outputs = graph.graph_copy(inner, values)
        for user in list(node.users):
            user.replace_all_uses_with(outputs[user.args[1]])
            graph.erase_node(user)
        graph.erase_node(node)
        if not function.users:
            graph.erase_node(function)
    module.recompile()


def trace(model: nn.Module, inputs: ModelInputs) -> Traced:
    """Export a model in eval mode as ATen operators, undecomposed; every module's mode is restored.

    Args:
        model: The model; its parameters become the program's own (nothing is copied).
        inputs: What it is called with, a batch of at least one.

    Raises:
        AutopruneError: if ``torch.export`` refuses the model and recording it fails.
    """
    program, calls, refused = _export(model, inputs)
    names = tensor_names(model)
    tensors: dict[Node, str] = {}
    placeholders = program.graph.find_nodes(op="placeholder")
    for node, spec in zip(placeholders, program.graph_signature.input_specs, strict=True):
        if spec.kind in (InputKind.PARAMETER, InputKind.BUFFER) and spec.target in names:
            tensors[node] = names[spec.target]
    shapes = {
        name: tuple(tensor.shape)
        for source in (model.named_parameters(), model.named_buffers())
        for name, tensor in source
    }
    if refused is None:
        return Traced(
            program,
            tensors,
            input_nodes(program),
            shapes,
            _has_open_batch(program),
            None,
            _fixed(model),
            SizeFinder(model),
            CallFinder(calls),
        )
    assumption = (
        f"torch.export refuses the model ({refused}), so one pass of the example input was recorded: what is found "
        "and proved holds for inputs that take the same path through the code"
    )
    any_batch = _takes_any_batch(model, program, inputs)
    return Traced(
        program,
        tensors,
        input_nodes(program),
        shapes,
        any_batch,
        assumption,
        _fixed(model),
        SizeFinder(model),
        CallFinder(calls),
    )


def _fixed(model: nn.Module) -> dict[str, str]:
    """Return the tensors that must stay: of modules whose code takes no others, and of parts that the rest uses."""
    names = tensor_names(model)
    found = {names[name]: reason for name, reason in tensors_kept(model).items()}
    for path, module in model.named_modules():
        reason = None
        if isinstance(module, torch.jit.ScriptModule):
            reason = (
                f"the module '{path}' is scripted, so it cannot be changed; prune first and script the pruned model"
            )
        elif isinstance(module, nn.MultiheadAttention):
            reason = f"the module '{path}' is torch's MultiheadAttention, which takes channels of one number only (`embed_dim`)"
        if reason is not None:
            for name in names:
                if name.startswith(f"{path}." if path else ""):
                    found.setdefault(names[name], reason)
    return found


def _takes_any_batch(model: nn.Module, program: ExportedProgram, inputs: ModelInputs) -> bool:
    """Return whether a recorded program computes what the model does for another number of images, too."""
    three = ModelInputs.join([inputs[:1]] * 3)
    given = iter(three.tensors)
    values: list[Any] = []
    for spec in program.graph_signature.input_specs:
        own = program.state_dict if spec.target in program.state_dict else program.constants
        values.append(next(given) if spec.kind == InputKind.USER_INPUT else own[spec.target or ""])
    with unchanged(model), eval_mode(model), torch.no_grad():
        try:
            expected = output_tensors(three.call(model))
            found = Executor(program).execute(values)
            return all(
                a.shape == b.shape and torch.allclose(a.double(), b.double(), rtol=1e-3, atol=1e-4)
                for a, b in zip(output_tensors(found), expected, strict=True)
            )
        except (RuntimeError, IndexError, ValueError):
            return False
