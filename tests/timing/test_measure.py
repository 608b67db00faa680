from __future__ import annotations

import gc
from collections.abc import Callable

import pytest

from autoprune.errors import UsageError
from autoprune.timing import Timing, measure


class Machine:
    """A machine with a clock of its own, whose work takes as long as it is told."""

    def __init__(self) -> None:
        self.now = 100.0
        self.slow = 1.0
        self.done: list[str] = []

    def clock(self) -> float:
        return self.now

    def work(self, name: str, seconds: float, jitter: Callable[[int], float] = lambda call: 1.0) -> Callable[[], None]:
        def run() -> None:
            self.done.append(name)
            self.now += seconds * self.slow * jitter(self.done.count(name))

        return run


def test_median_quartiles_and_ratio_are_those_of_the_textbook() -> None:
    own, base = Timing((1.0, 2.0, 3.0, 4.0, 9.0)), Timing((2.0, 2.0, 2.0, 2.0, 2.0))
    assert own.median_s == 3.0
    assert own.iqr_s == 2.0  # quartiles 2 and 4
    assert own.ratio(base) == 1.5


def test_a_steady_machine_needs_the_fewest_rounds() -> None:
    machine = Machine()
    found = measure({"dense": machine.work("dense", 0.02), "small": machine.work("small", 0.01)}, clock=machine.clock)
    assert found.precise
    assert found.rounds == 7
    assert found.timings["dense"].median_s == pytest.approx(0.02)
    assert found.timings["small"].ratio(found.timings["dense"]) == pytest.approx(0.5)


def test_drift_cancels_because_functions_are_called_in_turn() -> None:
    machine = Machine()

    def slower(call: int) -> float:
        machine.slow *= 1.001
        return 1.0

    functions = {"dense": machine.work("dense", 0.02, slower), "small": machine.work("small", 0.01, slower)}
    found = measure(functions, clock=machine.clock, precision=0.0, budget_s=60, most_rounds=300)
    dense, small = found.timings["dense"], found.timings["small"]
    assert dense.samples[-1] > 1.5 * dense.samples[0]  # the machine got much slower
    assert small.ratio(dense) == pytest.approx(0.5, rel=2e-3)


def test_every_round_begins_with_another_function() -> None:
    machine = Machine()
    functions = {name: machine.work(name, 0.02) for name in "abc"}
    measure(functions, clock=machine.clock, warmup_s=0.0, least_rounds=4, most_rounds=4)
    assert "".join(machine.done[9:]) == "abc" + "bca" + "cab" + "abc"  # behind three calls each to warm up


def test_quick_functions_are_called_several_times_a_sample() -> None:
    machine = Machine()
    found = measure({"quick": machine.work("quick", 0.0005)}, clock=machine.clock, warmup_s=0.0, sample_s=0.005)
    assert found.timings["quick"].median_s == pytest.approx(0.0005)
    assert len(machine.done) == 3 + 10 * found.rounds


def test_noise_is_measured_longer_and_said_if_it_stays() -> None:
    def noise(call: int) -> float:
        return 1.0 + 0.5 * (call * 2654435761 % 97) / 97  # spread evenly, unlike from call to call

    machine = Machine()
    functions = {"dense": machine.work("dense", 0.02), "small": machine.work("small", 0.01, noise)}
    found = measure(functions, clock=machine.clock, budget_s=1e9, most_rounds=10_000)
    assert found.precise
    assert found.rounds > 100
    short = measure(functions, clock=machine.clock, budget_s=0.1)
    assert not short.precise
    assert short.rounds == 7
    few = measure(functions, clock=machine.clock, budget_s=1e9, most_rounds=9)
    assert (few.precise, few.rounds) == (False, 9)


def test_the_garbage_collector_is_left_as_it_was() -> None:
    machine = Machine()
    during: list[bool] = []

    def run() -> None:
        during.append(gc.isenabled())
        machine.now += 0.01

    measure({"run": run}, clock=machine.clock, warmup_s=0.0)
    assert gc.isenabled()
    assert not any(during[3:])


def test_what_makes_no_sense_is_refused() -> None:
    with pytest.raises(UsageError, match="nothing to time"):
        measure({})
    with pytest.raises(UsageError, match="rounds are 5 to 4"):
        measure({"a": lambda: None}, least_rounds=5, most_rounds=4)
