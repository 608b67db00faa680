"""The frozen description of one search run: plain data that round-trips JSON and refuses what it does not know."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any

from autoprune.budget import Budget
from autoprune.data import Preparation
from autoprune.decisions import Restrictions, Share, as_share
from autoprune.errors import UsageError
from autoprune.evaluation import Metric, default_reward
from autoprune.reconstruct import FINISH_STEPS
from autoprune.registry import nearest
from autoprune.support.text import short

CONFIG_VERSION = 1
SCORES = ("sequential", "cached")
DEFAULT_EPISODES = 100
MOST_SEED = 2**63 - 1
"""The largest seed: the generators of torch take 64 bits."""
BASELINES = ("uniform", "shallow", "deep")
PRESETS: Mapping[str, Mapping[str, Any]] = {
    "amc": {
        "agent": "amc",
        "budget_mode": "at-most",
        "episodes": 400,
        "min_keep": 0.2,
        "select": "magnitude",
        "score": "cached",
        "finish_steps": 0,
    }
}
"""What is asked for by one name. amc: He et al., AMC (ECCV 2018), as in the paper and its published code: the agent without
departures, a wall that only lowers, the channels of the largest weights, refitted to the dense network's features."""


@dataclass(frozen=True, kw_only=True)
class RunConfig:
    """Everything that decides the result of a search.

    Attributes:
        model: Model specification, as for ``--model``, or the class name of a model passed from Python.
        weights: Weights file or enum name; None for the model's own.
        model_fingerprint: SHA-256 of the dense model's state.
        data: Data specification, as for ``--data``.
        data_fingerprint: Fingerprint of the data set.
        mean: Subtracted from each channel; empty where the data come preprocessed.
        std: Divided by per channel; empty where the data come preprocessed.
        input_shape: Shape (C, H, W) of one image.
        resize: What pictures of an image folder are resized to (see `autoprune.data.Preparation`); None for what is usual.
        crop: What is cut out of them, likewise.
        transform: ``module:function`` that makes a tensor of a picture instead; None for none.
        prepared: What is done to the images, in words.
        agent: Name of the agent whose best policy is the result.
        agent_options: The agent's own options.
        episodes: How many policies the agent may propose.
        seed: The one seed of the run.
        budget: What the network must become.
        reward: Name of the reward, or ``module:function``.
        select: How the channels of a policy are chosen.
        score: How the policies are scored during the search, "sequential" or "cached".
        race: Whether scoring stops at policies that are clearly worse than the best simple rule.
        baselines: Agents that are scored beside it: the simple rules, or random search with as many policies.
        labels: Whether labels (or other targets) of the search and report images are read.
        metric: What networks are measured in: "accuracy", "agreement", "divergence", another that is built in, or what a
            function that evaluates calls one of its numbers.
        maximize: Whether more of it is better.
        divergence: How outputs are compared with the dense network's: names in `autoprune.evaluation.divergences` or
            ``module:function``, one for all or, with commas between, one for each tensor; None for what suits their shapes.
        run: ``module:function`` that runs the network on a batch, ``run(model, batch)``; None for what the batch's form says.
        finish_policies: Policies that are finished at most to choose the result of, whoever proposed them.
        most_tried: Policies that are finished at most until one is within the drop of accuracy, and measured to be fast enough.
        finish_steps: Steps of gradient descent of a finished network, all layers together, after the closed form.
        include_residual: Whether groups that cross a residual join are decided too.
        decide: Kinds of decisions: "channels", and others that are registered (`autoprune.decisions`).
        part: Paths of the parts that alone are pruned; none for all of the network.
        ignore: Patterns of modules whose channels all stay.
        bounds: By pattern of modules the least and the most share of their channels that stays.
        min_keep: The least share of a group's channels that stays.
        round_to: Kept counts are multiples of this; 0 for the smallest that is fast on the target.
        batch_size: Images at a time in every evaluation.
        device: Torch device.
        target: What will run the network (`autoprune.latency.Target`), where latency or memory counts; else None.
        profile: File that measured times were taken over from; None for none.
        version: Version of this format.

    Raises:
        UsageError: if a value is out of its range.
    """

    model: str
    model_fingerprint: str
    data: str
    data_fingerprint: str
    budget: Budget
    weights: str | None = None
    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()
    input_shape: tuple[int, ...] = ()
    resize: tuple[int, ...] | None = None
    crop: tuple[int, ...] | None = None
    transform: str | None = None
    prepared: str = ""
    agent: str = "auto"
    agent_options: Mapping[str, Any] = field(default_factory=dict)
    episodes: int = DEFAULT_EPISODES
    seed: int = 0
    reward: str = "accuracy"
    select: str = "obs"
    score: str = "sequential"
    race: bool = False
    baselines: tuple[str, ...] = BASELINES
    labels: bool = True
    metric: str = "accuracy"
    maximize: bool = True
    divergence: str | None = None
    run: str | None = None
    finish_policies: int = 2
    most_tried: int = 8
    finish_steps: int = FINISH_STEPS
    include_residual: bool = False
    decide: tuple[str, ...] = ("channels",)
    part: tuple[str, ...] = ()
    ignore: tuple[str, ...] = ()
    bounds: Mapping[str, Share] = field(default_factory=dict)
    min_keep: float = 0.1
    round_to: int = 1
    batch_size: int = 64
    device: str = "cpu"
    target: Mapping[str, Any] | None = None
    profile: str | None = None
    version: int = CONFIG_VERSION

    def __post_init__(self) -> None:
        if self.version != CONFIG_VERSION:
            raise UsageError(
                f"The run configuration has version {self.version}, but this autoprune reads version {CONFIG_VERSION}; "
                "continue the run with the autoprune that began it."
            )
        _check_range("episodes", self.episodes, 1)
        _check_range("seed", self.seed, 0, MOST_SEED)
        _check_range("round-to", self.round_to, 0 if "latency" in self.budget.kinds else 1)
        _check_range("batch-size", self.batch_size, 1)
        _check_range("finish-steps", self.finish_steps, 0)
        _check_range("finish-policies", self.finish_policies, 1)
        _check_range("most-tried", self.most_tried, self.finish_policies)
        if not 0 < self.min_keep <= 1:
            raise UsageError(f"The value of min-keep is {short(self.min_keep)}, but must be above 0 and at most 1.")
        if self.race and (self.budget.minimize is not None or self.budget.mode != "exact"):
            raise UsageError(
                "A race against the simple rules needs one budget that every policy uses up, but --max-drop, --pareto and "
                "--budget-mode at-most look at several sizes; leave --race out."
            )
        if not self.decide or len(set(self.decide)) != len(self.decide):
            raise UsageError(
                f"The kinds of decisions are {', '.join(self.decide) or 'none'}; give at least one, each once, "
                "for instance channels."
            )
        Restrictions(self.ignore, self.bounds)  # checks the shares
        if self.score not in SCORES:
            raise UsageError(
                f"Unknown score '{self.score}'.{nearest(self.score, list(SCORES))} Known: {', '.join(SCORES)}."
            )

    @property
    def preparation(self) -> Preparation:
        """What was asked to be done to the pictures of an image folder."""
        return Preparation(self.resize, self.crop, self.transform)

    @property
    def measure(self) -> Metric:
        """What networks are measured in."""
        return Metric.named(self.metric, maximize=self.maximize)

    def to_dict(self) -> dict[str, Any]:
        """Return the configuration as JSON-ready values."""
        out: dict[str, Any] = {item.name: getattr(self, item.name) for item in fields(self)}
        out["budget"] = self.budget.to_dict()
        for name in _TUPLES:
            out[name] = None if out[name] is None else list(out[name])
        out["agent_options"] = dict(self.agent_options)
        out["bounds"] = {pattern: list(share) for pattern, share in self.bounds.items()}
        return out

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> RunConfig:
        """Return the configuration that ``to_dict`` wrote.

        Raises:
            UsageError: for unknown or missing keys, values of the wrong type, or another version.
        """
        known = {item.name: item for item in fields(cls)}
        unknown = sorted(set(values) - set(known))
        if unknown:
            raise UsageError(
                f"The run configuration has the unknown key '{unknown[0]}'.{nearest(unknown[0], list(known))}"
            )
        missing = sorted(set(known) - set(values))
        if missing:
            raise UsageError(f"The run configuration lacks the key '{missing[0]}'.")
        given = dict(values)
        if given["version"] != CONFIG_VERSION:
            raise UsageError(
                f"The run configuration has version {given['version']!r}, but this autoprune reads version "
                f"{CONFIG_VERSION}; continue the run with the autoprune that began it."
            )
        for name, kinds in _TYPES.items():
            if not isinstance(given[name], kinds) or (isinstance(given[name], bool) and bool not in kinds):
                raise UsageError(f"The run configuration's '{name}' is {given[name]!r}, which is of the wrong type.")
        given["budget"] = Budget.from_dict(given["budget"])
        for name in _TUPLES:
            given[name] = None if given[name] is None else tuple(given[name])
        given["bounds"] = {pattern: as_share(pattern, share) for pattern, share in given["bounds"].items()}
        return cls(**given)

    def differences(self, other: RunConfig) -> list[str]:
        """Say what ``other`` has different, one entry per key: ``"seed: 0 in the run, 1 now"``.

        The path of the weights does not count, what it leads to has a fingerprint; nor does that of a profile, of which the run
        has a copy, nor the words for what the rest says.
        """
        mine, theirs = self.to_dict(), other.to_dict()
        mine["budget"], theirs["budget"] = (_told(each.budget) for each in (self, other))
        return [
            f"{key}: {short(mine[key])} in the run, {short(theirs[key])} now"
            for key in mine
            if key not in ("weights", "profile", "prepared") and mine[key] != theirs[key]
        ]

    def default_name(self) -> str:
        """Return a folder name for the run: model, agent, budget and seed, and a hash of what else is not default."""
        plain = RunConfig(
            model=self.model,
            model_fingerprint=self.model_fingerprint,
            data=self.data,
            data_fingerprint=self.data_fingerprint,
            weights=self.weights,
            mean=self.mean,
            std=self.std,
            input_shape=self.input_shape,
            prepared=self.prepared,
            budget=self.budget,
            agent=self.agent,
            seed=self.seed,
            reward=default_reward(self.budget),
        )
        model = "".join(c if c.isalnum() or c in "-_" else "-" for c in self.model.rpartition("/")[2])
        goal = "" if self.budget.minimize is None else f"least-{self.budget.minimize}"
        goal += "" if self.budget.max_drop is None else f"-drop{self.budget.max_drop:g}"
        budget = "-".join(filter(None, (goal, str(self.budget).replace(",", "-").replace("=", "")))).replace(":", "-")
        name = f"{model}-{self.agent}-{budget}-s{self.seed}"
        extra = [*self.differences(plain), *(["at-most"] if self.budget.mode != "exact" and not goal else [])]
        if extra:
            name += "-" + hashlib.sha256(json.dumps(extra).encode()).hexdigest()[:6]
        return name


