"""Random weights for a pruned architecture: the control of what its inherited weights are worth.

Liu et al., "Rethinking the Value of Network Pruning", ICLR 2019.
"""

from __future__ import annotations

import torch
from torch import nn
from torch.nn.modules.conv import _ConvNd

from autoprune.errors import UsageError


def reinitialise(module: nn.Module, *, seed: int) -> None:
    """Give every parameter and buffer of a module a new first value, drawn from ``seed``.

    Convolutions get He's (normal, fan out: He et al. 2015, equation 14) and biases of zero; every other module what its
    own ``reset_parameters`` gives.

    Raises:
        UsageError: if a module has parameters of its own and no ``reset_parameters``.
    """
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.default_generator.manual_seed(seed)
        for name, part in module.named_modules():
            if isinstance(part, _ConvNd):
                nn.init.kaiming_normal_(part.weight, mode="fan_out", nonlinearity="relu")
                if part.bias is not None:
                    nn.init.zeros_(part.bias)
            elif callable(reset := getattr(part, "reset_parameters", None)):
                reset()
            elif any(True for _ in part.parameters(recurse=False)):
                raise UsageError(
                    f"The module '{name or type(part).__name__}' ({type(part).__name__}) cannot be initialised anew; "
                    "give it a method reset_parameters(), or fine-tune without --from-scratch."
                )
