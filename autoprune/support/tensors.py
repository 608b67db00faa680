"""Tensors on disk as safetensors, written atomically with a checksum in the metadata, which is compared on reading."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save
from torch import Tensor

from autoprune.errors import UsageError
from autoprune.support.checksums import KEY, tensors_checksum, without_checksum
from autoprune.support.files import write_bytes_atomic


def save_safetensors_atomic(
    path: str | os.PathLike[str], tensors: Mapping[str, Tensor], *, metadata: Mapping[str, str] | None = None
) -> None:
    """Write tensors as safetensors atomically, with a checksum in the metadata.

    Of tied ones (same storage, shape and strides) the first is written.

    Raises:
        AutopruneError: if it cannot be written.
    """
    seen: set[tuple[object, ...]] = set()
    flat: dict[str, Tensor] = {}
    for name, tensor in tensors.items():
        key = (tensor.device, tensor.dtype, tensor.data_ptr(), tuple(tensor.shape), tensor.stride())
        if tensor.numel() and tensor.data_ptr() and key in seen:
            continue
        seen.add(key)
        flat[name] = tensor.detach().to("cpu", copy=True).contiguous()
    said = {**(metadata or {}), KEY: tensors_checksum(flat, metadata or {})}
    write_bytes_atomic(path, save(flat, metadata=said))  # safetensors' own writing has temporary files of other names


def load_safetensors(path: str | os.PathLike[str], *, device: str | torch.device = "cpu") -> dict[str, Tensor]:
    """Return the tensors of a safetensors file; their checksum, where the file has one, is compared.

    Raises:
        UsageError: if it is missing, unreadable or damaged.
    """
    return load_described(path, device=device)[0]


def load_described(
    path: str | os.PathLike[str], *, device: str | torch.device = "cpu"
) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Return the tensors of a safetensors file and its metadata; see `load_safetensors`."""
    path = Path(path)
    if not path.is_file():
        raise UsageError(f"The weights file '{path}' does not exist.")
    try:
        with safe_open(path, framework="pt") as opened:
            metadata: dict[str, str] = dict(opened.metadata() or {})
        tensors: dict[str, Tensor] = load_file(path, device="cpu")
    except (SafetensorError, OSError, ValueError) as error:
        raise UsageError(
            f"The weights file '{path}' cannot be read: it is damaged or not safetensors ({error})."
        ) from error
    if KEY in metadata and metadata[KEY] != tensors_checksum(tensors, metadata):
        raise UsageError(
            f"The weights file '{path}' is damaged: its tensors do not match its checksum; restore it or make it again."
        )
    return {name: tensor.to(device) for name, tensor in tensors.items()}, without_checksum(metadata)
