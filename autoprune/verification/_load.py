"""An exported file as a network again."""

from __future__ import annotations

from pathlib import Path

from torch import nn

from autoprune.errors import AutopruneError, UsageError
from autoprune.exporting import SUFFIXES, ExportedModel, OnnxModel
from autoprune.runs import Rebuilt, load_dense, rebuild
from autoprune.support.packages import require
from autoprune.support.tensors import load_safetensors
from autoprune.surgery import Policy


def format_of(file: Path) -> str:
    """Return the format that a file's name says.

    Raises:
        UsageError: if it says none.
    """
    for name, suffix in SUFFIXES.items():
        if file.suffix == suffix:
            return name
    raise UsageError(f"The file '{file}' must end in {', '.join(SUFFIXES.values())}, so that its format is known.")


def policy_beside(file: Path) -> Path:
    """Return where the policy of a safetensors file lies: ``policy.json`` for a folder's model, else of the same name."""
    if file.name == "model.safetensors" and (file.parent / "policy.json").is_file():
        return file.parent / "policy.json"
    return file.with_suffix(".json")


def load_back(file: Path, format: str, rebuilt: Rebuilt, *, model: str | None, policy: Path | None = None) -> nn.Module:
    """Return the network that an exported file holds.

    A safetensors file is put into a network made anew by the original constructor and the policy beside the file.

    Args:
        file: The file.
        format: Its format.
        rebuilt: The run's network, for the specification of the dense one.
        model: Specification of the dense network, for one that was passed from Python.
        policy: The policy of a safetensors file; None for the one beside it.

    Raises:
        UsageError: if the file is damaged, or what reads it is not installed.
        AutopruneError: if the file is no valid ONNX model; without the file's name.
    """
    if format == "onnx":
        _check_onnx(file)
        return OnnxModel(file)
    if format == "pt2":
        return ExportedModel(file)
    stored = Policy.load(policy_beside(file) if policy is None else policy)
    dense = load_dense(rebuilt.policy.model, model=model)
    return rebuild(stored, load_safetensors(file), dense).model


def _check_onnx(file: Path) -> None:
    require("ONNX needs", "onnx", "onnxruntime")
    import onnx

    if not file.is_file():
        raise UsageError(f"The file '{file}' does not exist.")
    try:
        onnx.checker.check_model(onnx.load_model_from_string(file.read_bytes()), full_check=True)
    except Exception as error:  # onnx and protobuf raise many kinds here
        why = " ".join(str(error).split())[:200] or type(error).__name__
        raise AutopruneError(f"it is not a valid ONNX model ({why.rstrip('.')})") from error
