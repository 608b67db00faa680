"""The problem: budgets, notes, refusals, and scores that mean what they say."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset
from torch.utils.flop_counter import FlopCounterMode

from autoprune.budget import Budget
from autoprune.errors import AutopruneError, UsageError
from autoprune.evaluation import Score
from autoprune.problem import Problem, make_problem
from autoprune.surgery import prune_model

from ..reconstruct._networks import Residual, images, trained


def labelled(network: nn.Module, count: int, seed: int) -> TensorDataset:
    """Images with the network's own answers as labels: the dense accuracy is 1."""
    x = images(count, seed)
    with torch.no_grad():
        return TensorDataset(x, network(x).argmax(dim=1))


def problem(**options: object) -> Problem:
    network = trained(Residual())
    given: dict[str, object] = {
        "calibration": images(200, 11),
        "evaluate": labelled(network, 300, 12),
        "report": labelled(network, 200, 13),
        "budget": 0.5,
        "rows": 1000,
        **options,
    }
    return make_problem(network, images(2), **given)  # type: ignore[arg-type]


def test_scores_are_the_small_networks_own() -> None:
    found = problem()
    counts = found.projector.project([0.6] * len(found.decisions))
    score = found.score(counts)
    small = found.prune(counts)
    data = labelled(found.model, 300, 12)
    with torch.no_grad():
        logits = small(data.tensors[0])
    assert score.accuracy == pytest.approx(float((logits.argmax(1) == data.tensors[1]).float().mean()))
    assert score.loss == pytest.approx(float(nn.functional.cross_entropy(logits, data.tensors[1])), rel=1e-4)
    with FlopCounterMode(display=False) as counter:
        small(images(1))
    assert score.macs == counter.get_total_flops() // 2
    assert score.params == sum(parameter.numel() for parameter in small.parameters())
    assert score.reward == pytest.approx(score.accuracy - 1)
    assert score.cost == pytest.approx(score.seconds / found.dense_seconds)
    assert score.macs <= 0.5 * found.cost.dense_macs
    assert found.projector.is_full(counts)


@pytest.mark.parametrize("kind", ["sequential", "cached"])
def test_the_same_counts_always_get_the_same_score(kind: str) -> None:
    first, second = problem(score=kind), problem(score=kind)
    counts = first.projector.project([0.5] * len(first.decisions))
    other = first.projector.project([0.9] + [0.3] * (len(first.decisions) - 1))
    expected = first.score(counts)
    second.score(other)
    for found in (first.score(counts), second.score(counts)):
        assert (found.accuracy, found.loss) == (expected.accuracy, expected.loss)


@pytest.mark.parametrize(("batch_size", "passes"), [(30, 1), (64, 4)])
def test_the_dense_network_runs_over_many_batches_once_and_over_few_more_often(batch_size: int, passes: int) -> None:
    network = trained(Residual())
    seen: list[int] = []

    def count(_: nn.Module, given: tuple[Tensor, ...]) -> None:
        seen.append(len(given[0]))

    network.register_forward_pre_hook(count)
    found = make_problem(
        network,
        images(2),
        calibration=images(200, 11),
        evaluate=labelled(trained(Residual()), 300, 12),
        batch_size=batch_size,
    )
    scored = [size for size in seen if size in (batch_size, 300 % batch_size)]
    assert sum(scored) == passes * 300
    assert 0 < found.dense_seconds < math.inf


def test_what_preparing_computes_is_counted_by_the_pass() -> None:
    assert problem(batch_size=64).setup_images - problem(batch_size=30).setup_images == pytest.approx(3 * 300)


def test_dense_scores_itself() -> None:
    found = problem()
    assert found.dense.accuracy == 1.0
    assert found.dense_report is not None
    assert found.dense_report.accuracy == 1.0
    assert found.dense.cost == 1.0


def test_finishing_keeps_the_counts_and_looks_at_the_report_part() -> None:
    found = problem()
    counts = found.projector.project([0.5] * len(found.decisions))
    finished = found.finish(counts)
    assert [len(finished.kept[group.name]) for group in found.decisions] == list(counts)
    assert finished.report is not None
    again = found.finish_kept(finished.kept)
    assert again.search.loss == pytest.approx(finished.search.loss, rel=1e-5)


def test_residual_groups_are_pruned_only_if_asked_or_needed() -> None:
    inner = problem()
    assert all(group.kind == "inner" for group in inner.decisions)
    assert inner.notes == ()
    assert any(group.kind == "residual" for group in problem(include_residual=True).decisions)
    needed = problem(budget=inner.cost.macs(inner.projector.smallest) / inner.cost.dense_macs * 0.9)
    assert any(group.kind == "residual" for group in needed.decisions)
    assert "residual join" in needed.notes[0]


