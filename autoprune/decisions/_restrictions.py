"""What the user puts off limits: modules whose channels all stay, and bounds on the share that stays of others.

A pattern is matched against the paths of the network's modules (and the names of its layers) as `fnmatch.fnmatchcase` does:
``*`` stands for any characters, dots included, ``?`` for one, ``[ab]`` for one of these. A module that matches is meant with
everything inside it. What is restricted are the *output* channels of the layers meant, and the channels of norms; their inputs
follow the layers before.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from itertools import chain

from torch import nn

from autoprune.decisions._decision import Decision, StandaloneDecision
from autoprune.errors import UsageError
from autoprune.groups import Group, PruningGraph
from autoprune.registry import nearest

Share = tuple[float, float]
"""The least and the most share of the channels that stays, both in [0, 1]."""
_HAIR = 1e-9
"""0.7 * 10 is a hair above 7 in floating point."""
_RECURRENT = "weight_ih"
"""What the matrices of recurrent layers are called whose columns are inputs."""


@dataclass(frozen=True)
class Restriction:
    """What is allowed of one decision.

    Attributes:
        ignored_by: The pattern because of which it stays whole; None if there is none.
        low, high: The least and the most share that stays; equal for a fixed share.
        by: The bounds that these come from, as on the command line.
    """

    ignored_by: str | None = None
    low: float = 0.0
    high: float = 1.0
    by: tuple[str, ...] = ()

    @property
    def whole(self) -> bool:
        """Whether nothing of it may go."""
        return self.ignored_by is not None or self.low == 1.0

    @property
    def words(self) -> str:
        """Who restricts what, for people: "--ignore 'head.*'", "--bounds 'layer4.*=0.5:1'"; empty if nobody does."""
        if self.ignored_by is not None:
            return f"--ignore '{self.ignored_by}'"
        return ", ".join(f"--bounds '{one}'" for one in self.by)


@dataclass(frozen=True)
class Restrictions:
    """What the user puts off limits, as plain data; `check` and `on` need the network.

    Attributes:
        ignore: Patterns of modules whose channels all stay.
        bounds: By pattern the least and the most share of the channels that stays. All that fit a coupling group hold.

    Raises:
        UsageError: for a share out of range.
    """

    ignore: tuple[str, ...] = ()
    bounds: Mapping[str, Share] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for pattern, share in self.bounds.items():
            check_share(pattern, share)

    def __bool__(self) -> bool:
        return bool(self.ignore or self.bounds)

    @property
    def words(self) -> tuple[str, ...]:
        """Every restriction as it is written on the command line."""
        return tuple(f"{option} '{value}'" for option, value in self.options)

    @property
    def options(self) -> tuple[tuple[str, str], ...]:
        """Every restriction as an option of the command line and its value."""
        bounds = (("--bounds", f"{pattern}={share_text(share)}") for pattern, share in self.bounds.items())
        return (*(("--ignore", pattern) for pattern in self.ignore), *bounds)

    def without(self, number: int) -> Restrictions:
        """Return all but one, counted as in `words`."""
        ignore = tuple(one for place, one in enumerate(self.ignore) if place != number)
        rest = number - len(self.ignore)
        return Restrictions(ignore, {key: self.bounds[key] for place, key in enumerate(self.bounds) if place != rest})

    def within(self, model: nn.Module, graph: PruningGraph) -> Restricted:
        """Return what they mean for a network.

        Args:
            model: The network.
            graph: Its coupling graph.

        Raises:
            UsageError: for a pattern that matches no module with weights; says the nearest.
        """
        return Restricted(self, model, graph)


class Restricted:
    """What is allowed of the decisions of one network.

    Args:
        restrictions: What the user puts off limits.
        model: The network.
        graph: Its coupling graph.

    Raises:
        UsageError: for a pattern that matches no module with weights; says the nearest.
    """

    def __init__(self, restrictions: Restrictions, model: nn.Module, graph: PruningGraph) -> None:
        self.restrictions = restrictions
        named = chain(model.named_parameters(remove_duplicate=False), model.named_buffers(remove_duplicate=False))
        self._tensors = {name: id(tensor) for name, tensor in named}
        self._weights = {layer.name: self._tensors.get(layer.weight, -1) for layer in graph.layers}
        self._weights |= {table.name: self._tensors.get(table.weight, -1) for table in graph.tables}
        meant = _Meant(model, self._weights)
        self._ignored = {pattern: meant(pattern, "--ignore") for pattern in restrictions.ignore}
        self._bounded = {pattern: meant(pattern, "--bounds") for pattern in restrictions.bounds}
        self._of: dict[str, Restriction] = {}
        self._members_of: dict[str, frozenset[int]] = {}

    def on(self, decision: Decision) -> Restriction:
        """Return what is allowed of a decision: the strictest of what is said of its members.

        Raises:
            UsageError: if bounds of its members contradict each other.
        """
        if decision.name not in self._of:
            self._of[decision.name] = self._strictest(decision)
        return self._of[decision.name]

    def levels(self, decision: Decision, *, min_keep: float, round_to: int) -> tuple[int, ...]:
        """Return the levels of a decision that are allowed, ascending.

        A lower bound takes the place of ``min_keep``. Of a fixed share it is the nearest count that ``round_to`` allows.

        Args:
            decision: The decision.
            min_keep: The least share that stays where no bound says another.
            round_to: Counts are multiples of this.

        Raises:
            UsageError: if bounds contradict each other, or leave no count.
        """
        found = self.on(decision)
        least = min_keep if found.low == 0.0 else 0.0
        levels = decision.levels(min_keep=least, round_to=round_to)
        if found.whole:
            return levels[-1:]
        if not found.by:
            return levels
        size = decision.size
        if found.low == found.high:
            return (min(levels, key=lambda level: (abs(level - found.low * size), -level)),)
        low, high = found.low * size - _HAIR, found.high * size + _HAIR
        allowed = tuple(level for level in levels if low <= level <= high)
        if not allowed:
            among = "" if round_to == 1 else f" that is a multiple of {round_to}"
            raise UsageError(
                f"The bounds {share_text((found.low, found.high))} ({found.words}) leave no number of the {size} channels of "
                f"'{decision.name}'{among}; give wider ones."
            )
        return allowed

    def check_met(self, decided: Sequence[Decision], graph: PruningGraph) -> None:
        """Refuse bounds that nothing can follow: some channels must go, but none of the groups meant is decided.

        Args:
            decided: What is decided.
            graph: The network's coupling graph.

        Raises:
            UsageError: naming the bound, a group and why it is not decided.
        """
        names = {decision.name for decision in decided}
        for pattern, (_, high) in self.restrictions.bounds.items():
            tensors = self._bounded[pattern]
            groups = [group for group in graph.groups if self._means(tensors, group)]
            if high == 1.0 or any(group.name in names for group in groups):
                continue
            what = f"The bounds '{pattern}={share_text(self.restrictions.bounds[pattern])}' cannot be met: "
            if not groups:
                raise UsageError(f"{what}no layer that they mean has channels that could go; leave them out.")
            group = groups[0]
            found = self.on(group)
            why = group.reason or (found.words if found.whole else "it crosses a residual join; add --include-residual")
            raise UsageError(f"{what}'{group.name}' stays whole ({why}).")

    def _strictest(self, decision: Decision) -> Restriction:
        for pattern, tensors in self._ignored.items():
            if self._means(tensors, decision):
                return Restriction(ignored_by=pattern)
        bounds = [
            (pattern, self.restrictions.bounds[pattern])
            for pattern, tensors in self._bounded.items()
            if self._means(tensors, decision)
        ]
        if not isinstance(decision, Group):  # the most is a share of channels; of these at least so much stays
            bounds = [(pattern, (low, 1.0)) for pattern, (low, _) in bounds if low > 0.0]
        if not bounds:
            return Restriction()
        lower = max(bounds, key=lambda bound: bound[1][0])
        upper = min(bounds, key=lambda bound: bound[1][1])
        if lower[1][0] > upper[1][1]:
            raise UsageError(
                f"The bounds '{lower[0]}={share_text(lower[1])}' and '{upper[0]}={share_text(upper[1])}' contradict each other: "
                f"both are about the coupling group '{decision.name}', whose layers lose the same channels (autoprune inspect "
                "shows it)."
            )
        by = tuple(f"{pattern}={share_text(share)}" for pattern, share in bounds if share != (0.0, 1.0))
        return Restriction(low=lower[1][0], high=upper[1][1], by=by)

    def _means(self, tensors: Iterable[int], decision: Decision) -> bool:
        """Return whether some tensors are among those of a decision's members."""
        if decision.name not in self._members_of:
            self._members_of[decision.name] = frozenset(self._members(decision))
        return not self._members_of[decision.name].isdisjoint(tensors)

    def _members(self, decision: Decision) -> Iterator[int]:
        """Return the tensors of what a decision makes smaller at its output: layers, norms and the like."""
        layers = set(decision.producers)
        if isinstance(decision, StandaloneDecision):
            layers |= decision.layers
        yield from (self._weights[name] for name in layers)
        if isinstance(decision, Group):
            inputs = {self._weights[name] for name in decision.consumers}
            for part in decision.slices:
                tensor = self._tensors.get(part.tensor, -1)
                if tensor not in inputs and not part.tensor.rpartition(".")[2].startswith(_RECURRENT):
                    yield tensor


