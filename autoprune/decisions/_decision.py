"""The protocol of a decision: what agents, environment, projection, journal and report know of what a policy decides."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager
from typing import Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt
from torch import nn

from autoprune.groups import Group

CHANNELS = "channels"
"""The kind of coupling groups: how many of their channels stay."""


class Decision(Protocol):
    """One thing that a policy decides: how much of it stays, a whole number of units between 0 and ``size``.

    A coupling group (`autoprune.groups.Group`) is one: its units are channels. What its levels cost is the closed form over the
    graph, which channels stay is the selection's, and surgery applies all groups at once, since they share layers.
    """

    @property
    def name(self) -> str:
        """What it is called in policies, journals and reports; unique."""

    @property
    def size(self) -> int:
        """The level at which nothing is removed."""

    @property
    def producers(self) -> tuple[str, ...]:
        """Names of the layers that it makes smaller at their output, or altogether, in execution order."""

    @property
    def consumers(self) -> tuple[str, ...]:
        """Names of the layers that it makes smaller at their input, in execution order."""

    def levels(self, *, min_keep: float, round_to: int) -> tuple[int, ...]:
        """Return the levels allowed, ascending, ``size`` last.

        Args:
            min_keep: The least share of a decision's units that stays, where that means something for it.
            round_to: Channel counts are multiples of this.
        """


@runtime_checkable
class StandaloneDecision(Decision, Protocol):
    """A decision that is applied by itself, after the channels: a block or branch that goes, a mask on weights.

    Example:
        See ``tests/decisions/test_branches.py``: the branch of a residual block, kept or not.
    """

    @property
    def kind(self) -> str:
        """The name under which its finder is registered (`finders`); policy files record it."""

    @property
    def layers(self) -> frozenset[str]:
        """Names of the graph's layers whose multiply-adds are in proportion to the level (all of them at ``size``)."""

    @property
    def tensors(self) -> frozenset[str]:
        """Names of the parameters and buffers whose elements are in proportion to the level."""

    def apply(self, network: nn.Module, level: int) -> nn.Module:
        """Return a network, whose channels may be pruned already, at a level; it may be changed in place.

        Args:
            network: The network, a copy of one's own.
            level: The level, below ``size``.
        """

    def masked(self, network: nn.Module, level: int) -> AbstractContextManager[object]:
        """Let a network compute, as long as the context lasts, what `apply` would make it compute, with its modules all there.

        The proof compares both before a search.

        Args:
            network: The dense network, or one whose channels are pruned.
            level: The level, below ``size``.
        """


def share_lost(decision: Decision) -> npt.NDArray[np.float64]:
    """Return the squared share of a decision that is gone, for each level from 0 to its size, shape (size + 1,).

    What its error is taken to be where nothing better is known.
    """
    lost: npt.NDArray[np.float64] = (1.0 - np.arange(decision.size + 1) / decision.size) ** 2
    return lost


def channel_groups(decisions: Sequence[Decision]) -> tuple[Group, ...]:
    """Return those decisions that are coupling groups."""
    return tuple(decision for decision in decisions if isinstance(decision, Group))


def standalone(decisions: Sequence[Decision]) -> tuple[StandaloneDecision, ...]:
    """Return those decisions that are applied by themselves."""
    return tuple(
        decision
        for decision in decisions
        if not isinstance(decision, Group) and isinstance(decision, StandaloneDecision)
    )
