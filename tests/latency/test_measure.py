from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import cast

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from autoprune.cli import main
from autoprune.cost import CostModel, Projector
from autoprune.errors import AutopruneError, UsageError
from autoprune.latency import (
    LatencyCost,
    Multiple,
    PricedGroups,
    Profile,
    Target,
    measured_ratio,
    profile_model,
    refine,
    refine_around,
)
from autoprune.latency._check import middle
from autoprune.latency._design import design
from autoprune.latency._eager import EagerSegments, hooked_layers
from autoprune.latency._measure import resolved_times, shares
from autoprune.latency._remeasuring import Remeasuring
from autoprune.latency._rounding import smallest_fast
from autoprune.timing._measure import Measured, Timing

from ._synthetic import TARGET, Net, levels_of, measured, traced

NET = Net()
GRAPH, DECISIONS, EXAMPLE = traced(NET)
LEVELS = levels_of(DECISIONS)


class Ticks:
    """A clock that goes on by one step whenever it is looked at."""

    def __init__(self, step: float = 0.01) -> None:
        self.now, self.step = 0.0, step

    def __call__(self) -> float:
        self.now += self.step
        return self.now


def profiled(path: Path | None, networks: int, progress: Callable[[int, int], None] | None = None) -> Profile:
    return profile_model(
        NET, GRAPH, DECISIONS, LEVELS, EXAMPLE, TARGET, path=path, networks=networks, clock=Ticks(), progress=progress
    )


def test_an_interrupted_profile_continues(tmp_path: Path) -> None:
    path = tmp_path / "cpu.jsonl"

    def interrupt(done: int, total: int) -> None:
        assert total == 7
        if done == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        profiled(path, 7, interrupt)
    kept = path.read_text()
    assert len(Profile.load(path).samples) == 3
    seen: list[int] = []
    whole = profiled(path, 7, lambda done, total: seen.append(done))
    assert seen == [4, 5, 6, 7]
    assert path.read_text().startswith(kept)
    in_one_go = profiled(None, 7)
    assert [sample.counts for sample in whole.samples] == [sample.counts for sample in in_one_go.samples]
    assert profiled(path, 7).path == path
    assert len(Profile.load(path).samples) == 7  # nothing was left to do


def test_segments_of_equal_length_on_a_clock_of_equal_steps() -> None:
    sample = profiled(None, 2).samples[1]
    assert sample.ratio == pytest.approx(1.0)
    assert sample.parts is not None
    assert sample.parts.sum() == pytest.approx(1.0)
    np.testing.assert_allclose(sample.parts[1:], sample.parts[1])
    assert sample.spans == tuple(range(8))


def test_given_policies_are_added_once() -> None:
    profile = profiled(None, 6)
    policies = [[5] * len(DECISIONS), [6] * len(DECISIONS), [5] * len(DECISIONS)]
    for _ in range(2):
        refine(profile, NET, GRAPH, DECISIONS, policies, EXAMPLE, clock=Ticks())
        assert len(profile.samples) == 8
    assert profile.samples[-1].counts == {group.name: 6 for group in DECISIONS}
    assert LatencyCost(profile, GRAPH, DECISIONS).dense > 0


class Guess:
    """A prediction: any network takes a share of what the dense one does."""

    dense = 1.0

    def __init__(self, share: float) -> None:
        self.share = share

    def __call__(self, counts: Sequence[int]) -> float:
        return self.share


@pytest.mark.parametrize(("guesses", "rounds"), [((1.0,), 1), ((0.5, 1.005), 2), ((0.5,) * 9, 4)])
def test_a_profile_is_refined_until_it_predicts(guesses: tuple[float, ...], rounds: int) -> None:
    profile = profiled(None, 6)  # on that clock every network takes what the dense one does
    macs = CostModel(GRAPH, DECISIONS)
    asked: list[float] = []

    def price() -> PricedGroups:
        asked.append(guesses[len(asked)])
        budget = (0.8 - 0.1 * len(asked)) * macs.dense_macs
        return DECISIONS, cast(LatencyCost, Guess(asked[-1])), Projector([(macs.macs_form, budget)], LEVELS)

    refine_around(profile, NET, GRAPH, EXAMPLE, price, clock=Ticks())
    assert len(asked) == rounds
    assert len(profile.samples) == 6 + 3 * rounds


