"""Files that other tools read: ONNX, PyTorch's exported program, safetensors."""

from autoprune.exporting._export import (
    SUFFIXES,
    ExportedModel,
    OnnxModel,
    check_format,
    export_model,
    load_exported,
    missing_onnx,
    onnx_session,
    require_onnx,
)

__all__ = [
    "SUFFIXES",
    "ExportedModel",
    "OnnxModel",
    "check_format",
    "export_model",
    "load_exported",
    "missing_onnx",
    "onnx_session",
    "require_onnx",
]
