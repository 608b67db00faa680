"""Where training steps run: one device here, or several through Lightning Fabric."""

from __future__ import annotations

from importlib import import_module
from typing import Any

import torch
from torch import Tensor, nn

from autoprune.errors import UsageError
from autoprune.support.packages import missing, require


class Engine:
    """One process on one device. Subclasses spread the work.

    Args:
        device: Where.

    Attributes:
        device: Where this process computes.
        rank: Number of this process; 0 writes files.
        world: Number of processes.
    """

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.rank = 0
        self.world = 1

    def setup(self, model: nn.Module, optimizer: torch.optim.Optimizer) -> tuple[nn.Module, torch.optim.Optimizer]:
        """Return what the forward pass and the step are to be called on."""
        return model, optimizer

    def backward(self, loss: Tensor) -> None:
        """Compute gradients."""
        loss.backward()  # type: ignore[no-untyped-call]

    def mean(self, value: Tensor) -> Tensor:
        """Return the mean over the processes."""
        return value

    def barrier(self) -> None:
        """Wait for the other processes."""

    def same(self, value: float) -> bool:
        """Return whether all processes pass the same number; every process gets the same answer."""
        seen = torch.tensor([value, value * value], dtype=torch.float64, device=self.device)
        mean, square = self.mean(seen).tolist()
        return bool(square - mean * mean <= 1e-9 * max(1.0, square))


class FabricEngine(Engine):
    """Several devices, one process each, through Lightning Fabric.

    Args:
        kind: "cpu" or "cuda".
        devices: How many.

    Raises:
        UsageError: if Fabric is not installed.
    """

    def __init__(self, kind: str, devices: int) -> None:
        alone = missing(["lightning"]) is not None and missing(["lightning_fabric"]) is None
        if not alone:
            require(f"Training on {devices} devices needs", "lightning")
        module = "lightning_fabric" if alone else "lightning.fabric"
        fabric: Any = import_module(module).Fabric(
            accelerator=kind, devices=devices, strategy="ddp" if devices > 1 else "auto"
        )
        fabric.launch()
        super().__init__(fabric.device)
        self._fabric = fabric
        self.rank, self.world = int(fabric.global_rank), int(fabric.world_size)

    def setup(self, model: nn.Module, optimizer: torch.optim.Optimizer) -> tuple[nn.Module, torch.optim.Optimizer]:
        """Return Fabric's wrappers."""
        wrapped, stepper = self._fabric.setup(model, optimizer)
        return wrapped, stepper

    def backward(self, loss: Tensor) -> None:
        """Compute gradients and average them over the processes."""
        self._fabric.backward(loss)

    def mean(self, value: Tensor) -> Tensor:
        """Return the mean over the processes."""
        reduced: Tensor = self._fabric.all_reduce(value, reduce_op="mean")
        return reduced

    def barrier(self) -> None:
        """Wait for the other processes."""
        self._fabric.barrier()


def make_engine(device: str, devices: int) -> Engine:
    """Return the engine for so many devices of a kind.

    Raises:
        UsageError: for fewer than 1, or several without Fabric or with a numbered device.
    """
    if devices < 1:
        raise UsageError(f"The value of devices is {devices}, but must be at least 1.")
    kind = torch.device(device)
    if devices == 1:
        return Engine(kind)
    if ":" in device:
        raise UsageError(
            f"The device '{device}' is one device, but {devices} were asked for; give --device {kind.type}."
        )
    if kind.type == "cuda" and torch.cuda.device_count() < devices:
        raise UsageError(
            f"{devices} devices were asked for, but there are {torch.cuda.device_count()} CUDA devices here."
        )
    return FabricEngine(kind.type, devices)
