"""A cost that is measured on networks: a few are measured, and what all others take follows from what they compute and hold."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from itertools import combinations
from pathlib import Path
from statistics import median
from typing import Any, cast

import numpy as np
import numpy.typing as npt
from torch import nn

from autoprune.budget import UserCost
from autoprune.cost._costs import Cost, OwnCost, ask, find_cost, network_of
from autoprune.cost._model import CostModel
from autoprune.cost._quadratic import IntArray
from autoprune.decisions import Decision
from autoprune.graph import PruningGraph
from autoprune.support.reading import reading
from autoprune.support.strict_json import read_json, write_json_atomic

FloatArray = npt.NDArray[np.float64]
Levels = Sequence[tuple[int, ...]]
NETWORKS = 8
"""Networks that are measured: the dense one, the smallest, and random ones between."""
MEASUREMENTS = "costs.json"
"""Name of the file in a run's folder where they are kept."""
ROUNDS = 3
"""How often each is measured, in turn, so that a slow minute of the machine falls on all of them; the median counts."""


def measured(*, unit: str = "", noun: str | None = None) -> Callable[[Callable[[nn.Module], float]], UserCost]:
    """Return a decorator for a cost of one's own that is measured on a network and so is a little different every time.

        @autoprune.cost.costs.register("energy")
        @autoprune.cost.measured(unit="J")
        def energy(network: nn.Module) -> float: ...

    A search measures `NETWORKS` pruned networks, fits what they took by their multiply-adds and parameters (`MeasuredCost`) and
    asks the fit, not the meter. The measurements are kept in the run's folder: a resumed run does not measure again.

    Args:
        unit: Of what it returns, for limits ("energy=2mJ") and tables; limits may have SI prefixes from n to k.
        noun: What it is called in sentences; its name by default.
    """

    def decorator(function: Callable[[nn.Module], float]) -> UserCost:
        marked = cast(Any, function)
        marked.measured, marked.on_network, marked.unit, marked.noun = True, True, unit, noun
        return function

    return decorator


class MeasuredCost:
    """A measured cost as a function of the counts: w₀ + w₁ MACs + w₂ parameters, with no weight below 0.

    So it never falls when a count rises, is the same whenever it is asked, and takes no time.

    Args:
        name: A name in `costs`, or ``package.module:function``.
        model: The dense network.
        graph: Its coupling graph.
        decisions: What a policy decides.
        levels: For each the allowed counts.
        form: Closed-form MACs and parameters.
        path: File where measurements are kept and read from, None for none.

    Attributes:
        note: From how many networks it is predicted and how well, a sentence.

    Raises:
        UsageError: if the function raises, returns what is no number above 0, or the file is damaged.
    """

    def __init__(
        self,
        name: str,
        model: nn.Module,
        graph: PruningGraph,
        decisions: Sequence[Decision],
        levels: Levels,
        form: CostModel,
        *,
        path: Path | None = None,
    ) -> None:
        self._form = form
        names = [group.name for group in decisions]
        policies = _policies(levels, form.sizes)
        kept = [dict(zip(names, counts, strict=True)) for counts in policies]
        stored = _Stored(path, name)
        values = [value for one in kept if (value := stored.get(one)) is not None]
        if len(values) < len(kept):
            function = find_cost(name)
            networks = [network_of(model, graph, decisions, one) for one in kept]
            rounds = [
                [ask(function, name, network, one) for network, one in zip(networks, kept, strict=True)]
                for _ in range(ROUNDS)
            ]
            values = [median(taken) for taken in zip(*rounds, strict=True)]
            stored.put(kept, values)
        found = np.array(values, dtype=np.float64)
        features = self._features(np.array(policies, dtype=np.int64))
        self._weights = _fit(features, found)
        error = float(np.sqrt(np.mean((features @ self._weights / found - 1) ** 2)))
        how_well = f"to about {100 * error:.1f} %"
        self.note = f"The cost '{name}' is predicted from {len(policies)} networks that were measured, {how_well}."

    def _features(self, counts: IntArray) -> FloatArray:
        forms = (self._form.macs_form.many(counts), self._form.params_form.many(counts))
        return np.stack([np.ones(len(counts)), *(np.asarray(form, dtype=np.float64) for form in forms)], axis=1)

    def __call__(self, counts: Sequence[int]) -> float:
        return float(self.many(np.asarray([counts], dtype=np.int64))[0])

    def many(self, counts: IntArray) -> FloatArray:
        """Return the costs of many policies; counts of shape (N, decisions), result of shape (N,)."""
        result: FloatArray = self._features(np.asarray(counts, dtype=np.int64)) @ self._weights
        return result


