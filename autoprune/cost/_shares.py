"""What is in proportion to the level of decisions that are no channels: multiply-adds of layers, elements of tensors."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction

from autoprune.decisions import Decision, standalone


class Shares:
    """Finds the decisions that a layer or a tensor is in proportion to.

    Args:
        decisions: What a policy decides, in order.
    """

    def __init__(self, decisions: Sequence[Decision]) -> None:
        place = {decision.name: number for number, decision in enumerate(decisions)}
        self._sizes = [decision.size for decision in decisions]
        self._layers: dict[str, tuple[int, ...]] = {}
        self._tensors: dict[str, tuple[int, ...]] = {}
        for decision in standalone(decisions):
            for names, found in ((decision.layers, self._layers), (decision.tensors, self._tensors)):
                for name in names:
                    found[name] = (*found.get(name, ()), place[decision.name])

    def of_layer(self, name: str) -> tuple[int, ...]:
        """Return the places of the decisions that a layer's multiply-adds are in proportion to."""
        return self._layers.get(name, ())

    def of_tensor(self, name: str) -> tuple[int, ...]:
        """Return the places of the decisions that a tensor's elements are in proportion to."""
        return self._tensors.get(name, ())

    def at(self, layer: str, counts: Sequence[int]) -> Fraction:
        """Return the share of a layer's multiply-adds that levels leave."""
        share = Fraction(1)
        for place in self.of_layer(layer):
            share *= Fraction(int(counts[place]), self._sizes[place])
        return share