class _Meant:
    """Patterns to the tensors that they mean.

    Args:
        model: The network.
        weights: By a layer's name the identity of its weight.
    """

    def __init__(self, model: nn.Module, weights: Mapping[str, int]) -> None:
        self._found: dict[str, frozenset[int]] = {}
        for name, module in model.named_modules(remove_duplicate=False):
            tensors = frozenset(map(id, chain(module.parameters(), module.buffers())))
            if name and tensors:
                self._found[name] = tensors
        for name, weight in weights.items():
            self._found.setdefault(name, frozenset((weight,)))

    def __call__(self, pattern: str, option: str) -> frozenset[int]:
        matching = [tensors for name, tensors in self._found.items() if fnmatchcase(name, pattern)]
        if not matching:
            plain = pattern.strip("*.") or pattern
            close = nearest(pattern, list(self._found)) or nearest(plain, list(self._found))
            raise UsageError(
                f"The pattern '{pattern}' of {option} matches no module of the network that has weights.{close} "
                "autoprune inspect lists its layers."
            )
        return frozenset().union(*matching)


def check_share(pattern: str, share: Share) -> None:
    """Refuse a share that is out of range.

    Raises:
        UsageError: naming the pattern, the value and the rule.
    """
    low, high = share
    if not 0.0 <= low <= high <= 1.0 or high == 0.0:
        raise UsageError(
            f"The bounds of '{pattern}' are {low:g}:{high:g}, but must be shares of the channels with 0 <= least <= most <= 1 "
            "and most above 0."
        )


def share_text(share: Share) -> str:
    """Return ``0.5:1`` for a least and a most share, ``0.5`` for a fixed one."""
    low, high = share
    return str(low) if low == high else f"{low}:{high}"