def test_a_busy_machine_is_refused() -> None:
    rng = np.random.default_rng(0)
    clock = Ticks(0.0)

    def work() -> None:
        clock.now += float(rng.exponential())

    with pytest.raises(
        AutopruneError, match=r"is known to .* % only after .* rounds, but must be to 2 %; nothing is reported"
    ):
        resolved_times({"dense": work, "small": work}, TARGET, clock=clock)


def test_the_final_check_times_both_networks() -> None:
    modes = NET.training
    found = measured_ratio(NET, Net(inner=4), TARGET, EXAMPLE, clock=Ticks())
    assert found.ratio == pytest.approx(1.0)
    assert found.known == pytest.approx(0.0, abs=1e-9)
    assert NET.training == modes
    with pytest.raises(AutopruneError, match="does not run on the target"):
        measured_ratio(NET, nn.Linear(3, 3), TARGET, EXAMPLE, clock=Ticks())


def test_the_middle_of_three_placements_counts() -> None:
    def placement(dense_s: float, pruned_s: float) -> Measured:
        timings = {"dense": Timing((dense_s,) * 5), "pruned": Timing((pruned_s,) * 5)}
        return Measured(timings, precise=True)

    found = middle([placement(2.0, 1.8), placement(1.0, 0.5), placement(4.0, 2.4)])
    assert (found.ratio, found.least, found.most) == (pytest.approx(0.6), pytest.approx(0.5), pytest.approx(0.9))
    assert (found.dense_s, found.seconds) == (4.0, 2.4)


def test_a_slow_spell_is_waited_out() -> None:
    class SlowPhase(Ticks):
        """Steps that are long until 2000 were taken."""

        calls = 0

        def __call__(self) -> float:
            self.calls += 1
            self.step = 0.03 if self.calls < 2000 else 0.01
            return super().__call__()

    slow = measured_ratio(NET, Net(inner=4), TARGET, EXAMPLE, clock=SlowPhase())
    assert slow.dense_s == pytest.approx(0.03)
    found = measured_ratio(NET, Net(inner=4), TARGET, EXAMPLE, clock=SlowPhase(), dense_s=0.01)
    assert found.dense_s == pytest.approx(0.01)
    assert found.ratio == pytest.approx(1.0)


def test_a_sample_is_not_taken_in_a_spell() -> None:
    took = iter([0.03, 0.03, 0.011])
    said: list[str] = []

    def measure() -> Measured:
        return Measured({"dense": Timing((next(took),) * 5)}, precise=True)

    assert Remeasuring(say=said.append).best(measure, 0.01).timings["dense"].median_s == 0.011
    assert said == [
        "The machine is not as it was: the dense network takes 30 instead of 10 ms; measuring again for up to 120 s"
    ]
    took = iter([0.005, 0.009])
    assert Remeasuring().best(measure, 0.01).timings["dense"].median_s == 0.009
    took = iter([0.03, 0.01])
    assert Remeasuring(0.0).best(measure, 0.01).timings["dense"].median_s == 0.03  # what is left to wait is nothing


def test_designs_fill_the_space_and_begin_alike() -> None:
    levels = [tuple(range(1, 17))] * 6
    found = design(levels, 33)
    assert found[:12] == design(levels, 12)
    assert found[0] == (16,) * 6
    assert found[1] == (1,) * 6
    assert len(set(found)) == 33
    shares_ = np.array(found[2:]).mean(axis=1) / 16
    assert np.histogram(shares_, bins=4, range=(0, 1))[0].min() >= 4
    for counts in np.array(found[2:]).T:
        assert len(set(counts.tolist())) >= 10


