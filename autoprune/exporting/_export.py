"""Files that other tools read: ONNX, PyTorch's exported program, safetensors."""

from __future__ import annotations

import io
import logging
import warnings
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.export import Dim

from autoprune.errors import AutopruneError, UsageError
from autoprune.exporting.pt2 import checked_pt2, functional
from autoprune.model_guard import ModelInputs, as_inputs, eval_mode, unchanged
from autoprune.registry import nearest
from autoprune.support.files import write_bytes_atomic
from autoprune.support.packages import require
from autoprune.support.tensors import save_safetensors_atomic

ONNX_MODULES = ("onnx", "onnxscript", "onnxruntime")
SUFFIXES = {"onnx": ".onnx", "pt2": ".pt2", "safetensors": ".safetensors"}


def export_model(model: nn.Module, example_input: Any, path: Path, *, format: str) -> bool:
    """Write a network to a file, atomically.

    Args:
        model: The network; exported in eval mode, whatever its mode is.
        example_input: One batch of at least 2, shape (B, C, H, W), or of any nesting (`autoprune.model_guard.as_inputs`); an
            ONNX file then has an input for each tensor, in their order.
        path: The file.
        format: "onnx", "pt2" or "safetensors" (the state dict).

    Returns:
        Whether the file takes any batch size; if not, it takes that of ``example_input``.

    Raises:
        UsageError: for another format, or if what ONNX needs is not installed.
        AutopruneError: if the network cannot be exported, or the file not be written.
    """
    check_format(format)
    if format == "safetensors":
        save_safetensors_atomic(path, model.state_dict())
        return True
    with unchanged(model), eval_mode(model):
        program, dynamic = _trace(model, as_inputs(example_input, model))
        if format == "pt2":
            program = functional(program)
        for node in program.graph.nodes:
            node.meta.pop("stack_trace", None)  # source lines and paths of this machine
        if format == "pt2":
            buffer = io.BytesIO()
            torch.export.save(program, buffer)
            write_bytes_atomic(path, buffer.getvalue())
        else:
            _write_onnx(program, path)
    return dynamic


def check_format(format: str) -> None:
    """See that a format exists and can be written here.

    Raises:
        UsageError: for another format, or if what ONNX needs is not installed.
    """
    if format not in SUFFIXES:
        raise UsageError(f"Unknown format '{format}'.{nearest(format, list(SUFFIXES))} Known: {', '.join(SUFFIXES)}.")
    if format == "onnx":
        require("ONNX needs", "onnx", "onnxscript")


def onnx_session(path: Path, *, threads: int | None = None, profile: Path | None = None) -> Any:
    """Return an onnxruntime session on the CPU for an ONNX file.

    Args:
        path: The file.
        threads: How many threads it computes with; None for onnxruntime's choice. With a number they stop spinning after each
            run, so that they do not disturb what is timed next.
        profile: Where the times of its kernels are written when its profiling is ended; None for no profile.

    Raises:
        UsageError: if the file is missing or damaged, or onnxruntime is not installed.
    """
    require("ONNX needs", "onnxruntime")
    import onnxruntime

    if not path.is_file():
        raise UsageError(f"The file '{path}' does not exist.")
    settings = onnxruntime.SessionOptions()
    settings.log_severity_level = 4  # what is wrong is raised, too
    if threads is not None:
        settings.intra_op_num_threads = threads
        settings.inter_op_num_threads = 1
        settings.add_session_config_entry("session.force_spinning_stop", "1")
    if profile is not None:
        settings.enable_profiling = True
        settings.profile_file_prefix = str(profile)
    try:
        return onnxruntime.InferenceSession(str(path), settings, providers=["CPUExecutionProvider"])
    except Exception as error:
        why = " ".join(str(error).split())[:200]
        raise UsageError(f"The file '{path}' is not an ONNX model that onnxruntime can run ({why}).") from error


def _refuse_loops(path: Path) -> None:
    """Refuse an ONNX file, which may be a stranger's, with loops, which may have no end and may run while it is loaded."""
    require("ONNX needs", "onnx", "onnxruntime")
    import onnx

    if not path.is_file():
        raise UsageError(f"The file '{path}' does not exist.")
    try:
        model = onnx.load(path, load_external_data=False)
    except Exception as error:
        raise UsageError(f"The file '{path}' is not an ONNX model.") from error
    bodies = (model.graph, *model.functions)
    if any(name == "Loop" for body in bodies for name in _onnx_operators(body.node)):
        raise UsageError(
            f"The ONNX file '{path}' has a loop (operator Loop), which may run without an end, so it is not run; give a network "
            "without loops."
        )


