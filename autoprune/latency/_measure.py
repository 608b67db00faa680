"""Measuring pruned networks in turn with the dense one."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from statistics import median

import numpy as np
import numpy.typing as npt
from torch import Tensor, nn

from autoprune.errors import AutopruneError
from autoprune.graph import Group, PruningGraph
from autoprune.latency._design import design
from autoprune.latency._profile import Profile, Sample
from autoprune.latency._remeasuring import Remeasuring
from autoprune.latency._segments import Segments
from autoprune.latency._sessions import Ready, VariantSession
from autoprune.latency._target import Target
from autoprune.timing import Measured, busy_note, load_average, measure, measuring

FloatArray = npt.NDArray[np.float64]
Say = Callable[[str], None]
PRECISION = 0.02
"""The quotient of a network's time and the dense one's is to be known to this share of itself."""
_LEAST_PARTS, _MOST_PARTS, _PARTS_S = 5, 50, 0.3
PLACEMENTS = 3
"""How often networks whose time matters most are made ready anew: where their weights and threads come to lie is worth some
percent. The middle one counts."""
NETWORKS = 34
LEAST_NETWORKS = 14


def profile_model(
    model: nn.Module,
    graph: PruningGraph,
    decisions: Sequence[Group],
    levels: Sequence[tuple[int, ...]],
    example: Tensor,
    target: Target,
    *,
    path: str | os.PathLike[str] | None = None,
    networks: int = NETWORKS,
    budget_s: float = 150.0,
    seed: int = 0,
    clock: Callable[[], float] | None = None,
    progress: Callable[[int, int], None] | None = None,
    say: Say | None = None,
) -> Profile:
    """Measure pruned variants of a network on a target: the dense one, the smallest and others in between.

    Each is called in turn with the dense network, whole and in segments, and written down at once: what is in the file
    already is not measured again.

    Args:
        model: The dense network.
        graph: Its coupling graph.
        decisions: The groups that a policy decides.
        levels: For each the allowed counts.
        example: Images (B, C, H, W).
        target: What will run the network.
        path: The profile's file, made or continued; None to keep it in memory.
        networks: How many networks.
        budget_s: After so many seconds no other is begun, once there are 14.
        seed: Of the choice of networks.
        clock: Tells seconds; None for the one that suits the target.
        progress: Told how many networks are measured, of how many.
        say: Told what is being done.

    Raises:
        UsageError: if the file is damaged or for another target or machine.
        AutopruneError: if the machine is too busy for a time to be known, or the network does not run on the target.
    """
    profile = Profile.open(target, path)
    began = time.perf_counter()
    _measure_all(
        profile,
        model,
        graph,
        decisions,
        example,
        list(dict.fromkeys([Segments(graph, decisions).sizes, *design(levels, networks, seed=seed)])),
        say=say,
        clock=clock,
        progress=progress,
        enough=lambda done: done >= LEAST_NETWORKS and time.perf_counter() - began > budget_s,
    )
    return profile


def refine(
    profile: Profile,
    model: nn.Module,
    graph: PruningGraph,
    decisions: Sequence[Group],
    policies: Sequence[Sequence[int]],
    example: Tensor,
    *,
    clock: Callable[[], float] | None = None,
    say: Say | None = None,
) -> list[float]:
    """Measure given policies too, in several placements, so that the profile predicts best around them.

    Args:
        profile: The profile, which they are added to.
        model: The dense network.
        graph: Its coupling graph.
        decisions: The groups that a policy decides.
        policies: Kept channels of each decision.
        example: Images (B, C, H, W).
        clock: Tells seconds; None for the one that suits the target.
        say: Told what is being done.

    Returns:
        The policies' times over the dense network's.

    Raises:
        UsageError: if the profile is for another machine.
        AutopruneError: as in `profile_model`.
    """
    wanted = [tuple(group.size for group in decisions), *(tuple(int(count) for count in counts) for counts in policies)]
    _measure_all(profile, model, graph, decisions, example, wanted, clock=clock, say=say, placements=PLACEMENTS)
    found = {_key(sample.counts): sample.ratio for sample in profile.of(Segments(graph, decisions).network)}
    return [found[_key(_named(decisions, counts))] for counts in policies]


def _measure_all(
    profile: Profile,
    model: nn.Module,
    graph: PruningGraph,
    decisions: Sequence[Group],
    example: Tensor,
    wanted: Sequence[tuple[int, ...]],
    *,
    say: Say | None = None,
    clock: Callable[[], float] | None = None,
    progress: Callable[[int, int], None] | None = None,
    enough: Callable[[int], bool] = lambda done: False,
    placements: int = 1,
) -> None:
    """Measure networks that the profile does not have yet, until it is enough of them."""
    profile.check(profile.target)
    tell = say or (lambda text: None)
    segments = Segments(graph, decisions)
    known = {_key(sample.counts) for sample in profile.of(segments.network)}
    todo = [counts for counts in dict.fromkeys(wanted) if _key(_named(decisions, counts)) not in known]
    done = len(wanted) - len(todo)
    if done:
        tell(f"Continuing: {done} of {len(wanted)} networks were measured already")
    if not todo or enough(done):
        return
    profile.add_network(segments.network, segments.keys)
    session = VariantSession(model, graph, decisions, example, profile.target, expected=len(todo) + 1, clock=clock)
    with measuring(profile.target.threads, tell), session:
        tell(f"Measuring {len(todo)} networks")
        remeasuring = Remeasuring(say=tell)
        compiled = session.ready(segments.sizes) if profile.target.runtime == "compile" else None

        def pair(counts: tuple[int, ...]) -> tuple[Ready, Ready]:
            """Return the dense network and a policy's, each in a place of its own; compiling, which takes a minute, once."""
            dense = compiled or session.ready(segments.sizes)
            return dense, dense if counts == segments.sizes else session.ready(counts)

        for counts in todo:
            if enough(done):
                return
            before = [sample.dense_s for sample in profile.of(segments.network)]
            usual = median(before) if before else None
            times = 1 if compiled or counts == segments.sizes else placements
            every = [_timed(*pair(counts), profile.target, session.clock, remeasuring, usual) for _ in range(times)]
            found = sorted(every, key=lambda found: found.ratio)[times // 2]
            profile.add(
                Sample(
                    network=segments.network,
                    counts=_named(decisions, counts),
                    channels=segments.channels(np.array([counts]))[0],
                    dense_s=found.dense_s,
                    ratio=found.ratio,
                    known=found.known,
                    rounds=found.rounds,
                    parts=found.parts,
                    spans=None if found.parts is None else session.spans,
                )
            )
            done += 1
            if progress is not None:
                progress(done, len(wanted))


def _key(counts: Mapping[str, int]) -> tuple[tuple[str, int], ...]:
    return tuple(sorted(counts.items()))


def _named(decisions: Sequence[Group], counts: Sequence[int]) -> dict[str, int]:
    return {group.name: count for group, count in zip(decisions, counts, strict=True) if count != group.size}


@dataclass(frozen=True)
class _Found:
    dense_s: float
    ratio: float
    known: float
    rounds: int
    parts: FloatArray | None


def _timed(
    dense: Ready,
    ready: Ready,
    target: Target,
    clock: Callable[[], float],
    remeasuring: Remeasuring,
    usual: float | None,
) -> _Found:
    """Time a network in turn with the dense one, if possible in no slow phase of the machine, until the quotient is known.

    Raises:
        AutopruneError: if that takes too long.
    """
    functions = {"dense": dense.whole, "network": ready.whole}
    measured = remeasuring.best(
        lambda: resolved_times(functions, target, clock=clock, limit=2 * PRECISION, second_s=8.0), usual
    )
    base, own = measured.timings["dense"], measured.timings["network"]
    ratio = own.ratio(base) if ready is not dense else 1.0
    parts = None
    if ready.parts is not None:
        run = ready.parts()
        for _ in range(max(_LEAST_PARTS, min(_MOST_PARTS, round(_PARTS_S / own.median_s)))):
            run()
        seconds = run.seconds()
        if seconds is not None and len(seconds):
            parts = shares(seconds, own.median_s)
    return _Found(base.median_s, ratio, own.known(base), measured.rounds, parts)


def resolved_times(
    functions: Mapping[str, Callable[[], object]],
    target: Target,
    *,
    clock: Callable[[], float],
    limit: float = PRECISION,
    first_s: float = 2.0,
    second_s: float = 20.0,
) -> Measured:
    """Time functions in turn until the quotients with the first are known.

    One percent is tried for, then with more time two.

    Args:
        functions: By name, the dense network first.
        target: What they run on.
        clock: Tells seconds.
        limit: The share of itself to which a quotient must be known in the end: more for the samples of a profile, which a
            regression averages over and whose error is stated, than for what is reported.
        first_s: How long the first try may take.
        second_s: How long the second may.

    Raises:
        AutopruneError: if that is not reached: the machine is too busy.
    """
    known = 0.0
    rounds = 0
    for precision, seconds in ((PRECISION / 2, first_s), (PRECISION, second_s)):
        measured = measure(
            functions,
            precision=precision,
            budget_s=seconds,
            most_rounds=1000,
            sample_s=0.02,
            warmup_s=0.05,
            clock=clock,
        )
        base, *others = measured.timings.values()
        known, rounds = max((timing.known(base) for timing in others), default=0.0), measured.rounds
        if known <= PRECISION:
            return measured
    if known <= limit:
        return measured
    busy = busy_note(target.threads or 1, load_average())
    raise AutopruneError(
        f"The time of a network on the target ({target}) is known to {100 * known:.1f} % only after {rounds} rounds, but must be "
        f"to {100 * limit:g} %; nothing is reported from that. {busy or 'Other work disturbs this machine'}: when it is "
        "quiet, run the same again, which continues."
    )


def shares(seconds: FloatArray, whole_s: float) -> FloatArray:
    """Return the share of the time of each segment, corrected for what measuring them took.

    What is missing to the whole time, or too much, is the same for each segment: a hook, a kernel's launch.

    Args:
        seconds: Seconds of each segment while segments were timed.
        whole_s: Seconds of the whole network while they were not.
    """
    corrected = (seconds + (whole_s - seconds.sum()) / len(seconds)).clip(min=0.1 * seconds)
    found: FloatArray = corrected / corrected.sum()
    return found