def own_cost(
    name: str,
    model: nn.Module,
    graph: PruningGraph,
    decisions: Sequence[Decision],
    levels: Levels,
    form: CostModel,
    *,
    path: Path | None = None,
) -> Cost:
    """Return a user's cost by its name, measured or computed; arguments and errors as `MeasuredCost`."""
    if getattr(find_cost(name), "measured", False):
        return MeasuredCost(name, model, graph, decisions, levels, form, path=path)
    return OwnCost(name, model, graph, decisions)


class _Stored:
    """Measurements of one cost in a file: {name: [{"kept": counts by group, "value": number}]}."""

    def __init__(self, path: Path | None, name: str) -> None:
        self._path, self._name = path, name
        self._found: dict[str, list[dict[str, Any]]] = {}
        self._values: dict[frozenset[tuple[str, int]], float] = {}
        if path is not None and path.exists():
            with reading(f"The file of measured costs '{path}'", "remove it to measure again"):
                self._found = dict(read_json(path, "file of measured costs"))
                for row in self._found.get(name, []):
                    self._values[frozenset((str(k), int(v)) for k, v in row["kept"].items())] = _above_0(row["value"])

    def get(self, kept: Mapping[str, int]) -> float | None:
        return self._values.get(frozenset(kept.items()))

    def put(self, kept: Sequence[Mapping[str, int]], values: Sequence[float]) -> None:
        known = self._found.setdefault(self._name, [])
        known += [{"kept": dict(one), "value": value} for one, value in zip(kept, values, strict=True)]
        if self._path is not None:
            write_json_atomic(self._path, self._found)


def _above_0(value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < float("inf"):
        raise ValueError(f"a value is {value!r}, not a number above 0")
    return float(value)


def _policies(levels: Levels, sizes: Sequence[int]) -> list[tuple[int, ...]]:
    """Return the policies that are measured: the whole network, the smallest, and random ones of evenly spaced sizes."""
    rng = np.random.default_rng(0)
    found = [tuple(sizes), tuple(allowed[0] for allowed in levels)]
    for share in np.linspace(0.2, 0.9, NETWORKS - len(found)):
        places = [
            min(len(allowed) - 1, int(len(allowed) * np.clip(share + rng.uniform(-0.2, 0.2), 0, 1)))
            for allowed in levels
        ]
        found.append(tuple(allowed[place] for allowed, place in zip(levels, places, strict=True)))
    return found


def _fit(features: FloatArray, values: FloatArray) -> FloatArray:
    """Return the weights of the least relative squared error that has none below 0: the best of all subsets of features."""
    scale = np.maximum(np.abs(features).max(axis=0), 1e-30)
    rows = features / scale / values[:, None]
    best, least = np.zeros(features.shape[1]), np.inf
    for size in range(1, features.shape[1] + 1):
        for chosen in map(list, combinations(range(features.shape[1]), size)):
            weights = np.linalg.lstsq(rows[:, chosen], np.ones(len(values)), rcond=None)[0]
            error = float(((rows[:, chosen] @ weights - 1) ** 2).sum())
            if (weights >= 0).all() and error < least * (1 - 1e-9):
                best, least = np.zeros(features.shape[1]), error
                best[chosen] = weights
    result: FloatArray = best / scale
    return result