def _told(budget: Budget) -> str:
    return budget.words if budget.minimize is not None else f"{budget} ({budget.mode})"


_TUPLES = ("mean", "std", "input_shape", "resize", "crop", "baselines", "decide", "part", "ignore")
_NUMBER = (int, float)
_TYPES: dict[str, tuple[type, ...]] = {
    "model": (str,),
    "model_fingerprint": (str,),
    "data": (str,),
    "data_fingerprint": (str,),
    "budget": (dict,),
    "weights": (str, type(None)),
    "mean": (list, tuple),
    "std": (list, tuple),
    "input_shape": (list, tuple),
    "resize": (list, tuple, type(None)),
    "crop": (list, tuple, type(None)),
    "transform": (str, type(None)),
    "prepared": (str,),
    "agent": (str,),
    "agent_options": (dict,),
    "episodes": (int,),
    "seed": (int,),
    "reward": (str,),
    "select": (str,),
    "score": (str,),
    "race": (bool,),
    "baselines": (list, tuple),
    "labels": (bool,),
    "metric": (str,),
    "maximize": (bool,),
    "divergence": (str, type(None)),
    "run": (str, type(None)),
    "finish_policies": (int,),
    "most_tried": (int,),
    "finish_steps": (int,),
    "include_residual": (bool,),
    "decide": (list, tuple),
    "part": (list, tuple),
    "ignore": (list, tuple),
    "bounds": (dict,),
    "min_keep": _NUMBER,
    "round_to": (int,),
    "batch_size": (int,),
    "device": (str,),
    "target": (dict, type(None)),
    "profile": (str, type(None)),
}


def _check_range(name: str, value: int, least: int, most: int = 2**31 - 1) -> None:
    if value < least:
        raise UsageError(f"The value of {name} is {value}, but must be at least {least}.")
    if value > most:
        raise UsageError(f"The value of {name} is {short(value)}, but must be at most {most}.")