def test_a_budget_that_cannot_be_met_names_the_smallest_that_can() -> None:
    with pytest.raises(UsageError, match="smallest network has 0") as caught:
        problem(budget=0.01, min_keep=0.5)
    least = float(str(caught.value).split("network has ")[1].split()[0])
    found = problem(budget=least, min_keep=0.5)
    assert found.projector.fits(found.projector.smallest)


def test_evaluate_may_be_a_loader_or_a_function() -> None:
    network = trained(Residual())
    data = labelled(network, 300, 12)
    loader = problem(evaluate=DataLoader(data, batch_size=64))

    def evaluate(model: nn.Module) -> dict[str, float]:
        logits = model(data.tensors[0])
        return {"accuracy": float((logits.argmax(1) == data.tensors[1]).float().mean()), "loss": 0.0}

    function = problem(evaluate=evaluate)
    counts = loader.projector.project([0.5] * len(loader.decisions))
    expected = problem().score(counts).accuracy
    assert loader.score(counts).accuracy == expected
    assert function.score(counts).accuracy == pytest.approx(expected)


def test_a_users_reward_sees_the_score_the_dense_score_and_the_budget() -> None:
    seen: list[tuple[Score, Score, Budget]] = []

    def reward(score: Score, dense: Score, budget: Budget) -> float:
        seen.append((score, dense, budget))
        return 7.0

    found = problem(reward=reward)
    counts = found.projector.project([0.5] * len(found.decisions))
    assert found.score(counts).reward == 7.0
    score, dense, budget = seen[-1]
    assert dense.accuracy == 1.0
    assert score.macs == found.cost.macs(counts)
    assert budget == Budget(0.5)


