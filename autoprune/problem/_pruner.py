"""From channel counts to small networks: statistics, choice of channels, refit; the third part of a `Problem`."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
from torch import Tensor, nn

from autoprune.decisions import applied, channel_groups, entries_of, network_of, share_lost, standalone
from autoprune.errors import UsageError
from autoprune.graph import Group, IntArray
from autoprune.model_guard import ModelInputs, unchanged
from autoprune.problem._budgeted import Budgeted
from autoprune.problem._probes import probe_others
from autoprune.reconstruct import (
    FINISH_STEPS,
    Backend,
    Choice,
    Descent,
    Plan,
    Refit,
    affordable_rows,
    images_that_fit,
    refit_rows,
)
from autoprune.registry import nearest
from autoprune.select import Selection, selections
from autoprune.surgery import Policy, fast_layout

ScoreKind = Literal["sequential", "cached"]
SCORES: tuple[ScoreKind, ...] = ("sequential", "cached")
TURNS, FINISH_TURNS = 1, 2
"""How often a refit solves for outputs that a rectifier cuts off, in the search and in the end."""
REFIT_ON = 100, 2000
"""Images and positions of a refit in the search: on fewer, scores rank no worse (docs/search.md) and cost a third."""
PROBED = 256
"""Images that `Pruner.sensitivities` looks at; on twice as many the first policies of ResNet-20 are no better."""
SHRINKAGE, DEPTH_TREND = 0.75, 1.0
"""Its power, and the last decision's weight over the first, as a logarithm: weights fitted to whole policies differ less than
those of groups pruned alone, and are smaller at the start, as what goes wrong there is repaired behind it (docs/search.md)."""
CALIBRATION_IMAGES = 400
FINISH_IMAGES = 256, 2048
"""Calibration images of a final reconstruction, at least and at most: as many as there are search images."""
FINISH_BYTES = 2**29
"""What those may take, in bytes, above half of the most: 1,024 images of 224 x 224 pixels instead of 2,048."""
CLOSED_FORM = 0.5
"""Share of those that its closed form is on, which comes before the training on all."""


class Pruner:
    """Makes the small network of a policy: as the search sees it, or as well as it can be made.

    Args:
        budgeted: The network and what is decided.
        images: Calibration images, shape (N, C, H, W), in the order in which they are used; of parts what they get for them.
        select: Which channels of a group stay: a registered name, or ``package.module:name``.
        score: "sequential" refits layer by layer on the pruned network's own inputs; "cached" from the dense
            network's moments alone, cheaper and less like the finished network.
        seed: Seed of the output positions.
        calibration_images: Calibration images of the statistics that the search chooses channels by.
        rows: Sampled output positions per layer in those; None for what a quarter of a dense pass over 2,000 images pays for.
        refit_on: How many of the calibration images, and of their positions, the search's sequential refits see; None for all.
        finish_images: Calibration images of the finished network's refit.
        finish_steps: Steps of gradient descent, all its layers together, after the closed form, see `Descent`; 0 for none.

    Attributes:
        refits: Whether weights are refitted at all, which takes a network that can be run on the calibration images.
        statistics_macs: Multiply-adds of the search's statistics.
        notes: Sentences that the user should read.

    Raises:
        UsageError: for an unknown selection or score.
    """

    @unchanged()
    def __init__(
        self,
        budgeted: Budgeted,
        images: Tensor | ModelInputs,
        *,
        select: str = "obs",
        score: str = "sequential",
        seed: int = 0,
        calibration_images: int = CALIBRATION_IMAGES,
        rows: int | None = None,
        refit_on: tuple[int, int] | None = REFIT_ON,
        finish_images: int = FINISH_IMAGES[1],
        finish_steps: int = FINISH_STEPS,
    ) -> None:
        check_score(score)
        self._score_kind = score
        self._selection = selections.get(select)()
        self._traced = traced = budgeted.traced
        self._model, self._graph, self._device = traced.model, traced.graph, traced.device
        self._decisions, self._cost = budgeted.decided.decisions, budgeted.decided.cost
        self._groups, self._others = channel_groups(self._decisions), standalone(self._decisions)
        self._images, self._seed = images, seed
        self._plan = Plan(self._graph, self._model)
        whole = traced.view(self._model)
        self.refits = self._graph.dynamic_batch and self._plan.computes(whole, images[:5].to(self._device))
        self._rows = rows or affordable_rows(self._graph, 2000)
        self._finish_backend: Backend | None = None
        self._finish_images = finish_images
        self._descent = Descent.within(finish_steps, finish_images) if finish_steps else None
        self.notes: tuple[str, ...] = ()
        if not self.refits:
            self._selection = selections.get("magnitude")()
            calibration_images = self._finish_images = self._graph.layers[0].in_shape[0]
            same_batch = images[: len(traced.inputs)].to(self._device)
            fixed = not self._graph.dynamic_batch or self._plan.computes(whole, same_batch)
            why = (
                "The network was traced for one fixed batch size"
                if fixed
                else "The traced network's answers to calibration images are not the model's own"
            )
            self.notes += (f"{why}, so nothing is refitted and channels are chosen by magnitude.",)
        fit = images_that_fit(self._graph)
        if fit < min(calibration_images, len(images)):
            self.notes += (f"Only {fit} calibration images are used, so that their activations fit into memory.",)
        self.backend = self._make_backend(
            images[:calibration_images], self._selection, self._rows, TURNS, refit_on=refit_on
        )
        self.statistics_macs = self.backend.setup_macs if self.refits else 0.0

    def _make_backend(
        self, images: Tensor | ModelInputs, selection: Selection | Choice, rows: int, turns: int, **others: Any
    ) -> Backend:
        return Backend(
            self._plan,
            self._groups,
            fast_layout(images.to(self._device), self._device),
            selection=selection,
            rows=rows,
            seed=self._seed,
            relu_iterations=turns,
            **others,
        )

    @unchanged()
    def prune(self, counts: Sequence[int]) -> nn.Module:
        """Return the small network of a policy as the search sees it.

        Args:
            counts: Channels to keep, one per decision.
        """
        return self.network(self.as_scored(counts))

    def as_scored(self, counts: Sequence[int]) -> Refit:
        """Return the units and weights of a policy as the search sees it."""
        if not self.refits:
            return self._with_others(counts, self.backend.slice_only)
        cached = self._score_kind == "cached"
        return self._with_others(counts, self.backend.cached if cached else self.backend.sequential)

    def _with_others(self, counts: Sequence[int], refit: Callable[[Sequence[int]], Refit]) -> Refit:
        """Refit what keeps so many channels, and add the units that stay of other decisions, the first ones."""
        levels = {one.name: int(level) for one, level in zip(self._decisions, counts, strict=True)}
        found = refit([levels[group.name] for group in self._groups])
        others = {one.name: np.arange(levels[one.name]) for one in self._others if levels[one.name] < one.size}
        return Refit({**found.kept, **others}, found.tensors)

    def network(self, refit: Refit) -> nn.Module:
        """Return the small network with the units and weights of a refit."""
        return applied(self._model, self._graph, self._decisions, refit.kept, tensors=refit.tensors)

    def best(self, counts: Sequence[int]) -> Refit:
        """Return the final reconstruction of a policy: sequential, on more calibration images and positions, then descent."""
        backend = self._best_backend()
        return self._with_others(counts, backend.sequential if self.refits else backend.slice_only)

    def best_of(self, kept: Mapping[str, IntArray]) -> Refit:
        """Return the final reconstruction of a network that keeps exactly these units, by the decisions' names."""
        backend = self._best_backend()
        if not self.refits:
            return Refit(dict(kept), {})
        names = {one.name for one in self._others}
        found = backend.refit_kept({name: units for name, units in kept.items() if name not in names})
        return Refit(dict(kept), found.tensors)

    def counts_of(self, kept: Mapping[str, IntArray]) -> tuple[int, ...]:
        """Return how much is kept of each decision, given which units, by name; what is left out is whole."""
        return tuple(len(kept[one.name]) if one.name in kept else one.size for one in self._decisions)

    def rebuilt(self, kept: Mapping[str, IntArray], state: Mapping[str, Tensor]) -> nn.Module:
        """Return the small network with these units (by the decisions' names) and weights (else UsageError)."""
        there = [one for one in (*self._graph.groups, *self._others) if one.name in kept]
        return network_of(self._model, self._graph, Policy(entries_of(there, kept)), state).eval()

    def _best_backend(self) -> Backend:
        if self._finish_backend is None:
            images, choice = self._images[: self._finish_images], self.backend.choice
            images = fast_layout(images.to(self._device), self._device)
            some = images if self._descent is None else images[: max(FINISH_IMAGES[0], int(CLOSED_FORM * len(images)))]
            rows = refit_rows(self._graph, len(some), relu_iterations=FINISH_TURNS)
            self._finish_backend = self._make_backend(
                some, choice, rows, FINISH_TURNS, descent=self._descent, train_on=images
            )
        return self._finish_backend

    def macs(self, counts: Sequence[int], *, finish: bool = False) -> tuple[float, float]:
        """Return the multiply-adds of a policy's refit, and of its descent.

        Args:
            counts: Channels to keep, one per decision.
            finish: Whether it is the final reconstruction.
        """
        if not self.refits:
            return 0.0, 0.0
        backend = self._best_backend() if finish else self.backend
        widths = [inputs(counts) for _, inputs, _ in self._cost.layer_forms]
        refit = backend.refit_macs(widths, forward=finish or self._score_kind == "sequential")
        trained = self._cost.dense_macs + 3 * self._cost.macs(counts)  # forward, and back to inputs and weights
        return refit, backend.descent_images * trained

    def errors(self) -> list[npt.NDArray[np.float64]] | None:
        """Return the error of every decision's consumers, once refitted, for each count kept; see `Problem.errors`."""
        if not self.refits:
            return None
        return [self.backend.errors(one) if isinstance(one, Group) else share_lost(one) for one in self._decisions]

    @unchanged()
    def sensitivities(
        self, images: Tensor | ModelInputs | None, most: int | None
    ) -> tuple[npt.NDArray[np.float64], float] | None:
        """Return how much a unit of `errors` matters in every decision; see `Problem.sensitivities`.

        Args:
            images: Images to look at, shape (N, C, H, W); None for calibration images.
            most: What may be computed, in images through the dense network; None for as many as there are calibration images.
        """
        if not self.refits:
            return None
        given = self._images[-PROBED:] if images is None or self._traced.part else images
        looked_at, most = fast_layout(given.to(self._device), self._device), most or len(self._images)
        alone, spent = probe_others(self._traced.view(self._model), self._others, looked_at, most=most / 4)
        probed = self.backend.probe(looked_at, most=most - spent) if self._groups else None
        if probed is None and self._groups:
            return None
        if probed is not None:
            errors, seen = probed
            found = np.where(errors > 0, seen.divergences / np.maximum(errors, 1e-9), 0.0)
            alone.update(zip((group.name for group in self._groups), found.tolist(), strict=True))
            spent += seen.images
        weights = np.array([alone[one.name] for one in self._decisions])
        return weights**SHRINKAGE * np.exp(DEPTH_TREND * np.linspace(-0.5, 0.5, len(weights))), spent


def check_score(score: str) -> None:
    """Refuse a way to score that there is not.

    Raises:
        UsageError: with the nearest name.
    """
    if score not in SCORES:
        raise UsageError(f"Unknown score '{score}'.{nearest(score, list(SCORES))} Known: {', '.join(SCORES)}.")