def _onnx_operators(nodes: Iterable[Any]) -> Iterator[str]:
    """Yield the operators of an ONNX graph's nodes and of the graphs in them."""
    for node in nodes:
        yield node.op_type
        for attribute in node.attribute:
            for graph in (attribute.g, *attribute.graphs):
                yield from _onnx_operators(graph.node)


class OnnxModel(nn.Module):
    """An ONNX file as a module, run by onnxruntime on the CPU.

    Args:
        path: The file. It is called with a tensor for each of its inputs, nested in any way, in their order; where it has one
            output, that is what a call returns, else a tuple of all.

    Raises:
        UsageError: if the file is missing, damaged or has loops, or what ONNX needs is not installed.
    """

    def __init__(self, path: Path) -> None:
        super().__init__()
        _refuse_loops(path)
        self._session = onnx_session(path)
        self._inputs: list[str] = [each.name for each in self._session.get_inputs()]

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """Return the outputs: of images (B, C, H, W) the logits, shape (B, classes).

        Raises:
            UsageError: if the file has another number of inputs.
        """
        if not args and kwargs.keys() == set(self._inputs):
            kwargs = {name: kwargs[name] for name in self._inputs}
        tensors = ModelInputs(args, kwargs).tensors
        if len(tensors) != len(self._inputs):
            raise UsageError(
                f"The ONNX file has the inputs {', '.join(self._inputs)}, but is called with {len(tensors)} tensors; give one "
                "for each."
            )
        given = {name: tensor.detach().cpu().numpy() for name, tensor in zip(self._inputs, tensors, strict=True)}
        outputs = [torch.from_numpy(found).to(tensors[0].device) for found in self._session.run(None, given)]
        return outputs[0] if len(outputs) == 1 else tuple(outputs)


class ExportedModel(nn.Module):
    """An exported program as a module. It was exported for evaluation and stays so, whatever mode is set.

    The file may be a stranger's: nothing in it is unpickled or run beyond torch's operators (see `autoprune.exporting`).

    Args:
        path: The ``.pt2`` file.

    Raises:
        UsageError: if the file is missing or damaged, or could run code of its own.
    """

    def __init__(self, path: Path) -> None:
        super().__init__()
        if not path.is_file():
            raise UsageError(f"The file '{path}' does not exist.")
        try:
            with _quiet("torch.export"):  # it prints tracebacks for what it raises
                module = torch.export.load(checked_pt2(path)).module()
        except Exception as error:
            why = " ".join(str(error).split())[:200].rstrip(".")
            raise UsageError(
                f"The file '{path}' is not an exported program that can be loaded ({why}); export the network again, or as ONNX "
                "(autoprune export RUN --format onnx)."
            ) from error
        self._call: Callable[..., Any] = module.forward  # as a submodule it would refuse train() and eval()

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """Return what the network gives: of images (B, C, H, W) the logits, shape (B, classes)."""
        return self._call(*args, **kwargs)


@contextmanager
def _quiet(name: str) -> Iterator[None]:
    """Let a logger say nothing, within a ``with`` block."""
    logger = logging.getLogger(name)
    before, logger.disabled = logger.disabled, True
    try:
        yield
    finally:
        logger.disabled = before


def load_exported(path: Path) -> nn.Module:
    """Return an exported ``.onnx`` or ``.pt2`` file as a module that takes a batch of images.

    Raises:
        UsageError: if it is missing, damaged, or of another kind.
    """
    if path.suffix == ".onnx":
        return OnnxModel(path)
    if path.suffix != ".pt2":
        raise UsageError(f"The file '{path}' is neither .onnx nor .pt2; give one of these, or a run folder.")
    return ExportedModel(path)


def _trace(model: nn.Module, example: ModelInputs) -> tuple[torch.export.ExportedProgram, bool]:
    """Export with any batch size, or with the example's where the network insists on one."""
    try:
        shapes = example.dynamic_shapes(model, Dim("batch", min=1))
        return torch.export.export(model, example.args, example.kwargs or None, dynamic_shapes=shapes), True
    except Exception:  # torch raises many kinds here; if it is not the batch size, the next call raises it again
        try:
            return torch.export.export(model, example.args, example.kwargs or None), False
        except Exception as error:
            first = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
            raise AutopruneError(
                f"torch cannot export the network: {first}. Its weights alone can always be written (safetensors)."
            ) from error


def _write_onnx(program: torch.export.ExportedProgram, path: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the exporter's own deprecations, nothing a user can act on
        try:
            exported = torch.onnx.export(program, dynamo=True, verbose=False)
        except Exception as error:
            first = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
            raise AutopruneError(f"torch's ONNX exporter failed: {first}") from error
    if exported is None:
        raise AutopruneError("torch's ONNX exporter returned nothing.")
    write_bytes_atomic(path, exported.model_proto.SerializeToString())
