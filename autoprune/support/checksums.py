"""Checksums that files carry in themselves, so that damage is noticed by whatever reads them.

A JSON object, and every line of a journal, holds a ``checksum`` over its other values; a safetensors file holds one over its
tensors and metadata. They guard against damaged disks and slips, not against forgery: whoever can write the file can compute
them. What follows from a file's numbers is computed again by those who use them.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

KEY = "checksum"
"""The key of the checksum in a JSON object and in the metadata of safetensors."""
_DIGITS = 16


def text_checksum(text: str) -> str:
    """Return the checksum of canonical text: the first 16 hex digits of its SHA-256."""
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:_DIGITS]


def tensors_checksum(tensors: Mapping[str, Tensor], metadata: Mapping[str, str]) -> str:
    """Return the checksum of tensors, by names, kinds, shapes and bytes, and of the metadata beside them.

    Args:
        tensors: The tensors, on the CPU.
        metadata: The metadata; its own ``checksum`` does not count.
    """
    digest = hashlib.sha256()
    for key in sorted(set(metadata) - {KEY}):
        digest.update(f"{key}={metadata[key]}\n".encode())
    for name in sorted(tensors):
        tensor = tensors[name].contiguous()
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()[:_DIGITS]


def file_digest(path: Path) -> str:
    """Return the SHA-256 of a file (64 hex digits)."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def without_checksum(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return a JSON object without its checksum."""
    return {key: value for key, value in values.items() if key != KEY}
