"""Random small networks composed of the operators: never a crash, and what is pruned equals the masked original.

Judged by surgery and an oracle that shares no code with the proof (``autoprune.testing``), MACs and parameters included.
"""

from __future__ import annotations

import os

import pytest
import torch
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st

from autoprune.graph import _trace, build_graph, prove
from autoprune.testing import check_surgery, randomised

from .._sample import count
from ._programs import OPERATORS, REFUSED, SIDE, Program

PROGRAMS = int(os.environ.get("AUTOPRUNE_PROGRAMS", count(520, 160)))
"""Programs in the suite; set the variable for more."""
BLOCKS = 10
EXPORTED = 5
"""One of so many is traced by ``torch.export``; the others are recorded: the same rules on the same operators, sooner."""

Code = list[tuple[int, int, int, int]]
OFTEN = [number for number, name in enumerate(OPERATORS) if name not in REFUSED]
CODES = st.lists(
    st.tuples(
        st.sampled_from([*OFTEN, *OFTEN, *OFTEN, *range(len(OPERATORS))]),
        st.sampled_from([0, 0, 0, 1, 1, 2, 3, 9]),
        st.sampled_from([1, 1, 2, 3, 4, 0]),
        st.integers(0, 7),
    ),
    min_size=3,
    max_size=9,
)


def _refuse(*args: object, **kwargs: object) -> None:
    raise RuntimeError("not exported")


def check(code: Code, *, exported: bool) -> int:
    """Return how many groups of a program were pruned and found right."""
    torch.manual_seed(len(code))
    model = randomised(Program(code)).double()
    images = torch.randn(2, 3, SIDE, SIDE, dtype=torch.float64)
    with pytest.MonkeyPatch.context() as patch:
        if not exported:
            patch.setattr(_trace.torch.export, "export", _refuse)
        graph = build_graph(model, images)
    graph = prove(model, graph, images)
    found = check_surgery(model, graph, images, policies=2, seed=len(code))
    assert found.distance < 1e-8, model.names
    assert (found.macs_wrong, found.params_wrong) == (0, 0), model.names
    return sum(group.reason is None for group in graph.groups)


@pytest.mark.parametrize("block", range(BLOCKS))
def test_programs(block: int) -> None:
    pruned: list[int] = []

    @seed(block)
    @settings(
        max_examples=PROGRAMS // BLOCKS,
        deadline=None,
        database=None,
        phases=(Phase.generate, Phase.shrink),
        suppress_health_check=list(HealthCheck),
    )
    @given(CODES)
    def run(code: Code) -> None:
        pruned.append(check(code, exported=len(pruned) % EXPORTED == 0))

    run()
    assert len(pruned) >= PROGRAMS // BLOCKS
    assert sum(count > 0 for count in pruned) > 0.8 * len(pruned)  # refusing is no way out


def test_every_operator_is_used() -> None:
    names = list(OPERATORS)
    same, one = (names.index("relu"), 0, 0, 0), (names.index("conv to one channel"), 0, 0, 0)
    for number, name in enumerate(names):
        before: list[Code] = [[], [same], [one, (names.index("relu"), 1, 0, 0)]]
        codes = [[*first, (number, 0, 1, form)] for first in before for form in range(8)]
        assert any(name in Program(code).names for code in codes), name
