"""Files that other tools read: ONNX, PyTorch's exported program, safetensors."""

from autoprune.exporting._export import (
    ONNX_MODULES,
    SUFFIXES,
    ExportedModel,
    OnnxModel,
    check_format,
    export_model,
    load_exported,
    onnx_session,
)

__all__ = [
    "ONNX_MODULES",
    "SUFFIXES",
    "ExportedModel",
    "OnnxModel",
    "check_format",
    "export_model",
    "load_exported",
    "onnx_session",
]
