"""Reconstruction of the whole network: what its blocks compute, not what each of its layers does.

A layer fitted to its own dense output does not know what those behind it could make up for, nor does a block. So after the closed
form all layers are trained together, by gradient descent on the squared distances between what comes out of every block
(`Plan.blocks`) in the pruned network and in the dense one. Features of all blocks say much more about an image than its class
scores do, so that few images and steps are enough (Romero et al., "FitNets", ICLR 2015; block by block: Li et al., "BRECQ", ICLR
2021). Calibration images only, no labels.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from autoprune.model_guard import ModelInputs, SafeGradients, as_inputs
from autoprune.reconstruct._layers import run_layer
from autoprune.reconstruct._plan import Dense, Plan
from autoprune.reconstruct._sequential import Sequential
from autoprune.reconstruct._steps import Affine, Block

HELD_OUT = 8
"""One in so many images is held out of the training: on those it is checked whether the network became better."""
CHUNK = 256
"""Held-out images at a time."""
MOST_STORED_BYTES = 2**30
"""Of the network's values that a step keeps for its gradients, in bytes. Where a step's images take more, their gradients are
added up over fewer at a time, one at least."""
FINISH_STEPS = 320
"""Steps of the final reconstruction: more, smaller ones are worth more than few large ones (docs/search.md)."""
FINISHES = {"fast": 0, "normal": FINISH_STEPS, "best": 5 * FINISH_STEPS}
"""Steps by one word: the closed form alone, the default, and about four times its cost (docs/search.md)."""
BIAS = 0.1
"""Step of a bias, in steps of weights."""


@dataclass(frozen=True)
class Descent:
    """How a network is trained: Adam (Kingma & Ba, ICLR 2015) with a step that falls as a cosine.

    Attributes:
        steps: Steps.
        batch: Images of a step.
        rate: First step, in root mean squares of a layer's weights (for its bias: a tenth, of its outputs' deviations).
    """

    steps: int
    batch: int = 8
    rate: float = 0.02

    def images(self, there: int) -> int:
        """Return how many images run forward and back through the network, of so many calibration images."""
        return self.steps * min(self.batch, there)

    @classmethod
    def within(cls, steps: int, images: int) -> Descent:
        """Return so many steps, or fewer: each of so many images is seen two and a half times at most.

        Where more steps are asked for than `FINISH_STEPS`, so much more often, and 16 images a step.
        """
        batch = cls.batch if steps <= FINISH_STEPS else 2 * cls.batch
        return cls(min(steps, math.ceil(2.5 * images / batch * max(1.0, steps / FINISH_STEPS))), batch)


def refit_blocks(plan: Plan, refits: Sequential, images: Tensor | ModelInputs, descent: Descent) -> None:
    """Refit a network: each layer in closed form, then all together, then class scores once more.

    Where the blocks are no nearer to the dense network's on images that neither saw, the closed form stays.

    Args:
        plan: The dense network's plan, which has blocks.
        refits: The refits, not begun; what is fitted is then there.
        images: Calibration images to train on, each tensor (N, ...).
        descent: How.
    """
    plan.run(refits.statistics.images, refits.fit)
    if not refits.weights:  # nothing was lost that a layer reads, or none of those that read it may be refitted
        return
    inputs = as_inputs(images).tensors
    count = len(images)
    seen = max(1, count - max(1, count // HELD_OUT))
    training = _Training(plan, refits, _some(inputs, slice(seen, None) if seen < count else slice(None)))
    before, least = dict(refits.tensors), training.distance()
    training.run(_some(inputs, slice(seen)), descent)
    if not training.distance() <= least:  # or is NaN
        refits.tensors = before
        return

    def visit(step: Affine, value: Tensor, other: Tensor | None, dense: Dense) -> Tensor:
        again = step.layer.name in training.solved
        return (refits.fit if again else refits.recompute_statistics)(step, value, other, dense)

    plan.run(refits.statistics.images, visit)


Values = tuple[Tensor, ...]
"""What goes into a block or comes out of it, each of shape (N, ...)."""


def _some(values: Values, items: slice) -> Values:
    """Return some of the items of each value."""
    return tuple(value[items] if value.dim() else value for value in values)


class _Training:
    """Layers of a pruned network, trained towards what the blocks of the dense one compute.

    Args:
        plan: The dense network's plan.
        refits: What was fitted in closed form.
        held_out: Images that are not trained on, each tensor (N, ...).

    Attributes:
        solved: Names of the layers that make class scores of the last block's features, which are solved for in closed form when
            those are trained: so few numbers an image say less than they add noise.
    """

    def __init__(self, plan: Plan, refits: Sequential, held_out: Values) -> None:
        self._plan, self._refits, self._held_out = plan, refits, held_out
        layers = [
            [step for step in plan.steps[slice(*block.steps)] if isinstance(step, Affine)] for block in plan.blocks
        ]
        first = next(at for at, steps in enumerate(layers) if any(step.layer.name in refits.weights for step in steps))
        last = len(layers) - 1
        scores = last > first and len(plan.outputs) == 1 and plan.outputs[0].meta["val"].dim() == 2
        alone = scores and len([step for step in layers[last] if step.refit]) == 1
        self._dense, self._blocks = plan.blocks[:first], plan.blocks[first : last if alone else last + 1]
        self.solved = frozenset(step.layer.name for step in layers[last]) if alone else frozenset[str]()
        trained = [
            step.layer.name for steps in layers[first : first + len(self._blocks)] for step in steps if step.refit
        ]
        for name in trained:  # those before the first that lost inputs, too
            folded = refits.statistics.folded[name]
            refits.weights.setdefault(name, folded.weight)
            refits.biases.setdefault(name, folded.bias)
        self._trained = trained
        self._distances: list[_Distance] = []
        with torch.no_grad():
            for block, _, target in self._targets(_some(held_out, slice(CHUNK))):
                self._distances.append(_Distance(plan, block, target, refits))

    def _targets(self, inputs: Values) -> Iterator[tuple[Block, Values, Values]]:
        """Yield each block that is trained, with what goes into it and what comes out in the dense network."""
        folded = self._refits.statistics.folded

        def visit(step: Affine, value: Tensor, _other: Tensor | None, dense: Dense) -> Tensor:
            own = folded.get(step.layer.name)
            return dense(value) if own is None else run_layer(step.layer, value, own.weight, own.bias)

        for block in self._dense:
            inputs = self._plan.run_block(block, inputs, visit)
        for block in self._blocks:
            outputs = self._plan.run_block(block, inputs, visit)
            yield block, inputs, outputs
            inputs = outputs

    def _loss(self, targets: Sequence[tuple[Block, Values, Values]]) -> Tensor:
        """Return the sum of the blocks' distances from targets, with gradients where they are enabled."""
        found = targets[0][1]
        total = torch.zeros((), device=found[0].device)
        for (block, _, target), distance in zip(targets, self._distances, strict=True):
            found = self._plan.run_block(block, found, self._refits.apply)
            total = total + distance(found, target)
        return total

    @torch.no_grad()
    def distance(self) -> float:
        """Return the sum of the blocks' distances on the held-out images."""
        count = len(next(value for value in self._held_out if value.dim()))
        parts = [slice(start, min(start + CHUNK, count)) for start in range(0, count, CHUNK)]
        losses = [float(self._loss([*self._targets(_some(self._held_out, part))])) for part in parts]
        return sum(loss * (part.stop - part.start) for loss, part in zip(losses, parts, strict=True)) / count

    def run(self, inputs: Values, descent: Descent) -> None:
        """Train on images, each tensor (N, ...); what is then fitted is in the refits."""
        layers = _Flat(self._refits, self._trained)
        optimizer = torch.optim.Adam([layers.values], lr=descent.rate)
        first = next(value for value in inputs if value.dim())
        count, batch = len(first), min(descent.batch, len(first))
        stored = sum(map(self._plan.stored_bytes, self._blocks))
        at_once = max(1, MOST_STORED_BYTES // max(1, stored))
        order = torch.arange(descent.steps * batch, device=first.device).reshape(descent.steps, batch) % count
        for step, chosen in enumerate(order):
            optimizer.param_groups[0]["lr"] = descent.rate * 0.5 * (1 + math.cos(math.pi * step / descent.steps))
            optimizer.zero_grad()
            for some in torch.split(chosen, at_once):
                images = tuple(like(value[some] if value.dim() else value, value) for value in inputs)
                with torch.no_grad():
                    targets = [*self._targets(images)]
                with torch.enable_grad(), SafeGradients():
                    layers.place()
                    loss = self._loss(targets) * (len(some) / batch)
                if not loss.requires_grad:  # nothing that is trained matters to what comes out
                    break
                loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
        with torch.no_grad():
            layers.place()


class _Flat:
    """Weights and biases of some layers as one vector, each in units of its own size.

    Args:
        refits: Where they are.
        names: The layers' names.

    Attributes:
        values: The vector, which takes gradients.
    """

    def __init__(self, refits: Sequential, names: list[str]) -> None:
        self._parts: list[tuple[dict[str, Tensor], str, Tensor]] = []
        vectors, sizes = list[Tensor](), list[Tensor]()
        for name in names:
            weight, statistics = refits.weights[name], refits.statistics
            deviation = statistics.targets[name].std(dim=0).square().mean().sqrt()
            units = [(refits.weights, weight.square().mean().sqrt())]
            if statistics.folded[name].intercept:
                units.append((refits.biases, BIAS * deviation))
            for values, unit in units:
                if (tensor := values[name]).numel():
                    size = unit.clamp(min=1e-12).expand(tensor.numel())
                    self._parts.append((values, name, tensor.detach()))
                    vectors.append(tensor.detach().flatten() / size)
                    sizes.append(size)
        self._sizes = torch.cat(sizes)
        self._lengths = [len(vector) for vector in vectors]
        self.values = torch.cat(vectors).requires_grad_()

    def place(self) -> None:
        """Put what is in the vector where it came from, with gradients where they are enabled."""
        parts = torch.split(self.values * self._sizes, self._lengths)
        for (values, name, before), part in zip(self._parts, parts, strict=True):
            values[name] = part.reshape(before.shape).to(before.dtype)


class _Distance:
    """Mean square of what is between two results of a block over the target's variance, of the channels that stay."""

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
            scale = float(value.var(unbiased=False).clamp(min=1e-12))
            self._values.append((number, axis, places, scale))

    def __call__(self, found: Values, target: Values) -> Tensor:
        total: Tensor | None = None
        for number, axis, places, scale in self._values:
            pair = found[number], target[number]
            if places is not None:
                pair = pair[0], pair[1].index_select(axis, places)
                if pair[0].shape != pair[1].shape:  # what goes is still there
                    pair = pair[0].index_select(axis, places), pair[1]
            one = F.mse_loss(*pair) / scale
            total = one if total is None else total + one
        return torch.zeros(()) if total is None else total


def like(value: Tensor, images: Tensor) -> Tensor:
    """Return the batch laid out in memory as the images are."""
    if images.dim() == 4 and images.is_contiguous(memory_format=torch.channels_last):
        return value.contiguous(memory_format=torch.channels_last)
    return value
