"""Tell two sets of tensors apart."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable

import torch
from torch import Tensor


def fingerprint(named: Iterable[tuple[str, Tensor]]) -> str:
    """Return the SHA-256 (hex) of named tensors in the order given."""
    digest = hashlib.sha256()
    for name, tensor in named:
        values = tensor.detach().cpu().contiguous()
        digest.update(f"{name} {values.dtype} {tuple(values.shape)}\n".encode())
        digest.update(values.reshape(-1).view(torch.uint8).numpy().data if values.numel() else b"")
    return digest.hexdigest()
