"""What every channel selection must do, as tests to inherit."""

from __future__ import annotations

from itertools import pairwise
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from autoprune.select import (
    Activations,
    Consumer,
    NestedSelection,
    NormParameters,
    Selection,
    SelectionInputs,
    input_kinds,
    selections,
)


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

    def inputs(self, seed: int, *, consumers: int = 1) -> SelectionInputs:
        """Return random inputs of every kind that it needs: they are correlated, two a channel, and one is of another group.

        A kind of one's own is added in a subclass::

            def inputs(self, seed: int, *, consumers: int = 1) -> SelectionInputs:
                found = super().inputs(seed, consumers=consumers)
                return SelectionInputs(found.size, {**found.values, "mine": ...})
        """
        generator = torch.Generator().manual_seed(seed)
        width = 2 * self.size + 1
        unit = torch.cat([torch.arange(self.size).repeat(2), torch.tensor([-1])])
        found, samples = [], []
        for _ in range(consumers):
            mix = torch.randn(width, width, generator=generator, dtype=torch.float64)
            rows = torch.randn(200, width, generator=generator, dtype=torch.float64) @ mix
            weight = torch.randn(width, 4, generator=generator, dtype=torch.float64)
            found.append(Consumer(rows.T @ rows / len(rows), weight, unit))
            samples.append(Activations(rows.relu().float(), unit))

        def draw(*shape: int) -> Tensor:
            return torch.rand(shape, generator=generator, dtype=torch.float64)

        known: dict[str, Any] = {
            "magnitude": draw(self.size),
            "moments": tuple(found),
            "activations": tuple(samples),
            "filters": (draw(self.size, 9) - 0.5, draw(self.size, 4) - 0.5),
            "norms": (NormParameters(*(draw(self.size) for _ in range(4))),),
            "gradients": (draw(20, self.size) - 0.5).float(),
        }
        needs = self.make_selection().needs
        return SelectionInputs(self.size, {kind: value for kind, value in known.items() if kind in needs})

    def cases(self) -> list[SelectionInputs]:
        """Return inputs with no consumer (channels that nothing reads linearly), one and two."""
        return [self.inputs(seed, consumers=seed % 3) for seed in range(6)]

    def test_keeps_as_many_channels_as_asked_each_once_ascending(self) -> None:
        """Surgery takes them as they are."""
        for inputs in self.cases():
            for count in range(1, self.size + 1):
                kept = self.make_selection().keep(inputs, count)
                assert len(kept) == count
                assert (np.diff(kept) > 0).all()
                assert 0 <= kept[0] <= kept[-1] < self.size

    def test_same_inputs_same_channels(self) -> None:
        """Else equal policies would score differently, and a resumed run would differ from an uninterrupted one."""
        for inputs in self.cases():
            first, second = (self.make_selection().keep(inputs, self.size // 2) for _ in range(2))
            assert first.tolist() == second.tolist()

    def test_leaves_the_inputs_alone(self) -> None:
        """They are remembered and read again."""
        inputs, before = (self.inputs(1, consumers=2) for _ in range(2))
        self.make_selection().keep(inputs, 2)
        for kind, value in before.values.items():
            for now, then in zip(_tensors(inputs[kind]), _tensors(value), strict=True):
                assert torch.equal(now, then), kind

    def test_a_nested_selection_nests(self) -> None:
        """One order serves every count."""
        if isinstance(self.make_selection(), NestedSelection):
            for inputs in self.cases():
                kept = [set(self.make_selection().keep(inputs, count)) for count in range(1, self.size + 1)]
                assert all(small <= large for small, large in pairwise(kept))

    def test_needs_are_known(self) -> None:
        """What is not collected cannot be asked for."""
        assert self.make_selection().needs <= set(input_kinds)


def _tensors(value: Any) -> list[Tensor]:
    """Return the tensors in an input: itself, its fields, those of its parts."""
    if isinstance(value, Tensor):
        return [value]
    parts = value if isinstance(value, tuple) else vars(value).values()
    return [tensor for part in parts for tensor in _tensors(part)]
