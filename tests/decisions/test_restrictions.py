"""What the user puts off limits: levels against brute force, every agent within them, messages, and runs that go on."""

from __future__ import annotations

import json
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.utils.data import TensorDataset

import autoprune
from autoprune.agents import make_agent
from autoprune.budget import Budget
from autoprune.cli import main
from autoprune.decisions import Restrictions, restrictions_of
from autoprune.errors import UsageError
from autoprune.inspection import inspect_model
from autoprune.problem import Problem, Traced, make_problem, trace, under_budget
from autoprune.runs import RunConfig, RunFolder

from .._sample import count, pick
from ..agents._played import played
from ..reconstruct._networks import Residual, images, trained

TRACED: dict[str, Traced] = {}


def traced() -> Traced:
    if "one" not in TRACED:
        TRACED["one"] = trace(trained(Residual()), images(2))
    return TRACED["one"]


def made(**options: Any) -> Problem:
    network, pictures = trained(Residual()), images(60, 11)
    with torch.no_grad():
        labelled = TensorDataset(pictures, network(pictures).argmax(dim=1))
    options = {"include_residual": True, "rows": 300, **options}
    return make_problem(network, images(2), calibration=pictures, evaluate=labelled, **options)


MEMBERS = {
    "stem": ["stem", "stem_bn"],
    "expand": ["expand", "expand_bn", "depth", "depth_bn"],
    "project": ["project", "project_bn", "short", "short_bn"],
}
"""By coupling group the modules whose channels go together, told by hand from the network's forward."""
SIZES = {"stem": 8, "expand": 12, "project": 10}
PATTERNS = ["*", "stem", "stem*", "s*_bn", "expand", "depth_bn", "*p*", "short", "[ps]*", "proj?ct", "*_bn"]
shares = st.sampled_from([0.1, 0.25, 0.3, 0.5, 0.6, 0.75, 0.9, 1.0])
bounds = st.dictionaries(
    st.sampled_from(PATTERNS),
    st.one_of(shares, st.tuples(shares, shares).map(lambda pair: (min(pair), max(pair)))),
    max_size=3,
)


def told(pattern: str, name: str) -> bool:
    return any(fnmatchcase(module, pattern) for module in MEMBERS[name])


@settings(deadline=None, max_examples=count(400, 50))
@given(
    st.lists(st.sampled_from(PATTERNS[1:]), max_size=2, unique=True),
    bounds,
    st.sampled_from([0.1, 0.4]),
    st.sampled_from([1, 2, 3]),
)
def test_levels_are_those_that_brute_force_allows(
    ignore: list[str], given_bounds: dict[str, Any], min_keep: float, round_to: int
) -> None:
    wanted: dict[str, list[int]] = {}
    refused = False
    for name, size in SIZES.items():
        if any(told(pattern, name) for pattern in ignore):
            continue
        pairs = [
            bound if isinstance(bound, tuple) else (bound, bound)
            for pattern, bound in given_bounds.items()
            if told(pattern, name)
        ]
        low, high = max((pair[0] for pair in pairs), default=0.0), min((pair[1] for pair in pairs), default=1.0)
        counts = [count for count in range(1, size + 1) if count % round_to == 0 or count == size]
        if not pairs:
            wanted[name] = [count for count in counts if count / size >= min_keep - 1e-9]
        elif low == high:
            nearest = min(abs(count - low * size) for count in counts)
            wanted[name] = [count for count in counts if abs(count - low * size) == nearest][-1:]
        else:
            wanted[name] = [count for count in counts if low - 1e-9 <= count / size <= high + 1e-9]
        refused |= not wanted[name]
        if low == 1.0:
            del wanted[name]
    given_all = Restrictions(tuple(ignore), restrictions_of(traced().model, None, given_bounds).bounds)
    try:
        found = under_budget(
            traced(),
            Budget(1.0, "at-most"),
            include_residual=True,
            min_keep=min_keep,
            round_to=round_to,
            restrictions=given_all,
        )
    except UsageError as error:
        said = str(error)
    else:
        said = ""
    if said:
        assert refused or any(words in said for words in ("cannot be met", "Nothing in this network", "does not lower"))
        return
    assert not refused
    decided = dict(zip((one.name for one in found.decided.decisions), found.decided.levels, strict=True))
    assert {name: list(levels) for name, levels in decided.items()} == wanted


def test_a_fixed_share_is_the_nearest_count_and_a_range_is_never_left_by_the_projection() -> None:
    limits = restrictions_of(traced().model, None, {"stem": 0.3, "project*": (0.35, 0.85)})
    found = under_budget(traced(), 0.5, include_residual=True, restrictions=limits)
    assert found.decided.levels[0] == (2,)  # 0.3 * 8 = 2.4
    rng = np.random.default_rng(0)
    for _ in range(50):
        counts = found.decided.projector.project(rng.random(3).tolist())
        assert counts[0] == 2
        assert 4 <= counts[2] <= 8
        assert found.decided.cost.macs(counts) <= 0.5 * found.decided.cost.dense_macs
        assert found.decided.projector.is_full(counts)


