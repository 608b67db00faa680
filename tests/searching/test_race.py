"""Racing: what is stopped, what it is then said to have, and what it costs."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset, TensorDataset

from autoprune.budget import Budget
from autoprune.errors import UsageError
from autoprune.evaluation import Z_THRESHOLD, Evaluator, Score, clearly_worse
from autoprune.runs import Episode, RunFolder

from ..problem.test_problem import problem

CPU = torch.device("cpu")


class Table(nn.Module):
    """Looks its answer up: an image is its own number."""

    def __init__(self, logits: Tensor) -> None:
        super().__init__()
        self.logits = logits
        self.seen = 0

    def forward(self, x: Tensor) -> Tensor:
        self.seen += len(x)
        return self.logits[x[:, 0].long()]


def part(count: int) -> TensorDataset:
    """Images of which each holds its number, sorted by class as an image folder is."""
    return TensorDataset(torch.arange(count)[:, None].float(), torch.arange(count) * 4 // count)


def answers(right: list[bool], margin: float) -> Tensor:
    """Logits by image that favour the right class, or the one after it, by ``margin``."""
    labels = torch.arange(len(right)) * 4 // len(right)
    chosen = torch.where(torch.tensor(right), labels, (labels + 1) % 4)
    return margin * nn.functional.one_hot(chosen, 4).float()


def race(
    baseline: Tensor, other: Tensor, *, loader: bool = False
) -> tuple[tuple[float, float], tuple[float, float], Table]:
    """Return what a model gets alone and in a race against a baseline, and the model that raced."""
    data: Dataset[tuple[Tensor, ...]] | DataLoader[tuple[Tensor, ...]] = part(len(baseline))
    found = Evaluator(DataLoader(data, batch_size=10) if loader else data, name="search", device=CPU, batch_size=10)
    found(Table(baseline))
    best = found.answers
    alone = found(Table(other))
    table = Table(other)
    return alone, found(table, best), table


@pytest.mark.parametrize("loader", [False, True])
def test_a_clearly_worse_model_is_stopped_and_its_result_is_the_baselines_and_the_difference(loader: bool) -> None:
    rng = np.random.default_rng(0)
    baseline = answers((rng.random(400) < 0.9).tolist(), 3.0)
    other = answers((rng.random(400) < 0.4).tolist(), 3.0)
    alone, raced, table = race(baseline, other, loader=loader)
    assert table.seen == 100  # every fourth of forty batches, of every class
    seen = torch.cat([torch.arange(start, start + 10) for start in range(0, 400, 40)])
    labels = torch.arange(400) * 4 // 400
    right = [(logits.argmax(1) == labels).double() for logits in (baseline, other)]
    loss = [nn.functional.cross_entropy(logits, labels, reduction="none").double() for logits in (baseline, other)]
    assert raced[0] == pytest.approx(float(right[0].mean() + (right[1] - right[0])[seen].mean()))
    assert raced[1] == pytest.approx(float(loss[0].mean() + (loss[1] - loss[0])[seen].mean()), rel=1e-5)
    assert abs(raced[0] - alone[0]) < 4 * 0.5 / math.sqrt(100)


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10**6), st.floats(0.5, 1.0), st.floats(0.5, 1.0))
def test_who_is_not_stopped_gets_the_same_result_as_alone(seed: int, good: float, better: float) -> None:
    rng = np.random.default_rng(seed)
    first, second = (answers((rng.random(130) < share).tolist(), 2.0) for share in (good, better))
    alone, raced, table = race(first, second)
    assert table.seen in (40, 70, 130)
    if table.seen == 130:
        assert raced == pytest.approx(alone)
    else:
        assert raced[1] > race(first, first)[0][1]


@pytest.mark.parametrize("count", [*range(1, 12), 21, 35])
def test_any_number_of_images_races(count: int) -> None:
    logits = answers([True] * count, 2.0)
    alone, raced, table = race(logits, logits)
    assert table.seen == count
    assert raced == pytest.approx(alone)


def test_clearly_worse_is_a_paired_test() -> None:
    rng = np.random.default_rng(1)
    for shift in (0.05, 0.1, 0.2, 0.3):
        differences = rng.normal(shift, 1.0, 300)
        expected = stats.ttest_1samp(differences, 0.0).statistic > Z_THRESHOLD
        assert clearly_worse(torch.from_numpy(differences)) == expected
    assert not clearly_worse(torch.zeros(50))
    assert not clearly_worse(torch.ones(1))


def test_a_problem_that_races_scores_good_policies_alike_and_poor_ones_at_less_cost() -> None:
    plain, racing = problem(), problem()
    before = racing.setup_images
    uniform = plain.projector.project([0.5] * len(plain.decisions))
    racing.race_against([uniform, [levels[0] for levels in plain.levels]])
    assert racing.setup_images > before
    good, again = plain.score(uniform), racing.score(uniform)
    assert (again.accuracy, again.share, again.images) == (good.accuracy, 1.0, good.images)
    assert again.loss == pytest.approx(good.loss)
    assert again.drop_se == pytest.approx(good.drop_se)
    assert again.distance == pytest.approx(good.distance)
    poor = [levels[0] for levels in plain.levels]
    whole, stopped = plain.score(poor), racing.score(poor)
    assert stopped.share == pytest.approx((64 + 44) / 300)  # the first of five batches, and the last
    assert stopped.loss > good.loss
    assert stopped.distance > good.distance
    assert whole.images - stopped.images == pytest.approx(
        (1 - stopped.share) * 300 * whole.macs / plain.cost.dense_macs
    )
    assert racing.score(poor).loss == stopped.loss
    small, data = racing.prune(poor), Evaluator(lambda _: {"accuracy": 0.5}, name="search", device=CPU)
    assert racing.run(small) == pytest.approx((whole.accuracy, whole.loss))
    assert not data.races


def test_a_race_is_refused_where_it_cannot_be_run() -> None:
    found = problem(evaluate=lambda _network: {"accuracy": 0.5, "loss": 1.0})
    with pytest.raises(UsageError, match="one by one"):
        found.race_against([[levels[-1] for levels in found.levels]])
    from ..runs.test_run import CONFIG, replace

    for budget in (Budget(max_drop=1.0), Budget(0.5, "at-most")):
        with pytest.raises(UsageError, match="leave --race out"):
            replace(CONFIG, race=True, budget=budget)


def test_the_share_is_in_the_journal(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    written = Episode(
        "tpe",
        0,
        {"conv": 1},
        Score(0.5, 1.0, 10, 20, reward=0.1, images=5.0, drop_se=0.1, distance=0.2, share=0.25),
        True,
        False,
        1.0,
    )
    folder.append(written)
    assert folder.read_episodes() == [written]
