from __future__ import annotations

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from autoprune.budget import Budget
from autoprune.errors import UsageError
from autoprune.groups import allowed_counts


def test_known_levels() -> None:
    assert allowed_counts(16) == tuple(range(1, 17))
    assert allowed_counts(16, min_keep=0.1) == tuple(range(2, 17))
    assert allowed_counts(16, round_to=8) == (8, 16)
    assert allowed_counts(20, min_keep=0.5, round_to=8) == (16, 20)
    assert allowed_counts(5, round_to=8) == (5,)
    assert allowed_counts(10, min_keep=0.7) == (7, 8, 9, 10)  # 0.7 * 10 > 7 in floating point.
    assert allowed_counts(1, min_keep=1.0) == (1,)


@given(size=st.integers(1, 200), percent=st.integers(0, 100), round_to=st.integers(1, 70))
def test_levels_follow_the_rule(size: int, percent: int, round_to: int) -> None:
    least = Fraction(percent, 100) * size
    expected = [k for k in range(1, size + 1) if k >= least and (k % round_to == 0 or k == size)]
    assert list(allowed_counts(size, min_keep=percent / 100, round_to=round_to)) == expected


@pytest.mark.parametrize(
    "options", [{"min_keep": -0.1}, {"min_keep": 1.1}, {"min_keep": float("nan")}, {"round_to": 0}]
)
def test_bad_levels_are_refused(options: dict[str, float]) -> None:
    with pytest.raises(UsageError):
        allowed_counts(16, **options)  # type: ignore[arg-type]


@pytest.mark.parametrize(("value", "ratio"), [("0.5", 0.5), (1, 1.0), (0.25, 0.25), (" 1e-1 ", 0.1)])
def test_budgets(value: str | float, ratio: float) -> None:
    assert Budget(value) == Budget(ratio, "exact")
    assert Budget(value, "at-most").mode == "at-most"


@pytest.mark.parametrize("value", [0, "0", 1.5, "1.5", -0.5, "-1", "abc", "", "nan", float("nan"), "inf", True, None])
def test_bad_budgets_say_value_and_rule(value: object) -> None:
    with pytest.raises(UsageError) as caught:
        Budget(value)  # type: ignore[arg-type]
    assert f"'{value}'" in str(caught.value)
    assert "ratio in (0, 1]" in str(caught.value)


def test_bad_budget_mode() -> None:
    with pytest.raises(UsageError, match="'most'"):
        Budget(0.5, "most")  # type: ignore[arg-type]
