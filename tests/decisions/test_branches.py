"""A second kind of decision, in one file: the branch of a residual block, kept or not, goes through everything a search does."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import TensorDataset

import autoprune
from autoprune.cli import main
from autoprune.cost import counted_macs
from autoprune.decisions import finders, network_of
from autoprune.errors import UsageError
from autoprune.graph import PruningGraph, build_graph
from autoprune.problem import Problem, make_problem, trace, under_budget
from autoprune.runs import RunFolder
from autoprune.surgery import Policy

KIND = "branches"
SEARCHED = ("channels", KIND)


class Block(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.branch = nn.Sequential(
            nn.Conv2d(width, width, 3, padding=1, bias=False),
            nn.BatchNorm2d(width),
            nn.ReLU(),
            nn.Conv2d(width, width, 3, padding=1),
        )

    def forward(self, x: Tensor) -> Tensor:
        return torch.relu(x + self.branch(x))


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(2, 8, 3, padding=1)
        self.blocks = nn.Sequential(*(Block(8) for _ in range(3)))
        self.head = nn.Linear(8, 4)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.head(self.blocks(torch.relu(self.stem(x))).mean((2, 3)))
        return y


def make_net() -> nn.Module:
    torch.manual_seed(0)
    return Net().eval()


class Nothing(nn.Module):
    """What is left of a branch: zeros."""

    def forward(self, x: Tensor) -> Tensor:
        return torch.zeros_like(x)


@dataclass(frozen=True)
class Branch:
    """Level 1 keeps it, level 0 removes it."""

    name: str
    path: str
    layers: frozenset[str]
    tensors: frozenset[str]
    producers: tuple[str, ...]
    consumers: tuple[str, ...] = ()
    size: int = 1
    kind: str = KIND

    def levels(self, *, min_keep: float, round_to: int) -> tuple[int, ...]:
        return (0, 1)

    def apply(self, network: nn.Module, level: int) -> nn.Module:
        network.get_submodule(self.path.rpartition(".")[0]).branch = Nothing()
        return network

    @contextmanager
    def masked(self, network: nn.Module, level: int) -> Iterator[None]:
        hook = network.get_submodule(self.path).register_forward_hook(lambda module, given, output: output * 0.0)
        try:
            yield
        finally:
            hook.remove()


def branches(model: nn.Module, graph: PruningGraph) -> Sequence[Branch]:
    found = []
    for path, module in model.named_modules():
        if isinstance(module, Block):
            inside = f"{path}.branch"
            layers = tuple(layer.name for layer in graph.layers if layer.name.startswith(f"{inside}."))
            tensors = frozenset(f"{inside}.{name}" for name in module.branch.state_dict())
            found.append(Branch(f"{inside} (branch)", inside, frozenset(layers), tensors, layers))
    return found


if KIND not in finders.names():
    finders.register(KIND)(branches)


def data(count: int, seed: int) -> TensorDataset:
    x = torch.randn(count, 2, 6, 6, generator=torch.Generator().manual_seed(seed))
    with torch.no_grad():
        return TensorDataset(x, make_net()(x).argmax(dim=1))


def search(agent: str, budget: Any, **options: Any) -> autoprune.SearchResult:
    given = {"calibration": data(60, 1), "evaluate": data(80, 2), "report": data(40, 3), "decide": SEARCHED}
    given |= {"agent": agent, "budget": budget, "episodes": 8, "finish_steps": 2, "baselines": ["uniform"], **options}
    return autoprune.search(make_net(), torch.zeros(2, 2, 6, 6), **given)


def problem(**options: Any) -> Problem:
    given = {"calibration": data(60, 1), "evaluate": data(80, 2), "decide": SEARCHED, "budget": 0.5, **options}
    return make_problem(make_net(), torch.zeros(2, 2, 6, 6), **given)


def test_every_policy_costs_what_its_network_costs() -> None:
    found = problem(budget=1.0)
    rng = np.random.default_rng(0)
    image = torch.randn(2, 2, 6, 6)
    for _ in range(12):
        counts = [int(rng.choice(levels)) for levels in found.levels]
        small = found.prune(counts)
        assert found.cost.macs(counts) == counted_macs(small, image)
        assert found.cost.params(counts) == sum(value.numel() for value in small.parameters())
        assert sum(found.cost.layer_macs(counts)) == found.cost.macs(counts)
        assert found.cost.macs_form.many(np.array([counts])).tolist() == [found.cost.macs(counts)]
        assert small(image).isfinite().all()


def test_a_size_in_bytes_counts_what_went() -> None:
    found = problem(budget="size=0.6")
    for level in (0, 1):
        counts = [size if size > 1 else level for size in (one.size for one in found.decisions)]
        state = found.prune(counts).state_dict()
        assert found.costs["size"](counts) == sum(value.numel() * value.element_size() for value in state.values())


def test_branches_are_proved_and_those_that_are_not_what_they_say_are_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    budgeted = under_budget(trace(make_net(), torch.zeros(2, 2, 6, 6)), 0.5, decide=[KIND])
    assert [one.name for one in budgeted.decided.decisions] == [f"blocks.{i}.branch (branch)" for i in range(3)]
    monkeypatch.setattr(Branch, "apply", lambda self, network, level: network)
    with pytest.raises(UsageError, match="Nothing in this network can be pruned"):
        under_budget(trace(make_net(), torch.zeros(2, 2, 6, 6)), 0.5, decide=[KIND])
    found = under_budget(trace(make_net(), torch.zeros(2, 2, 6, 6)), 0.5, decide=SEARCHED)
    assert all(one.size > 1 for one in found.decided.decisions)
    assert sum("stays whole: applied at level 0 the network does not compute" in note for note in found.notes) == 3


def test_what_costs_are_claimed_is_proved_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Branch, "layers", frozenset(), raising=False)
    honest = Branch.__init__

    def forgetful(self: Branch, *given: Any) -> None:
        honest(self, *given)
        object.__setattr__(self, "layers", frozenset())

    monkeypatch.setattr(Branch, "__init__", forgetful)
    found = under_budget(trace(make_net(), torch.zeros(2, 2, 6, 6)), 0.5, decide=SEARCHED)
    assert sum("multiply-adds and" in note for note in found.notes) == 3


@pytest.mark.parametrize("agent", ["auto", "tpe", "ddpg"])
def test_a_search_decides_both(agent: str, tmp_path: Path) -> None:
    out = tmp_path / "run"
    result = search(agent, "macs=0.5,params=0.9", out=out)
    dense = counted_macs(make_net(), torch.zeros(2, 2, 6, 6))
    small = counted_macs(result.model, torch.zeros(2, 2, 6, 6))
    assert small <= 0.5 * dense
    entries = {entry.name: entry for entry in result.policy.groups}
    assert {entry.kind for entry in entries.values()} == set(SEARCHED)
    episodes = RunFolder(out).read_episodes()
    levels = {episode.counts["blocks.1.branch (branch)"] for episode in episodes}
    assert levels == {0, 1}  # both were tried
    projector = problem(budget="macs=0.5,params=0.9").projector
    for episode in episodes:
        if episode.feasible:
            assert projector.is_full(tuple(episode.counts.values()))  # the budget is used up
    # From the files alone, and the policy's own words.
    policy = Policy.load(out / "policy.json")
    loaded = network_of(make_net(), build_graph(make_net(), torch.zeros(2, 2, 6, 6)), policy)
    assert counted_macs(loaded, torch.zeros(2, 2, 6, 6)) == small
    again = search(agent, "macs=0.5,params=0.9", out=out)
    assert again.policy == result.policy
    image = torch.randn(3, 2, 6, 6)
    torch.testing.assert_close(again.model(image), result.model(image))


def test_the_exact_budget_is_met_from_both_sides() -> None:
    found = problem(budget=0.4)
    rng = np.random.default_rng(1)
    for _ in range(30):
        counts = found.projector.project(rng.random(len(found.decisions)))
        assert found.projector.is_full(counts)
        assert found.cost.macs(counts) <= 0.4 * found.cost.dense_macs


def test_prune_rebuilds_it_and_a_kind_that_is_not_registered_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    result = search("uniform", 0.3, episodes=1, out=tmp_path / "run")
    factory = tmp_path / "nets.py"
    factory.write_text("from tests.decisions.test_branches import make_net\n")
    policy = tmp_path / "run" / "policy.json"
    arguments = ["prune", "--policy", str(policy), "--model", f"{factory}:make_net", "--out", str(tmp_path / "small")]
    assert main(arguments) == 0, capsys.readouterr().err
    found = autoprune.Policy.load(tmp_path / "small" / "policy.json")
    assert found.groups == result.policy.groups
    assert main(["report", str(tmp_path / "run")]) == 0
    assert "blocks.1.branch (branch)" in (tmp_path / "run" / "report.html").read_text()
    changed = json.loads(policy.read_text())
    changed.pop("checksum", None)
    for entry in changed["groups"]:
        if "kind" in entry:
            entry["kind"] = "os:system"
    (tmp_path / "evil.json").write_text(json.dumps(changed))
    arguments[2] = str(tmp_path / "evil.json")
    capsys.readouterr()
    assert main([*arguments, "--no-refit"]) != 0
    assert "os:system" in capsys.readouterr().err


KILLED = """
import sys
from pathlib import Path
from tests.decisions.test_branches import search
search("tpe", 0.5, out=Path(sys.argv[1]))
"""


def test_killed_and_continued_it_is_the_undisturbed_run(tmp_path: Path) -> None:
    whole = search("tpe", 0.5, out=tmp_path / "whole")
    root = Path(__file__).resolve().parents[2]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(root), os.environ.get("PYTHONPATH", "")])}
    process = subprocess.Popen([sys.executable, "-c", KILLED, str(tmp_path / "killed")], env=environment)
    journal = RunFolder(tmp_path / "killed").episodes_path
    while process.poll() is None and (not journal.exists() or journal.read_text().count("\n") < 3):
        pass
    process.send_signal(signal.SIGKILL)
    process.wait()
    continued = search("tpe", 0.5, out=tmp_path / "killed")
    assert continued.policy.groups == whole.policy.groups
    for name, value in whole.model.state_dict().items():
        assert torch.equal(value, continued.model.state_dict()[name])


@pytest.mark.parametrize(
    ("kind", "says"),
    [
        ("math:sqrt", "'math:sqrt' raised TypeError: .*function of \\(model, graph\\)"),
        ("math:pi", "'math:pi' is not callable"),
        ("brunches", "Did you mean 'branches'"),
        ("autoprune.decisions:channel_groups", "raised TypeError"),
    ],
)
def test_a_kind_that_is_none_is_refused_in_a_sentence(kind: str, says: str) -> None:
    with pytest.raises(UsageError, match=says):
        under_budget(trace(make_net(), torch.zeros(2, 2, 6, 6)), 0.5, decide=["channels", kind])
