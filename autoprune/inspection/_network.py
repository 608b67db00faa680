"""What a run's dense network consists of, in execution order, for pictures of a policy. Kept in ``RUN/network.json``."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from autoprune.cost import CostModel
from autoprune.errors import AutopruneError, UsageError
from autoprune.graph import IntArray, PruningGraph, build_graph, parts_and_inputs
from autoprune.models import load_model
from autoprune.registry import only_named_by
from autoprune.runs import RunFolder, graph_of, load_dense
from autoprune.support.reading import reading
from autoprune.support.strict_json import read_json, write_json_atomic
from autoprune.surgery import Policy

NETWORK_VERSION = 1
FILE = "network.json"
Dimension = Mapping[str, int]
"""How many channels of each group lie along one dimension of a layer; "" for those in none or in a group left whole."""


@dataclass(frozen=True)
class Stage:
    """One convolution or linear layer.

    Attributes:
        name: The layer's name.
        op: "conv", "conv_transpose" or "linear".
        channels: Its output channels by group.
        macs: Multiply-adds of one image, dense.
        fixed: Multiply-adds for one pair of (row, column) of the two dimensions of its weight that channels lie along.
        first, second: These dimensions.
    """

    name: str
    op: str
    channels: Dimension
    macs: int
    fixed: int
    first: Dimension
    second: Dimension

    def kept(self, ratios: Mapping[str, tuple[int, int]]) -> int:
        """Return how many output channels stay, for group name -> (kept, size)."""
        return _left(self.channels, ratios)

    def kept_macs(self, ratios: Mapping[str, tuple[int, int]]) -> int:
        """Return its multiply-adds in the small network."""
        return self.fixed * _left(self.first, ratios) * _left(self.second, ratios)


@dataclass(frozen=True)
class Network:
    """A dense network.

    Attributes:
        stages: Its layers in execution order.
        groups: Name, size, kind ("inner" or "residual") and reason (None if it can be pruned) of every coupling group.
        refusals: What made channels unprunable: where, and why.
        products: Multiply-adds of what is no layer (attention): for one index of all dimensions with channels, these dimensions.
    """

    stages: tuple[Stage, ...]
    groups: tuple[tuple[str, int, str, str | None], ...]
    refusals: tuple[tuple[str, str], ...]
    products: tuple[tuple[int, tuple[Dimension, ...]], ...]

    def kept_macs(self, ratios: Mapping[str, tuple[int, int]]) -> int:
        """Return the multiply-adds of the small network, for group name -> (kept, size)."""
        products = (
            scale * math.prod(_left(dimension, ratios) for dimension in dimensions)
            for scale, dimensions in self.products
        )
        return sum(stage.kept_macs(ratios) for stage in self.stages) + sum(products)

    @property
    def residual(self) -> frozenset[str]:
        """Names of the groups that cross a residual join."""
        return frozenset(name for name, _, kind, _ in self.groups if kind == "residual")

    def to_dict(self) -> dict[str, Any]:
        """Return JSON-ready values."""
        return {"version": NETWORK_VERSION, **asdict(self)}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Network:
        """Read what ``to_dict`` gave (ValueError, KeyError or TypeError for anything else)."""
        if values["version"] != NETWORK_VERSION:
            raise ValueError("another version")
        return cls(
            tuple(Stage(**stage) for stage in values["stages"]),
            tuple((str(g[0]), int(g[1]), str(g[2]), g[3]) for g in values["groups"]),
            tuple((str(where), str(why)) for where, why in values["refusals"]),
            tuple((int(scale), tuple(dimensions)) for scale, dimensions in values["products"]),
        )


def describe(graph: PruningGraph) -> Network:
    """Return what a coupling graph says, as plain data."""
    decisions = [group for group in graph.groups if group.reason is None]
    cost = CostModel(graph, decisions)
    names = {group.index: group.name for group in decisions}
    stages = []
    for layer, (fixed, first, second) in zip(graph.layers, cost.layer_forms, strict=True):
        stages.append(
            Stage(
                layer.name,
                layer.op,
                _dimension(layer.out_group, names),
                layer.macs,
                fixed,
                _form(first.slope, first.offset, decisions),
                _form(second.slope, second.offset, decisions),
            )
        )
    groups = tuple((group.name, group.size, group.kind, group.reason) for group in graph.groups)
    refusals = tuple((refusal.where, refusal.reason) for refusal in graph.refusals)
    products = tuple(
        (scale, tuple(_form(factor.slope, factor.offset, decisions) for factor in factors))
        for scale, factors in cost.product_forms
    )
    return Network(tuple(stages), groups, refusals, products)


def read_network(path: Path) -> Network:
    """Return the network that a file describes.

    Raises:
        UsageError: if it is missing, damaged or of another version.
    """
    values = read_json(path, "description of the network")
    with reading(f"The description of the network '{path}'", "remove it, it is made anew"):
        found = Network.from_dict(values)
    return found


@only_named_by()
def run_network(folder: RunFolder) -> Network:
    """Return a run's dense network, traced once and kept in the folder if that can be written.

    Raises:
        UsageError: if the model was passed from Python, or can no longer be made.
        AutopruneError: if it cannot be traced.
    """
    path = folder.path / FILE
    if path.is_file():
        with suppress(UsageError):
            return read_network(path)
    config = folder.read_config()
    if folder.policy_path.is_file():
        policy = Policy.load(folder.policy_path)
        network = describe(graph_of(policy, load_dense(policy.model)))
    elif config.data == "python":
        raise UsageError(f"The model of this run ({config.model}) was passed from Python and cannot be made by name.")
    else:
        loaded = load_model(config.model, weights=None, input_size=config.input_shape or None)
        network = describe(build_graph(*parts_and_inputs(loaded.model, loaded.example_input(), config.part)))
    with suppress(AutopruneError):
        write_json_atomic(path, network.to_dict())
    return network


def _left(dimension: Dimension, ratios: Mapping[str, tuple[int, int]]) -> int:
    total = 0
    for name, count in dimension.items():
        kept, size = ratios.get(name, (1, 1))
        total += count * kept // size
    return total


def _dimension(groups: IntArray, names: Mapping[int, str]) -> dict[str, int]:
    found: dict[str, int] = {}
    for index, count in zip(*np.unique(groups, return_counts=True), strict=True):
        name = names.get(int(index), "")
        found[name] = found.get(name, 0) + int(count)
    return found


def _form(slope: Sequence[int], offset: int, decisions: Sequence[Any]) -> dict[str, int]:
    found = {group.name: owned * group.size for owned, group in zip(slope, decisions, strict=True) if owned}
    return {**found, **({"": offset} if offset else {})}
