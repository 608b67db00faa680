"""Which channels the proof removes, round by round: live and dead ones, down to a single one left in every group."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence

import numpy as np
import torch

from autoprune.groups import Group, IntArray

Removed = dict[int, IntArray]
"""Group index -> numbers of the channels that go."""
MIXED = 3
"""In how many ways a group loses channels, in turn: about half, a single one, nearly all."""
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
        """Yield what every network is tried with: all groups at once, all at a single channel, and some while others are whole.

        For any two groups there is a round in which the one loses channels and the other is whole: what is right only because
        both do shows.
        """
        chosen, start = self._some(), self._start()
        mixed = max(1, MIXED - len(chosen) // 2)
        yield from self.mixed(mixed, start)
        yield {group.index: self._down_to(group, 1) for group in self.groups}
        turns = [start + mixed] * len(self.groups)
        for places in chosen:
            removed: Removed = {}
            for place, group in self._placed():
                if places[place]:
                    removed[group.index] = self._mixed(group, (turns[place] + place) % MIXED)
                    turns[place] += 1
            yield removed

    def mixed(self, rounds: int, start: int | None = None) -> Iterator[Removed]:
        """Yield rounds in which all groups lose some of their channels.

        Args:
            rounds: How many.
            start: In which of the ``MIXED`` ways the first group does first; drawn if left out.
        """
        start = self._start() if start is None else start
        for turn in range(rounds):
            yield {group.index: self._mixed(group, (start + turn + place) % MIXED) for place, group in self._placed()}

    def _some(self) -> list[list[bool]]:
        """Return for each of a few rounds which groups lose channels in it.

        A group does so in half of them, no two groups in the same ones (Sperner, 1928: so many groups for a number of rounds
        that no group's rounds are among another's).
        """
        count = len(self.groups)
        rounds = next(k for k in itertools.count(1) if math.comb(k, k // 2) >= count) if count > 1 else 0
        codes = list(itertools.combinations(range(rounds), rounds // 2))
        chosen = [codes[place] for place in self._permutation(len(codes))[:count]]
        return [[number in code for code in chosen] for number in range(rounds)]

    def _start(self) -> int:
        return int(self._permutation(MIXED)[0])

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
