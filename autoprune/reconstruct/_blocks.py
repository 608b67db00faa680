"""Reconstruction block by block: what a residual block computes, not what each of its layers does.

A layer fitted to its own dense output does not know what those behind it could make up for. So after the closed form the layers
of a block (`Plan.blocks`) are trained together, by gradient descent on the squared distance between what comes out of the block
in the pruned network and in the dense one (as Li et al., "BRECQ", ICLR 2021, do for quantised weights). What goes in is what the
blocks before really compute. Calibration images only, no labels, no gradient through more than one block.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from autoprune.model_guard import SafeGradients, as_inputs
from autoprune.reconstruct._plan import Plan, as_it_is
from autoprune.reconstruct._sequential import Sequential
from autoprune.reconstruct._steps import Affine, Block

HELD_OUT = 8
"""One in so many images is held out of the training: on those it is checked whether a block became better."""
CHUNK = 256  # images at a time where no gradient is needed

MOST_STORED_BYTES = 2**30
"""Of a block's values that a step keeps for its gradients, in bytes. Where a step's images take more, their gradients are added
up over fewer at a time, one at least."""
FINISH_STEPS = 160
"""Steps for each block in the final reconstruction: more, smaller ones are worth more than few large ones (docs/search.md)."""


@dataclass(frozen=True)
class Descent:
    """How a block is trained: Adam (Kingma & Ba, ICLR 2015) with a step that falls as a cosine.

    Attributes:
        steps: Steps for each block.
        batch: Images of a step.
        rate: First step, in root mean squares of a layer's weights (for its bias: of its outputs' deviations).
    """

    steps: int
    batch: int = 16
    rate: float = 0.02

    def images(self, there: int) -> int:
        """Return how many images run forward and back through every block, of so many calibration images."""
        return self.steps * min(self.batch, there)

    @classmethod
    def within(cls, steps: int, images: int) -> Descent:
        """Return so many steps, or fewer: forward and back, they cost at most eight dense passes over so many images.

        Where more steps are asked for than `FINISH_STEPS`, they may cost as much more.
        """
        return cls(min(steps, math.ceil(2.5 * images / cls.batch * max(1.0, steps / FINISH_STEPS))))


def refit_blocks(plan: Plan, refits: Sequential, descent: Descent) -> None:
    """Refit block by block: each layer in closed form, then all of the block together.

    Args:
        plan: The dense network's plan.
        refits: The refits, not begun; what is fitted is then there.
        descent: How blocks are trained.
    """
    pruned = dense = as_inputs(refits.statistics.images).tensors
    count = len(refits.statistics.images)
    for block in plan.blocks:
        with torch.no_grad():
            parts = [slice(start, start + CHUNK) for start in range(0, count, CHUNK)]
            targets = [plan.run_block(block, _some(dense, part), as_it_is) for part in parts]
            target = tuple(torch.cat(column) for column in zip(*targets, strict=True))
            result = plan.run_block(block, pruned, refits.fit)
        if refits.input_pruned:
            result = _better(plan, block, pruned, target, result, refits, descent)
        pruned, dense = result, target


Values = tuple[Tensor, ...]
"""What goes into a block or comes out of it, each of shape (N, ...)."""


def _some(values: Values, items: slice) -> Values:
    """Return some of the items of each value."""
    return tuple(value[items] if value.dim() else value for value in values)


def _better(
    plan: Plan,
    block: Block,
    inputs: Values,
    target: Values,
    result: Values,
    refits: Sequential,
    descent: Descent,
) -> Values:
    """Train the block, and return what it then computes.

    Where that is no nearer to the target on images that the training did not see, the closed form stays.
    """
    before = dict(refits.weights), dict(refits.biases)
    count = len(refits.statistics.images)
    distance = _Distance(plan, block, target, refits)
    seen = count - max(1, count // HELD_OUT)
    held_out = _some(target, slice(seen, None))
    with torch.no_grad():
        least = float(distance(_some(result, slice(seen, None)), held_out))
    some = slice(max(1, seen))
    _descend(plan, block, _some(inputs, some), _some(target, some), distance, refits, descent)
    with torch.no_grad():
        result = plan.run_block(block, inputs, refits.recompute_statistics)
        if not float(distance(_some(result, slice(seen, None)), held_out)) <= least:  # or is NaN
            refits.weights, refits.biases = before
            result = plan.run_block(block, inputs, refits.recompute_statistics)
    return result


class _Distance:
    """Mean square of what is between two results of a block, over the channels that stay.

    Of several values each is measured by the target's own variance.
    """

    def __init__(self, plan: Plan, block: Block, target: Values, refits: Sequential) -> None:
        self._values: list[tuple[int, int, Tensor | None, float]] = []
        for number in block.made:
            node, value = block.results[number], target[number]
            if not value.is_floating_point():
                continue
            channels = None if node in plan.outputs else plan.graph.channels.get(node.name)
            axis, places = 0, None
            if channels is not None:
                stays = refits.stays(channels.group, channels.unit)
                if len(stays) < len(channels.group):
                    axis, places = channels.dim, torch.from_numpy(stays).to(value.device)
            scale = 1.0 if len(block.made) == 1 else float(value.var(unbiased=False).clamp(min=1e-12))
            self._values.append((number, axis, places, scale))

    def __call__(self, found: Values, target: Values) -> Tensor:
        total: Tensor | None = None
        for number, axis, places, scale in self._values:
            pair = found[number], target[number]
            if places is not None:
                pair = pair[0], pair[1].index_select(axis, places)
                if pair[0].shape != pair[1].shape:  # what goes is still there
                    pair = pair[0].index_select(axis, places), pair[1]
            one = F.mse_loss(*pair)
            one = one if scale == 1.0 else one / scale
            total = one if total is None else total + one
        return torch.zeros(()) if total is None else total


def _descend(
    plan: Plan,
    block: Block,
    inputs: Values,
    target: Values,
    distance: _Distance,
    refits: Sequential,
    descent: Descent,
) -> None:
    """Train the block's fitted layers towards the target."""
    layers = [step.layer for step in plan.steps[slice(*block.steps)] if isinstance(step, Affine)]
    groups, rates = [], []
    for layer in layers:
        if layer.name not in refits.weights:
            continue
        weight, bias = refits.weights[layer.name], refits.biases[layer.name]
        scale = refits.statistics.targets[layer.name].std(dim=0).square().mean().sqrt()
        for values, tensor, size in (
            (refits.weights, weight, weight.square().mean().sqrt()),
            (refits.biases, bias, scale if refits.statistics.folded[layer.name].intercept else None),
        ):
            if size is not None and tensor.numel():
                values[layer.name] = tensor.detach().clone().requires_grad_()
                groups.append({"params": [values[layer.name]], "lr": descent.rate * float(size)})
                rates.append(descent.rate * float(size))
    if not groups:  # nothing of the block was fitted
        return
    optimizer = torch.optim.Adam(groups)
    first = next(value for value in inputs if value.dim())
    apart = max(1, len(first) // descent.batch)  # a step's images are spread over all of them, whatever their order
    at_once = max(1, MOST_STORED_BYTES // max(1, plan.stored_bytes(block)))
    for step in range(descent.steps):
        for group, rate in zip(optimizer.param_groups, rates, strict=True):
            group["lr"] = rate * 0.5 * (1 + math.cos(math.pi * step / descent.steps))
        chosen = range(len(first))[step % apart :: apart]
        optimizer.zero_grad()
        for begin in range(0, len(chosen), at_once):
            some = chosen[begin : begin + at_once]
            items = slice(some.start, some.stop, apart)
            with torch.enable_grad(), SafeGradients():
                batch = tuple(map(like, _some(inputs, items), inputs))
                loss = distance(plan.run_block(block, batch, refits.apply), _some(target, items))
            if not (matters := loss.requires_grad):
                break
            (loss if len(some) == len(chosen) else loss * (len(some) / len(chosen))).backward()  # type: ignore[no-untyped-call]
        if not matters:  # nothing that was fitted matters to what comes out
            break
        optimizer.step()
    for values in (refits.weights, refits.biases):
        values.update({layer.name: values[layer.name].detach() for layer in layers if layer.name in values})


def like(value: Tensor, images: Tensor) -> Tensor:
    """Return the batch laid out in memory as the images are."""
    if images.dim() == 4 and images.is_contiguous(memory_format=torch.channels_last):
        return value.contiguous(memory_format=torch.channels_last)
    return value
