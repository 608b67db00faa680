"""The pruned network of this folder, in the class of the dense one. Needs torch and safetensors, not autoprune.

from load import load

network = load(MyNetwork())  # made as the dense network was; its weights do not matter
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from safetensors.torch import load_file
from torch import nn

REFUSED = ""
ATTRIBUTES: dict[str, dict[str, Any]] = {}


def load(model: nn.Module, file: str | Path | None = None) -> nn.Module:
    """Turn a dense network, in place, into the pruned one with the weights in ``file``; return it in eval mode."""
    if REFUSED:
        raise NotImplementedError(REFUSED)
    file = file or Path(__file__).with_name("model.safetensors")
    state = load_file(file)
    tied: dict[int, list[str]] = {}  # tied weights have several names, of which the file has one
    for name, tensor in model.state_dict(keep_vars=True).items():
        tied.setdefault(id(tensor), []).append(name)
    found = {next((name for name in names if name in state), ""): names for names in tied.values()}
    for name in sorted({*state} ^ {*found}):
        raise ValueError(
            f"'{name or found[name][0]}' is not in both model and {file}; make the network that was pruned."
        )
    for name, names in found.items():
        new = state[name]
        for path, _, leaf in (each.rpartition(".") for each in names):
            module = model.get_submodule(path)
            old = getattr(module, leaf)
            if old.dim() != new.dim() or any(a > b for a, b in zip(new.shape, old.shape, strict=True)):
                raise ValueError(f"'{name}' of {file} does not fit this model; make the network that was pruned.")
            if new is state[name]:  # the first of its names
                new = new.to(old.device, old.dtype, copy=True)
                new = nn.Parameter(new, old.requires_grad) if isinstance(old, nn.Parameter) else new
            setattr(module, leaf, new)
    for path, values in ATTRIBUTES.items():
        vars(model.get_submodule(path)).update(values)
    return model.eval()
