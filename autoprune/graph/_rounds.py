"""Which channels the proof removes, round by round: live and dead ones, down to a single one left in every group."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import torch

from autoprune.graph._types import Group, IntArray

Removed = dict[int, IntArray]
"""Group index -> numbers of the channels that go."""
MIXED = 3
"""How often all groups are removed together; each group loses about half, a single and nearly all of its channels in turn."""
MOST_COUNTS = 64
"""How many numbers of channels are tried of each group where the forward asks for them."""


class Rounds:
    """Draws the channels of every round.

    Args:
        groups: The groups to prove.
        live: For each of them (by index) the channels on which the output measurably depends, at least one.
        generator: Source of the random numbers (on the CPU).
    """

    def __init__(self, groups: Sequence[Group], live: Removed, generator: torch.Generator) -> None:
        self.groups = tuple(groups)
        self.live = live
        self.generator = generator

    def standard(self) -> Iterator[Removed]:
        """Yield what every network is tried with: mixed counts, all groups at a single channel, either half of them so."""
        start = self._permutation(MIXED)[0]
        for turn in range(MIXED):
            yield {group.index: self._mixed(group, (start + turn + place) % MIXED) for place, group in self._placed()}
        yield {group.index: self._down_to(group, 1) for group in self.groups}
        first = set(self._permutation(len(self.groups))[: len(self.groups) // 2].tolist())
        for chosen in (first, set(range(len(self.groups))) - first):
            yield {group.index: self._down_to(group, 1) for place, group in self._placed() if place in chosen}

    def alone(self) -> Iterator[Removed]:
        """Yield every group at a single channel while the others are whole."""
        for group in self.groups:
            yield {group.index: self._down_to(group, 1)}

    def counted(self, constants: set[int], most: int) -> Iterator[Removed]:
        """Yield every number of channels of every group, or those next to some numbers and others at random.

        Args:
            constants: Numbers that the forward compares numbers of channels with.
            most: How many rounds at most.
        """
        wanted = {near for number in constants for near in (number - 1, number, number + 1)}
        orders = {group.index: self._counts(group, wanted) for group in self.groups}
        for number in range(min(most, max(map(len, orders.values()), default=0))):
            yield {
                group.index: self._down_to(group, orders[group.index][number])
                for group in self.groups
                if number < len(orders[group.index])
            }

    def _placed(self) -> Iterator[tuple[int, Group]]:
        return enumerate(self.groups)

    def _counts(self, group: Group, wanted: set[int]) -> list[int]:
        drawn: list[int] = (1 + self._permutation(group.size - 1)).tolist()
        return sorted(drawn, key=lambda count: count not in wanted)

    def _mixed(self, group: Group, regime: int) -> IntArray:
        chance = float(torch.rand((), generator=self.generator))
        share = (0.3 + 0.4 * chance, 0.0, 1.0 - 0.1 * chance)[regime]
        return self._down_to(group, group.size - min(max(1, round(share * group.size)), group.size - 1), stays=False)

    def _down_to(self, group: Group, left: int, *, stays: bool = True) -> IntArray:
        """Return channels to remove so that ``left`` stay: of the live ones at least one goes, or else at least one stays."""
        live = self.live[group.index]
        order = self._permutation(group.size)
        one = live[self._permutation(len(live))[0]]
        others = order[order != one]
        chosen = [*others, one] if stays else [one, *others]
        return np.sort(np.array(chosen[: group.size - left], dtype=np.int64))

    def _permutation(self, size: int) -> IntArray:
        found: IntArray = torch.randperm(size, generator=self.generator).numpy()
        return found