AGENTS = ["uniform", "shallow", "deep", "random", "auto", "tpe", "gp", "cmaes", "nsga2", "evolution", "netadapt"]
AGENTS += ["sensitivity", "ddpg", "amc", "td3", "sac"]


def test_every_agent_stays_within_the_bounds() -> None:
    problem = made(bounds={"expand": (0.5, 0.75), "stem": 0.5, "project*": (0.3, 0.9)}, min_keep=0.05)
    sizes = [one.size for one in problem.decisions]
    scores: dict[tuple[int, ...], Any] = {}
    honest = problem.score

    def remembered(counts: Any) -> Any:
        key = tuple(counts)
        if key not in scores:
            scores[key] = honest(key)
        return scores[key]

    problem.score = remembered  # type: ignore[method-assign]
    for name in pick(AGENTS, 5):
        agent = make_agent(name, problem, seed=1, episodes=6)
        for counts in played(agent, problem, 6):
            assert all(count in levels for count, levels in zip(counts, problem.levels, strict=True)), name
    assert sizes == [8, 12, 10]
    assert problem.levels == ((4,), (6, 7, 8, 9), (3, 4, 5, 6, 7, 8, 9))
    game = problem.env()
    for action in (-1.0, 1.0):
        game.reset(seed=0)
        for levels, size in zip(problem.levels, sizes, strict=True):
            *_, info = game.step(np.array([action], dtype=np.float32))
            assert round(info["ratio"] * size) in levels


def test_a_search_respects_what_python_says_and_goes_on_with_it(tmp_path: Path) -> None:
    network, pictures = trained(Residual()), images(80, 11)
    with torch.no_grad():
        labelled = TensorDataset(pictures, network(pictures).argmax(dim=1))

    def begin(**options: Any) -> autoprune.SearchResult:
        options = {
            "ignore": [network.stem, "sh*_bn"],
            "bounds": lambda name, module: 0.5 if name == "depth" else None,
        } | options
        return autoprune.search(
            network,
            images(2),
            calibration=pictures,
            evaluate=labelled,
            budget=0.8,
            episodes=4,
            finish_steps=0,
            agent="random",
            out=tmp_path / "run",
            **options,
        )

    found = begin()
    kept = {entry.name: len(entry.indices) for entry in found.policy.groups}
    assert kept == {"expand": 6}
    stored = RunFolder(tmp_path / "run").read_config()
    assert (stored.ignore, stored.bounds) == (("stem", "sh*_bn"), {"depth": (0.5, 0.5)})
    assert RunConfig.from_dict(json.loads(json.dumps(stored.to_dict()))) == stored
    assert any("left whole by --ignore 'stem', --ignore 'sh*_bn'" in note for note in found.report["notes"])
    assert begin(ignore=None, bounds=None).policy == found.policy  # the run's own
    with pytest.raises(
        UsageError, match=r"begun differently \(ignore: \['stem', 'sh\*_bn'\] in the run, \['stem'\] now"
    ):
        begin(ignore="stem")
    with pytest.raises(UsageError, match=r"bounds: \{'depth': \[0\.5, 0\.5\]\} in the run"):
        begin(bounds={"depth": (0.4, 0.5)})