def test_what_measuring_took_is_taken_off_evenly() -> None:
    hooked = np.array([1.0, 2.0, 3.0]) + 0.3
    np.testing.assert_allclose(shares(hooked, 6.0), [1 / 6, 2 / 6, 3 / 6])
    assert (shares(np.array([0.1, 5.0]), 2.0) > 0).all()


class Twice(nn.Module):
    """Calls one layer twice, and one by its weight alone."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Linear(4, 4), nn.Linear(4, 4)

    def forward(self, x: Tensor) -> Tensor:
        found: Tensor = self.a(nn.functional.linear(self.a(x), self.b.weight))
        return found


def test_layers_without_a_call_of_their_own_belong_to_the_one_before() -> None:
    net, x = Twice(), torch.randn(2, 4)
    assert hooked_layers(net, x, ["a", "b", "a#2"]) == (0, 2)
    assert hooked_layers(net, x, ["b", "a", "a#2"]) is None
    assert hooked_layers(net, x, ["x", "a"]) is None
    run = EagerSegments(net, x, ["a", "a#2"], clock=Ticks(1.0))
    for _ in range(4):
        run()
    assert run.seconds().tolist() == [2.0, 1.0]  # the stamp of the first layer is taken, too
    assert not net.a._forward_pre_hooks


@pytest.mark.parametrize(
    ("times", "chosen"),
    [
        ({1: 1.8, 2: 1.7, 4: 1.2, 8: 0.63, 16: 0.63}, 8),
        ({1: 0.70, 2: 0.695, 8: 0.69}, 1),
        ({1: 0.9, 4: 0.8, 8: 0.79}, 4),
        ({}, 1),
    ],
)
def test_the_smallest_multiple_near_the_best_is_chosen(times: dict[int, float], chosen: int) -> None:
    assert smallest_fast([Multiple(multiple, 0.5, time, time) for multiple, time in times.items()]) == chosen


def test_cuda_is_refused_where_there_is_none() -> None:
    if torch.cuda.is_available():
        pytest.skip("there is a GPU")
    with pytest.raises(UsageError, match="torch finds no CUDA here; use --device cpu"):
        profile_model(NET, GRAPH, DECISIONS, LEVELS, EXAMPLE, Target(device="cuda"))


def test_command_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from autoprune.models import load_model
    from autoprune.support.strict_json import parse_json

    loaded = load_model("digits")
    graph, decisions, _ = _traced_digits(loaded.model, loaded.example_input())
    path = tmp_path / "cpu.jsonl"
    measured(graph, decisions, lambda row, number: 1e-6 * (5.0 + float(row[:2].prod())), path=path, networks=14)
    arguments = ["profile", "--out", str(path), "--threads", "1", "--round-to", "1", "--networks", "14"]
    assert main([*arguments, "--json"]) == 0
    found = parse_json(capsys.readouterr().out)
    assert found["networks"] == 14
    assert sum(entry["share"] for entry in found["segments"]) == pytest.approx(1.0)
    assert 0 < found["smallest_ratio"] < 1
    assert main(arguments) == 0
    out = capsys.readouterr().out
    assert "digits, eager on cpu, batch 1, 1 thread, float32" in out
    assert f"Latency can be {found['smallest_ratio']:.3f}" in out
    assert main([*arguments, "--batch", "2"]) == 2
    assert "is for batch 1" in capsys.readouterr().err
    assert main(["profile", "--out", str(path), "--round-to", "few"]) == 2
    assert "--round-to is 'few'" in capsys.readouterr().err


def _traced_digits(model: nn.Module, example: Tensor):  # type: ignore[no-untyped-def]
    from autoprune.graph import build_graph
    from autoprune.problem import decidable

    graph = build_graph(model, example)
    return graph, decidable(graph, include_residual=False), example
