"""What every channel selection must do, as tests to inherit."""

from __future__ import annotations

from itertools import pairwise
from typing import ClassVar

import numpy as np
import torch

from autoprune.select import Consumer, NestedSelection, Selection, SelectionInputs, selections


class SelectionContract:
    """Tests of one channel selection; subclass it in a file pytest collects, and set ``selection``.

    ::

        class TestMine(autoprune.testing.SelectionContract):
            selection = "mine"

    Attributes:
        selection: A registered name. To test a class that is not registered, return an instance from
            ``make_selection`` instead.
        size: Channels of the groups it is asked about.
    """

    selection: ClassVar[str]
    size: ClassVar[int] = 6

    def make_selection(self) -> Selection:
        """Return a new selection."""
        return selections.get(self.selection)()

    def evidence(self, seed: int, *, consumers: int = 1) -> SelectionInputs:
        """Return random evidence: correlated inputs, two of them a channel, and one input of another group."""
        generator = torch.Generator().manual_seed(seed)
        width = 2 * self.size + 1
        unit = torch.cat([torch.arange(self.size).repeat(2), torch.tensor([-1])])
        found = []
        for _ in range(consumers):
            mix = torch.randn(width, width, generator=generator, dtype=torch.float64)
            inputs = torch.randn(200, width, generator=generator, dtype=torch.float64) @ mix
            weight = torch.randn(width, 4, generator=generator, dtype=torch.float64)
            found.append(Consumer(inputs.T @ inputs / len(inputs), weight, unit))
        return SelectionInputs(self.size, tuple(found), torch.rand(self.size, generator=generator, dtype=torch.float64))

    def cases(self) -> list[SelectionInputs]:
        """Return evidence with no consumer (channels that nothing reads linearly), one and two."""
        return [self.evidence(seed, consumers=seed % 3) for seed in range(6)]

    def test_keeps_as_many_channels_as_asked_each_once_ascending(self) -> None:
        """Surgery takes them as they are."""
        for evidence in self.cases():
            for count in range(1, self.size + 1):
                kept = self.make_selection().keep(evidence, count)
                assert len(kept) == count
                assert (np.diff(kept) > 0).all()
                assert 0 <= kept[0] <= kept[-1] < self.size

    def test_same_evidence_same_channels(self) -> None:
        """Else equal policies would score differently, and a resumed run would differ from an uninterrupted one."""
        for evidence in self.cases():
            first, second = (self.make_selection().keep(evidence, self.size // 2) for _ in range(2))
            assert first.tolist() == second.tolist()

    def test_leaves_the_evidence_alone(self) -> None:
        """It is remembered and read again."""
        evidence = self.evidence(1, consumers=2)
        before = [(consumer.gram.clone(), consumer.weight.clone()) for consumer in evidence.consumers]
        self.make_selection().keep(evidence, 2)
        for consumer, (gram, weight) in zip(evidence.consumers, before, strict=True):
            assert torch.equal(consumer.gram, gram)
            assert torch.equal(consumer.weight, weight)

    def test_a_nested_selection_nests(self) -> None:
        """One order serves every count."""
        if isinstance(self.make_selection(), NestedSelection):
            for evidence in self.cases():
                kept = [set(self.make_selection().keep(evidence, count)) for count in range(1, self.size + 1)]
                assert all(small <= large for small, large in pairwise(kept))

    def test_needs_are_known(self) -> None:
        """What is not collected cannot be asked for."""
        assert self.make_selection().needs <= {"weights", "moments"}
