"""A picture of a module: everything that it consists of, by identity and value, to compare before and after a call."""

from __future__ import annotations

import random
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn


def picture(*models: nn.Module) -> list[str]:
    """Return one line per fact: of every attribute, container, tensor and module that can be reached, and of random numbers."""
    lines: list[str] = []
    for number, model in enumerate(models):
        _draw(model, f"model{number}", lines, set())
    lines.append(f"torch {torch.get_rng_state().numpy().tobytes().hex()}")
    lines.append(f"numpy {np.random.get_state()!r}")  # noqa: NPY002 (the global numbers are what is compared)
    lines.append(f"random {hash(random.getstate())}")
    return lines


def _draw(thing: Any, path: str, lines: list[str], seen: set[int]) -> None:
    if isinstance(thing, (bool, int, float, str, bytes, type(None))):
        lines.append(f"{path} = {thing!r}")
        return
    lines.append(f"{path} is {type(thing).__name__} {id(thing)}")
    if id(thing) in seen:
        return
    seen.add(id(thing))
    if isinstance(thing, Tensor):
        _draw_tensor(thing, path, lines, seen)
    elif isinstance(thing, torch.jit.ScriptModule):
        lines += [f"{path}.{name} {module.training}" for name, module in thing.named_modules()]
        lines += [f"{path}.{name} {tensor.tolist()}" for name, tensor in thing.state_dict().items()]
    elif isinstance(thing, nn.Module):
        _draw(vars(thing), path, lines, seen)
    elif isinstance(thing, dict):
        for number, (key, value) in enumerate(thing.items()):
            _draw(value, f"{path}[{number}: {key!r}]", lines, seen)
    elif isinstance(thing, (list, tuple)):
        for number, value in enumerate(thing):
            _draw(value, f"{path}[{number}]", lines, seen)
    elif isinstance(thing, (set, frozenset)):
        lines.append(f"{path} {sorted(map(repr, thing))}")
    elif hasattr(thing, "__dict__") and "tests." in type(thing).__module__:
        _draw(vars(thing), path, lines, seen)


def _draw_tensor(tensor: Tensor, path: str, lines: list[str], seen: set[int]) -> None:
    values = tensor.detach().contiguous().flatten().view(torch.uint8).numpy().tobytes().hex()
    place = (tensor.data_ptr(), tensor.shape, tensor.stride(), tensor.dtype, tensor.device)
    lines.append(f"{path} {place} {tensor.requires_grad} {values}")
    lines.append(f"{path} version {tensor._version}")
    if tensor.is_leaf:
        _draw(tensor.grad, f"{path}.grad", lines, seen)
