"""The moving average of the weights, and BatchNorm statistics that belong to it."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm


class Average:
    """An exponential moving average of a module's parameters. BatchNorm statistics are not averaged: see ``fresh_statistics``.

    Args:
        module: Whose parameters are averaged; their present values are where it begins.
        decay: Share of the old average per update, once warmed up.
    """

    def __init__(self, module: nn.Module, decay: float) -> None:
        self.decay = decay
        self.updates = 0
        self._names, self._live = zip(*module.named_parameters(), strict=True)
        self._mean = [parameter.detach().clone() for parameter in self._live]

    @torch.no_grad()
    def update(self) -> None:
        """Take in the present values. The decay is at most (1 + n) / (10 + n) in update n, from 0."""
        decay = min(self.decay, (1 + self.updates) / (10 + self.updates))
        self.updates += 1
        for mean, live in zip(self._mean, self._live, strict=True):
            mean.lerp_(live.detach(), 1 - decay)

    def state(self) -> dict[str, Tensor]:
        """Return the average by parameter name."""
        return dict(zip(self._names, self._mean, strict=True))

    @torch.no_grad()
    def restore(self, state: Mapping[str, Tensor], updates: int) -> None:
        """Become what ``state`` returned after so many updates."""
        self.updates = updates
        for name, mean in zip(self._names, self._mean, strict=True):
            mean.copy_(state[name])

    @torch.no_grad()
    def copy_to(self, module: nn.Module) -> None:
        """Put the average into another module's parameters."""
        for name, parameter in module.named_parameters():
            parameter.copy_(self.state()[name])


def frozen(module: nn.Module) -> list[nn.Module]:
    """Return the modules that are in eval mode inside a module in train mode: BatchNorm whose statistics are to stay, say."""
    return [part for part in module.modules() if not part.training] if module.training else []


def train_mode(module: nn.Module, kept: Collection[nn.Module], *, leaves: bool) -> None:
    """Put a module into train mode.

    Args:
        module: The module.
        kept: Those that are to be in eval mode, see `frozen`.
        leaves: Whether only modules without submodules are (norms, dropout), so that the outputs are nested and computed as
            in eval mode, whatever the code of a detector's head does in train mode.
    """
    module.train()
    for part in module.modules():
        if part in kept or (leaves and not isinstance(part, _BatchNorm) and any(True for _ in part.children())):
            part.training = False


@torch.no_grad()
def fresh_statistics(
    module: nn.Module, batches: Iterable[Any], run: Callable[[nn.Module, Any], Any] = nn.Module.__call__
) -> None:
    """Measure BatchNorm's running statistics anew, as the plain mean over batches; the module is left in eval mode.

    Those of frozen norms (see `frozen`) stay.

    Averaged weights never ran on a batch, so that no running statistics belong to them (Izmailov et al., "Averaging Weights
    Leads to Wider Optima", 2018, section 3.2).

    Args:
        module: Its parameters stay as they are.
        batches: Inputs.
        run: Runs the module on one of them.
    """
    kept = set(frozen(module))
    norms = [
        norm
        for norm in module.modules()
        if isinstance(norm, _BatchNorm) and norm.track_running_stats and norm not in kept
    ]
    module.eval()
    if not norms:
        return
    momenta = [norm.momentum for norm in norms]
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None
        norm.train()
    try:
        for images in batches:
            run(module, images)
    finally:
        for norm, momentum in zip(norms, momenta, strict=True):
            norm.momentum = momentum
        module.eval()