class Odd(nn.Module):
    """A module under two names, and one whose name looks like a pattern."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, 8, 3)
        self.again = self.first
        self.add_module("a[0]", nn.Conv2d(8, 8, 3))
        self.head = nn.Sequential(nn.Conv2d(8, 8, 1), nn.ReLU(), nn.Conv2d(8, 4, 1))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y: torch.Tensor = self.head(getattr(self, "a[0]")(self.first(x).relu()).relu())
        return y


def decided(**options: Any) -> set[str]:
    return {
        group["name"]
        for group in inspect_model(Odd(), torch.randn(2, 3, 9, 9), **options)["groups"]
        if group["decided"]
    }


def test_patterns_modules_and_predicates() -> None:
    everything = {"first", "a[0]", "head.0"}
    assert decided() == everything
    assert decided(ignore="again") == everything - {"first"}  # another name of the same module
    assert decided(ignore="head") == everything - {"head.0"}  # with everything inside
    assert decided(ignore=["*.0"]) == everything - {"head.0"}
    assert decided(ignore=lambda name, module: "[" in name) == everything - {"a[0]"}
    assert decided(ignore=lambda name, module: isinstance(module, nn.Conv2d) and module.kernel_size == (3, 3)) == {
        "head.0"
    }
    assert decided(bounds={"*": 1.0, "head.2": 1}) == set()
    network = Odd()
    found = inspect_model(network, torch.randn(2, 3, 9, 9), ignore=getattr(network, "a[0]"), bounds={"first": (0.5, 1)})
    rows = {
        group["name"]: (group["restricted_by"], group["least_share"], group["most_share"]) for group in found["groups"]
    }
    assert rows["a[0]"] == ("--ignore 'a[[]0]'", 1.0, 1.0)
    assert rows["first"] == ("--bounds 'first=0.5:1.0'", 0.5, 1.0)
    assert rows["head.0"] == (None, 0.0, 1.0)


WRONG: list[tuple[dict[str, Any], str]] = [
    (
        {"ignore": "hed.*"},
        r"pattern 'hed\.\*' of --ignore matches no module of the network that has weights\. Did you mean 'head",
    ),
    ({"ignore": ["head.1"]}, r"'head\.1' of --ignore matches no module"),  # a ReLU has no weights
    ({"ignore": 3}, "What is ignored is a int"),
    ({"ignore": [3]}, "What is ignored has a int in it"),
    ({"ignore": nn.Conv2d(3, 3, 3)}, r"\(Conv2d\) is not part of the network"),
    ({"ignore": lambda name, module: False}, "true for no module"),
    ({"ignore": lambda name, module: module.nothing}, "given as ignore raised AttributeError"),
    ({"bounds": {"head.*": 1.5}}, r"bounds of 'head\.\*' are 1\.5:1\.5, but must be shares"),
    ({"bounds": {"head.*": (0.7, 0.5)}}, r"are 0\.7:0\.5"),
    ({"bounds": {"head.*": (0, 0)}}, r"are 0:0"),
    ({"bounds": {"head.*": (float("nan"), 1)}}, "are nan:1"),
    ({"bounds": {"head.*": "half"}}, r"are 'half', but must be a number"),
    ({"bounds": {"head.*": (0.1, True)}}, r"must be a number"),
    ({"bounds": {"had.*": 0.5}}, r"'had\.\*' of --bounds matches no module"),
    ({"bounds": 0.5}, "The bounds are a float"),
    ({"bounds": lambda name, module: None}, "returns None for every module"),
    ({"bounds": {"head.0": 0.5, "head.*": (0.6, 1)}}, r"'head\.\*=0\.6:1\.0' and 'head\.0=0\.5' contradict each other"),
    ({"bounds": {"first": (0.55, 0.6)}}, r"leave no number of the 8 channels of 'first'"),
]


@pytest.mark.parametrize(("options", "message"), WRONG, ids=[message[:30] for _, message in WRONG])
def test_what_means_nothing_is_refused_in_a_sentence(options: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        decided(**options)


def test_what_makes_a_budget_impossible_is_named() -> None:
    def ask(budget: float, **options: Any) -> None:
        under_budget(traced(), budget, restrictions=restrictions_of(traced().model, **options))

    with pytest.raises(
        UsageError, match=r"channels kept and --ignore 'stem' the smallest .* or loosen --ignore 'stem'\."
    ):
        ask(0.3, ignore=["expand", "stem"])
    with pytest.raises(UsageError, match=r"--bounds 'stem=0\.9:1\.0'"):
        ask(0.3, bounds={"stem": (0.9, 1.0)})
    with pytest.raises(UsageError, match=r"Nothing in this network can be pruned: stem: --ignore '\*'"):
        ask(0.3, ignore="*")
    with pytest.raises(
        UsageError, match=r"'project=0\.5' cannot be met: 'project' stays whole \(it crosses a residual join; add"
    ):
        ask(0.6, bounds={"project": 0.5})
    with pytest.raises(UsageError, match=r"'stem=0\.5' cannot be met: 'stem' stays whole \(--ignore 'stem_bn'\)"):
        ask(0.6, bounds={"stem": 0.5}, ignore=["stem_bn"])
    with pytest.raises(
        UsageError, match=r"'head=0\.5' cannot be met: 'head' stays whole \(they are channels of the network's out"
    ):
        ask(0.6, bounds={"head": 0.5})


@pytest.mark.parametrize(
    ("typed", "message"),
    [
        (["--bounds", "conv1"], "must be a pattern with the least"),
        (["--bounds", "conv1=a:b"], "must be a pattern with the least"),
        (["--bounds", "=0.5"], "must be a pattern with the least"),
        (["--bounds", "conv1=0.5", "--bounds", "conv1=0.6"], "'conv1' of --bounds was given twice"),
        (["--bounds", "conv1=0.9:0.1"], "0.9:0.1, but must be shares"),
        (["--ignore", "conv9"], "Did you mean 'conv1'"),
    ],
)
def test_the_command_line_says_what_is_wrong(
    typed: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["inspect", *typed]) == 2
    assert message in capsys.readouterr().err


def test_inspect_shows_who_ignored_and_bounded_what(capsys: pytest.CaptureFixture[str]) -> None:
    assert (
        main(["inspect", "--ignore", "blocks.0", "--bounds", "blocks.2.*=0.5:0.9", "--bounds", "blocks.3.conv1=0.25"])
        == 0
    )
    text = capsys.readouterr().out
    assert "off limits by --ignore 'blocks.0'" in text
    assert "E  --bounds 'blocks.2.*=0.5:0.9'" in text
    assert "keeps 0.5 to 0.9" in text
    assert "keeps 0.25" in text
