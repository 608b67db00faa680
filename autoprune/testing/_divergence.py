"""What every divergence must do, as tests to inherit."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor

from autoprune.evaluation import Divergence, DivergenceFn, divergences, outputs_of


class DivergenceContract:
    """Tests of one divergence; subclass it in a file pytest collects, and set ``divergence``.

    ::

        class TestMine(autoprune.testing.DivergenceContract):
            divergence = "my_package.divergences:my_divergence"

    Attributes:
        divergence: A registered name or ``package.module:function``. To test a function itself, return it from
            ``make_divergence`` instead.
        shapes: Shapes of outputs that it compares.
        grows: Whether outputs twice as far away must be more than as far.
    """

    divergence: ClassVar[str]
    shapes: ClassVar[tuple[tuple[int, ...], ...]] = ((6, 5), (6, 3, 4, 4))
    grows: ClassVar[bool] = True

    def make_divergence(self) -> DivergenceFn:
        """Return the divergence."""
        return divergences.get(self.divergence)

    def value(self, found: Tensor, reference: Tensor) -> Tensor:
        """Return the divergence as a search asks for it; it refuses what has not one number for each image."""
        like = outputs_of(reference, len(reference))
        variance = float(reference.double().var(correction=0))
        return Divergence(self.make_divergence(), like)([found], [reference], [variance])

    def pairs(self) -> list[tuple[Tensor, Tensor]]:
        """Return outputs and what they should be."""
        generator = torch.Generator().manual_seed(0)
        reference = [torch.randn(shape, generator=generator) for shape in self.shapes]
        return [(some + 0.3 * torch.randn(some.shape, generator=generator), some) for some in reference]

    def test_equal_outputs_are_not_apart(self) -> None:
        """But for rounding."""
        for _, reference in self.pairs():
            assert float(self.value(reference.clone(), reference).abs().max()) <= 1e-5

    def test_other_outputs_are_apart(self) -> None:
        """A finite number above 0 for each image."""
        for found, reference in self.pairs():
            value = self.value(found, reference)
            assert bool(torch.isfinite(value).all())
            assert bool((value > 0).all())

    def test_what_is_further_away_is_worth_more(self) -> None:
        """Twice as far in the same direction, on average over images."""
        if self.grows:
            for found, reference in self.pairs():
                further = reference + 2 * (found - reference)
                assert float(self.value(further, reference).mean()) > float(self.value(found, reference).mean())

    def test_an_image_counts_by_itself(self) -> None:
        """Whatever else is in the batch, and in which order: else scores would depend on the batch size."""
        for found, reference in self.pairs():
            variance = float(reference.double().var(correction=0))
            apart = Divergence(self.make_divergence(), outputs_of(reference, len(reference)))
            whole = apart([found], [reference], [variance])
            order = torch.arange(len(found) - 1, -1, -1)
            assert torch.allclose(apart([found[order]], [reference[order]], [variance]), whole[order], atol=1e-6)
            for place in range(len(found)):
                alone = slice(place, place + 1)
                assert torch.allclose(apart([found[alone]], [reference[alone]], [variance]), whole[alone], atol=1e-6)

    def test_outputs_are_left_as_they_were(self) -> None:
        """Those of the dense network are compared with again and again."""
        for found, reference in self.pairs():
            before = found.clone(), reference.clone()
            self.value(found, reference)
            assert torch.equal(found, before[0])
            assert torch.equal(reference, before[1])