def broken(_score: Score, _dense: Score, _budget: Budget) -> float:
    return math.nan


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"budget": 1.5}, "1.5"),
        ({"score": "sequental"}, "Did you mean 'sequential'"),
        ({"select": "lazzo"}, "Did you mean 'lasso'"),
        ({"reward": "acuracy"}, "Did you mean 'accuracy'"),
        ({"reward": broken}, "broken"),
        ({"reward": "accuracy-flops"}, "at-most"),
        ({"calibration": torch.zeros(0, 3, 8, 8)}, "calibration part of the data holds no images"),
        ({"calibration": torch.zeros(4, 3, 9, 9)}, r"\(3, 9, 9\) but the model takes \(3, 8, 8\)"),
        (
            {"evaluate": TensorDataset(torch.zeros(0, 3, 8, 8), torch.zeros(0))},
            "search part of the data holds no images",
        ),
        ({"evaluate": lambda _model: {"top1": 1.0}}, "'accuracy' and 'loss'"),
        ({"device": "cuda"}, "no CUDA"),
        ({"device": "gpu"}, "Unknown device 'gpu'"),
    ],
)
def test_bad_input_is_one_sentence(options: dict[str, object], message: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(AutopruneError, match=message) as caught:
        problem(**options)
    assert "\n" not in str(caught.value)


def test_nan_weights_are_named() -> None:
    network = trained(Residual())
    with torch.no_grad():
        network.expand.weight[0, 0] = math.nan
    with pytest.raises(UsageError, match=r"expand\.weight"):
        make_problem(
            network, images(2), calibration=images(20), evaluate=TensorDataset(images(4), torch.zeros(4).long())
        )


class FixedBatch(nn.Module):
    """Writes its batch size into the forward pass."""

    def __init__(self) -> None:
        super().__init__()
        self.a = nn.Conv2d(3, 8, 3, padding=1)
        self.b = nn.Conv2d(8, 8, 3, padding=1)
        self.head = nn.Linear(8, 5)

    def forward(self, x: Tensor) -> Tensor:
        count = int(x.shape[0])
        x = torch.relu(self.b(torch.relu(self.a(x))))
        return self.head(torch.cat([x[i : i + 1] for i in range(count)]).mean((2, 3)))


def test_a_network_traced_for_one_batch_size_is_sliced_and_says_so() -> None:
    torch.manual_seed(0)
    network = FixedBatch().eval()
    found = make_problem(network, images(2), calibration=images(50), evaluate=labelled(network, 40, 3), budget=0.6)
    assert "fixed batch" in found.notes[0]
    counts = found.projector.project([0.5] * len(found.decisions))
    assert found.score(counts).macs == found.cost.macs(counts)


class Sorted(nn.Module):
    """Sorts over all its inner channels, which no channel survives alone."""

    def __init__(self) -> None:
        super().__init__()
        self.a = nn.Conv2d(3, 8, 3, padding=1)
        self.b = nn.Conv2d(8, 5, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        return self.b(torch.sort(self.a(x), dim=1).values).mean((2, 3))


def test_a_network_in_which_nothing_can_be_pruned_says_why() -> None:
    network = Sorted().eval()
    with pytest.raises(UsageError, match=r"Nothing .* can be pruned: a: .*sort"):
        make_problem(network, images(2), calibration=images(50), evaluate=labelled(network, 40, 3))


class PartlySorted(Sorted):
    """The same with a convolution before that can be pruned."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, 6, 3, padding=1)
        self.a = nn.Conv2d(6, 8, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(torch.relu(self.first(x)))


def test_groups_that_stay_whole_are_said_before_the_search() -> None:
    network = PartlySorted().eval()
    found = make_problem(network, images(2), calibration=images(50), evaluate=labelled(network, 40, 3), budget=0.8)
    assert [group.name for group in found.decisions] == ["first"]
    assert "stay whole" in found.notes[0]
    assert "a: " in found.notes[0]
    assert "sort" in found.notes[0]


def test_distances_are_divergences_of_softened_answers() -> None:
    found = problem()
    assert found.dense.distance == 0.0
    counts = found.projector.project([0.5] * len(found.decisions))
    data = labelled(found.model, 300, 12).tensors[0]
    with torch.no_grad():
        ours, theirs = (
            torch.softmax(network(data).double() / 4, dim=1) for network in (found.prune(counts), found.model)
        )
    expected = float((theirs * (theirs / ours).log()).sum(dim=1).mean())
    assert found.score(counts).distance == pytest.approx(expected, rel=1e-4)
    called = problem(evaluate=lambda _network: {"accuracy": 0.5, "loss": 1.0})
    assert math.isnan(called.score(counts).distance)


def test_sensitivities_are_what_groups_pruned_alone_do_to_the_answers() -> None:
    found = problem()
    seen = found.sensitivities()
    assert seen is not None
    weights, spent = seen
    assert 0 < spent <= 300
    errors = found.errors()
    assert errors is not None
    data = labelled(found.model, 300, 12).tensors[0]
    expected = []
    depth = torch.linspace(-0.5, 0.5, len(errors)).exp().tolist()
    for group, curve, later in zip(found.decisions, errors, depth, strict=True):
        count = int(abs(curve[1 : group.size] - 0.2).argmin()) + 1
        refit = found._pruner.backend.cached([count if other is group else other.size for other in found.decisions])
        small = prune_model(found.model, found.graph, refit.kept, tensors=refit.tensors)
        with torch.no_grad():
            ours, theirs = (torch.log_softmax(network(data) / 3, dim=1) for network in (small, found.model))
        expected.append((float((theirs.exp() * (theirs - ours)).sum(dim=1).mean()) / curve[count]) ** 0.75 * later)
    rank = torch.tensor(expected).argsort().tolist()
    assert torch.tensor(weights).argsort().tolist() == rank
    assert weights.tolist() == pytest.approx(expected, rel=0.15)  # fewer images are looked at
    assert found.at(Budget(0.7)).sensitivities() is not None
    blind = problem(evaluate=lambda network: {"accuracy": 0.5}, reward="accuracy").sensitivities()
    assert blind is not None  # on calibration images


def test_a_drop_is_decided_on_every_second_search_image_which_scores_do_not_see() -> None:
    whole, halved = problem(finish_steps=0), problem(finish_steps=0, budget=Budget(max_drop=3.0))
    counts = whole.projector.project([0.5] * len(whole.decisions))
    data = labelled(whole.model, 300, 12)
    finished, plain = halved.finish(counts), whole.finish(counts)
    with torch.no_grad():
        small = finished.model(data.tensors[0]).argmax(1) == data.tensors[1]
        scored = halved.prune(counts)(data.tensors[0])
    right = scored.argmax(1) == data.tensors[1]
    score = halved.score(counts)
    assert score.accuracy == float(right[::2].double().mean())
    assert score.loss == pytest.approx(float(nn.functional.cross_entropy(scored[::2], data.tensors[1][::2])), rel=1e-4)
    assert score.drop_se == pytest.approx(float((~right[::2]).double().std()) / 150**0.5)
    assert score.share == 1.0
    assert finished.drop is not None
    assert finished.drop.to_dict() == {"worse": int((~small[1::2]).sum()), "better": 0, "images": 150}
    assert finished.search.accuracy == float(small[::2].double().mean())
    assert plain.drop is None
    for found in (finished, plain):
        assert found.right is not None
        assert found.report is not None
        assert float(found.right.mean()) == found.report.accuracy
        assert len(found.right) == 200
    for budget in (Budget(0.5), Budget(max_drop=3.0)):
        alone = problem(report=None, finish_steps=0, budget=budget)
        finished = alone.finish(counts)
        assert finished.right is not None
        assert alone.dense_right is not None
        assert alone.dense_right.all()
        assert float(finished.right.mean()) == finished.search.accuracy


def test_of_a_function_that_evaluates_no_image_is_known() -> None:
    found = problem(
        budget=Budget(max_drop=3.0), evaluate=lambda _network: {"accuracy": 0.5}, report=None, finish_steps=0
    )
    finished = found.finish([levels[0] for levels in found.levels])
    assert finished.right is None
    assert finished.drop is None
    assert found.dense_right is None
