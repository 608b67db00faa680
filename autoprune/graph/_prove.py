"""The proof: removing a group's channels from the real module equals zeroing what consumes them in the dense one.

All groups are proved at once; only when that fails are they told apart, by bisection. The proof runs on a copy of the user's
own model whose norms are randomised, on at least two images, and removes channels on which the output measurably depends, with
others; down to a single one in every group. Where the forward asks how many there are, all numbers are tried.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from autoprune.errors import AutopruneError
from autoprune.graph._execute import input_nodes
from autoprune.graph._interpret import Masking, interpret, placeholder_names, placeholder_values
from autoprune.graph._output_shapes import check_shapes
from autoprune.graph._randomise import randomised
from autoprune.graph._record import output_tensors
from autoprune.graph._rounds import MOST_COUNTS, Removed, Rounds
from autoprune.graph._trace import at_least_two
from autoprune.graph._watch import depends, questions
from autoprune.groups import Group, IntArray, PruningGraph, Refusal
from autoprune.model_guard import ModelInputs, check_inputs, unchanged
from autoprune.surgery import copy_model, folded, prune_model

FloatArray = npt.NDArray[np.float64]

_log = logging.getLogger(__name__)

CHEAP_MACS = 3_000_000_000
CHEAP_PARAMS = 40_000_000
"""Up to this many MACs an image, and parameters, the proof runs in double precision on a CPU."""

COUNT_MACS = 200_000_000_000
"""About how many multiply-adds are spent on trying numbers of channels where the forward asks for them."""

FIXED = "the forward pass fails without some of them, so their number is fixed in the code"
VACUOUS = "the network's output does not depend on them, so nothing can be proved"


class _DifferentError(AutopruneError):
    """The program does not compute what the model does."""


@dataclass(frozen=True)
class _Variant:
    """What the proof changes so that every channel matters: the images, the norms and small weights."""

    images: bool
    weights: bool


_VARIANTS = (_Variant(True, True), _Variant(False, True), _Variant(False, False))
"""A recorded path may be left when the images or the weights are changed: then it is proved with less of that."""


@dataclass(frozen=True)
class _Precision:
    dtype: torch.dtype
    tolerance: float  # of the difference's norm, relative to the output's
    sensitivity: float  # relative change of the output per unit, below which a channel counts as dead


_DOUBLE = _Precision(torch.float64, 1e-8, 1e-6)
_SINGLE = _Precision(torch.float32, 2e-4, 1e-3)


def _norm(outputs: Sequence[Tensor]) -> float:
    return math.sqrt(sum(float(out.double().square().sum()) for out in outputs))


def _distance(left: Sequence[Tensor], right: Sequence[Tensor]) -> float:
    """Return the relative distance of two lists of outputs; infinite where their shapes differ or a value is not finite."""
    if len(left) != len(right) or any(a.shape != b.shape for a, b in zip(left, right, strict=True)):
        return float("inf")
    distance = _norm([a.double().cpu() - b.double().cpu() for a, b in zip(left, right, strict=True)])
    scale = _norm([b.cpu() for b in right])
    return distance / scale if np.isfinite(distance) and np.isfinite(scale) and scale > 0 else float("inf")


def _both_finite(left: Sequence[Tensor], right: Sequence[Tensor]) -> tuple[list[Tensor], list[Tensor]]:
    """Return two lists of outputs without what is not finite in both of them, as the deviation of a single channel."""
    finite = [a.shape != b.shape or a.isfinite() | b.isfinite() for a, b in zip(left, right, strict=False)]
    if len(left) != len(right) or all(bool(torch.as_tensor(places).all()) for places in finite):
        return list(left), list(right)
    both = [
        (a, b) if isinstance(places, bool) else (a.where(places, 0), b.where(places, 0))
        for a, b, places in zip(left, right, finite, strict=True)
    ]
    return [a for a, _ in both], [b for _, b in both]


def _difference(model: nn.Module, distance: float) -> str:
    """Return what to say of a program that does not compute what the model does."""
    for path, module in model.named_modules():
        if any("fake_quantize" in kind.__module__ for kind in type(module).__mro__):
            return (
                f"The module '{path}' ({type(module).__name__}) rounds to a scale that it takes from what it last saw, so "
                "nothing can be proved; prune the model before it is prepared for quantisation, or switch its observers and "
                "rounding off."
            )
    return (
        f"The traced program differs from the model by {distance:.1e} of the output, so its channels cannot be told; "
        "make the forward independent of the input's values and of random numbers."
    )


def _first_line(error: BaseException) -> str:
    return next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__).rstrip(".")


class _Proof:
    def __init__(
        self,
        model: nn.Module,
        graph: PruningGraph,
        inputs: ModelInputs,
        precision: _Precision,
        generator: torch.Generator,
        variant: _Variant,
    ) -> None:
        self.graph = graph
        self.precision = precision
        self.generator = generator
        self.inputs = inputs.map(self.varied(variant))
        self.like = torch.zeros((), dtype=precision.dtype, device=inputs.device)
        self.candidates = tuple(group for group in graph.groups if group.reason is None)
        self.model = copy_model(model).to(precision.dtype).eval()
        if variant.weights:
            randomised(self.model, self.inputs, generator)
        self.masking = Masking(graph, self.candidates, placeholder_names(graph, model))
        self.values = placeholder_values(graph, self.model, self.inputs, precision.dtype)
        with torch.no_grad():
            self.dense = output_tensors(self.inputs.call(self.model))
            distance = _distance(interpret(graph, self.values, self.masking, None), self.dense)
        if not distance <= precision.tolerance:
            raise _DifferentError(_difference(model, distance))

    def varied(self, variant: _Variant) -> Callable[[Tensor], Tensor]:
        """Return what changes the tensors of the inputs: noise, but whole numbers may be those of tokens."""

        def vary(tensor: Tensor) -> Tensor:
            if not tensor.is_floating_point():
                return tensor
            noise = torch.randn(tensor.shape, generator=self.generator, dtype=torch.float64) * variant.images
            return (tensor.double().cpu() + noise).to(tensor.device, self.precision.dtype)

        return vary

    def sensitivity(self) -> FloatArray:
        """Return how much the output changes relative to itself when a unit is scaled, one number per unit."""
        mask = self.masking.ones(self.like).requires_grad_()
        with torch.enable_grad():
            try:
                outputs = [out for out in interpret(self.graph, self.values, self.masking, mask) if out.requires_grad]
            except RuntimeError as error:  # the forward cannot be differentiated
                _log.debug("No gradient for the proof: %s", error)
                outputs = []
            if not outputs:
                return np.zeros(self.masking.count)
            # A random direction in the space of outputs: a unit that changes any of them changes this sum.
            loss = sum(
                (out * torch.randn(out.shape, generator=self.generator, dtype=torch.float64).to(out)).sum()
                for out in outputs
            )
            (gradient,) = torch.autograd.grad(loss, mask)  # type: ignore[arg-type]
        scale = _norm([out.detach().cpu() for out in outputs])
        found: FloatArray = gradient[:-1].abs().double().cpu().numpy() / max(scale, 1e-300)
        found[~np.isfinite(found)] = 0
        return found

    def live(self, sensitivity: FloatArray, group: Group) -> IntArray:
        start = int(self.masking.offset[group.index])
        return np.flatnonzero(sensitivity[start : start + group.size] > self.precision.sensitivity)

    def matters(self, group: Group) -> bool:
        """Return whether the output changes without half of a group's channels, where no gradient says so."""
        removed = {group.index: np.arange(0, group.size, 2)}
        with torch.no_grad():
            halved = interpret(self.graph, self.values, self.masking, self.masking.mask(self.like, removed))
        return _distance(halved, self.dense) > 100 * self.precision.tolerance

    def kept(self, removed: Removed) -> dict[str, IntArray]:
        """Return what is left, by the groups' names."""
        return {
            group.name: np.setdiff1d(np.arange(group.size), removed[group.index])
            for group in self.candidates
            if group.index in removed
        }

    def failure(self, removed: dict[int, IntArray]) -> str | None:
        """Remove units from the real module and compare; return what went wrong, or None."""
        with torch.no_grad():
            try:
                outputs = output_tensors(
                    self.inputs.call(prune_model(self.model, self.graph, self.kept(removed)).eval())
                )
            except Exception as error:
                return f"{FIXED} ({_first_line(error)})"
            expected = interpret(self.graph, self.values, self.masking, self.masking.mask(self.like, removed))
        outputs, expected = _both_finite(outputs, expected)
        distance = _distance(outputs, expected)
        equal = len(outputs) == len(expected) and all(
            map(torch.equal, outputs, expected)
        )  # zero, behind a dead rectifier
        if distance <= self.precision.tolerance or equal:
            return None
        return f"removing some of them changes the output by {distance:.1e} more than zeroing them does"

    def reason(self, group: int, units: IntArray, found: str) -> str:
        """Return why a group fails: perhaps because the forward goes by how many of its channels there are."""
        if found.startswith(FIXED) or not self.asks([self.kept({group: units})])[0]:
            return found
        size = self.graph.groups[group].size
        return (
            f"the forward pass asks for their number and does something else with {size - len(units)} of these {size} channels "
            f"({found})"
        )

    def sieve(self, removed: dict[int, IntArray]) -> dict[int, str]:
        """Return the groups that cannot be removed together with the others, and why."""
        proved: dict[int, IntArray] = {}
        failed: dict[int, str] = {}

        def add(candidates: list[int]) -> None:
            reason = self.failure({**proved, **{index: removed[index] for index in candidates}})
            if reason is None:
                proved.update({index: removed[index] for index in candidates})
            elif len(candidates) == 1:
                failed[candidates[0]] = self.reason(candidates[0], removed[candidates[0]], reason)
            else:
                half = len(candidates) // 2
                add(candidates[:half])
                add(candidates[half:])

        if removed:
            add(list(removed))
        return failed

    def run(self) -> dict[int, str]:
        """Return the groups that fail the proof, and why."""
        if not self.candidates:
            return {}
        sensitivity = self.sensitivity()
        failed: dict[int, str] = {}
        live: dict[int, IntArray] = {}
        for group in self.candidates:
            found = self.live(sensitivity, group)
            if not found.size and self.matters(group):
                found = np.arange(group.size)
            if found.size:
                live[group.index] = found
            else:
                failed[group.index] = VACUOUS
        self.tried(live, failed, lambda rounds: rounds.standard())
        first, second = [self.kept(removed) for removed in self.rounds(live, failed).mixed(2)]
        asks, constants = self.asks([first, second])
        if asks:
            dense = max(1, sum(layer.macs for layer in self.graph.layers))
            most = int(np.clip(COUNT_MACS // (4 * dense), 8, MOST_COUNTS))
            self.tried(live, failed, lambda rounds: rounds.alone())
            self.tried(live, failed, lambda rounds: rounds.counted(constants, most))
        return failed

    def tried(
        self, live: dict[int, IntArray], failed: dict[int, str], draw: Callable[[Rounds], Iterator[Removed]]
    ) -> None:
        """Go through rounds, without the groups that fail, which are added to ``failed``."""
        for removed in draw(self.rounds(live, failed)):
            left = {index: units for index, units in removed.items() if index not in failed}
            failed.update(self.sieve(left))

    def rounds(self, live: dict[int, IntArray], failed: Mapping[int, str]) -> Rounds:
        groups = [group for group in self.candidates if group.index in live and group.index not in failed]
        return Rounds(groups, live, self.generator)

    def asks(self, policies: Sequence[Mapping[str, IntArray]]) -> tuple[bool, set[int]]:
        """Return whether the forward asks how many channels there are, and what it compares that with; see `_watch`.

        Args:
            policies: What is left in the pruned networks that are compared with the whole one.
        """
        runs = []
        with torch.no_grad():
            for own, other in ({}, policies[0]), *((policy, {}) for policy in policies):
                model = prune_model(self.model, self.graph, own).eval()
                try:
                    asked = questions(model, prune_model(self.model, self.graph, other), self.inputs.call)
                except Exception as error:  # of numbers that are not quite the usual ones, or fixed ones
                    _log.debug("What the forward asks cannot be seen: %s", error)
                    return True, set()
                runs.append(asked)
        return depends(runs)


def _attempt(
    model: nn.Module, graph: PruningGraph, inputs: ModelInputs, precision: _Precision, generator: torch.Generator
) -> dict[int, str]:
    *others, last = _VARIANTS[:1] if graph.assumption is None else _VARIANTS
    for variant in others:
        try:
            return _Proof(model, graph, inputs, precision, generator, variant).run()
        except (_DifferentError, RuntimeError, TypeError) as error:
            _log.debug("The recorded path is left: %s", error)
    return _Proof(model, graph, inputs, precision, generator, last).run()


def prove(
    model: nn.Module, graph: PruningGraph, example_input: Any, *, generator: torch.Generator | None = None
) -> PruningGraph:
    """Prove every prunable group on the user's own model and freeze those that fail.

    Args:
        model: The model the graph was built from; it is not changed.
        graph: Its coupling graph.
        example_input: A batch of at least one, see `autoprune.model_guard.as_inputs`.
        generator: Source of the random numbers (on the CPU); seeded with 0 if left out.

    Returns:
        The graph with ``proved`` set; groups that fail have a ``reason``.

    Raises:
        AutopruneError: if the traced program does not compute what the model does.
    """
    model = folded(model, graph.folded)
    generator = generator if generator is not None else torch.Generator().manual_seed(0)
    with unchanged(model):
        return _proved(model, graph, check_inputs(example_input, model), generator)


def _proved(model: nn.Module, graph: PruningGraph, example: ModelInputs, generator: torch.Generator) -> PruningGraph:
    inputs = at_least_two(example) if graph.dynamic_batch else _traced_batch(graph, example)
    cheap = inputs.device.type == "cuda" or (
        sum(layer.macs for layer in graph.layers) <= CHEAP_MACS
        and sum(parameter.numel() for parameter in model.parameters()) <= CHEAP_PARAMS
    )
    if graph.assumption is not None:
        check_shapes(model, inputs)
    failed: dict[int, str] | None = None
    if cheap:
        try:
            failed = _attempt(model, graph, inputs, _DOUBLE, generator)
        except (RuntimeError, TypeError, _DifferentError) as error:  # a dtype written into the forward, or a constant's
            _log.debug("The proof does not run in double precision: %s", error)
    if failed is None:
        try:
            failed = _attempt(model, graph, inputs, _SINGLE, generator)
        except (RuntimeError, TypeError) as error:
            raise AutopruneError(
                f"The model does not run on a randomised copy of itself ({_first_line(error)}), so nothing can be proved; "
                "check that it can be deep-copied and runs in single precision."
            ) from error
    groups = tuple(replace(group, reason=failed.get(group.index, group.reason)) for group in graph.groups)
    refusals = tuple(Refusal(graph.groups[index].name, reason) for index, reason in failed.items())
    return replace(graph, groups=groups, refusals=graph.refusals + refusals, proved=True)


def _traced_batch(graph: PruningGraph, example: ModelInputs) -> ModelInputs:
    sizes = [node.meta["val"].shape for node in input_nodes(graph.program)]
    batch = next(int(size[0]) for size in sizes if size)
    return at_least_two(example) if batch == 2 and len(example) != 2 else example[:batch]
