from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import nn

from autoprune.errors import UsageError
from autoprune.finetuning import Recipe
from autoprune.finetuning._average import Average, fresh_statistics
from autoprune.finetuning._losses import distillation, matching, total_loss
from autoprune.finetuning._precision import autocast, faster
from autoprune.finetuning._schedule import learning_rate
from autoprune.finetuning._scratch import reinitialise
from autoprune.support.strict_json import parse_json, to_json


def test_recipe_round_trips_json() -> None:
    recipe = Recipe(epochs=3, lr=0.5, augment="shift")
    assert Recipe.from_dict(parse_json(to_json(recipe.to_dict()))) == recipe


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"epochs": 0}, "epochs is 0"),
        ({"epochs": 1.5}, "'epochs' is 1.5"),
        ({"lr": -1.0}, "lr is -1.0"),
        ({"distill": 1.5}, "between 0 and 1"),
        ({"ema": 1.0}, "below 1"),
        ({"augment": "cropflip"}, "Did you mean 'crop-flip'"),
        ({"temprature": 2.0}, "Did you mean 'temperature'"),
        ({"accumulate": 200}, "at most the 128 images"),
    ],
)
def test_recipe_refuses(values: dict[str, object], said: str) -> None:
    with pytest.raises(UsageError, match=said):
        Recipe.from_dict(values)


def test_rate_is_proportional_to_the_batch_and_higher_from_scratch() -> None:
    assert Recipe(batch_size=64).rate == pytest.approx(Recipe(batch_size=128).rate / 2)
    assert Recipe(from_scratch=True).rate > Recipe().rate
    assert Recipe(lr=0.7, batch_size=64).rate == 0.7


def test_names() -> None:
    kinds = [Recipe(distill=d, from_scratch=s).name for s in (False, True) for d in (0.9, 0.0)]
    assert kinds == ["distilled", "plain", "scratch-distilled", "scratch"]


def test_learning_rate_rises_to_the_highest_and_falls_along_half_a_cosine() -> None:
    rates = [learning_rate(step, 110, highest=2.0, warmup=1 / 11) for step in range(110)]
    assert rates[:10] == pytest.approx([0.2 * n for n in range(1, 11)])
    assert rates[10] == 2.0
    assert rates[60] == pytest.approx(1.0)
    assert rates[10:] == sorted(rates[10:], reverse=True)
    assert 0 < rates[-1] < 1e-3
    assert learning_rate(0, 1, highest=2.0, warmup=0.05) == 2.0


def test_distillation_is_the_scaled_divergence_of_the_softened_distributions() -> None:
    rng = np.random.default_rng(0)
    student, teacher = rng.normal(size=(2, 5, 7))
    p, q = (np.exp(x / 3) / np.exp(x / 3).sum(1, keepdims=True) for x in (student, teacher))
    expected = 9 * (q * np.log(q / p)).sum(1).mean()
    found = distillation(torch.tensor(student), torch.tensor(teacher), temperature=3.0)
    assert float(found) == pytest.approx(expected)
    assert float(distillation(torch.tensor(teacher), torch.tensor(teacher), temperature=3.0)) == pytest.approx(0)


def test_total_loss_without_a_teacher_is_smoothed_cross_entropy() -> None:
    logits, labels = torch.tensor([[2.0, 0.0, -1.0]]), torch.tensor([1])
    logp = torch.log_softmax(logits, 1)[0]
    smooth = 0.8 * -logp[1] + 0.2 * -logp.mean()
    settings = {"temperature": 2.0, "label_smoothing": 0.2}
    assert float(total_loss(logits, labels, None, distill=0.5, **settings)) == pytest.approx(float(smooth))
    mixed = total_loss(logits, labels, logits.flip(1), distill=0.25, **settings)
    own = distillation(logits, logits.flip(1), temperature=2.0)
    assert float(mixed) == pytest.approx(float(0.75 * smooth + 0.25 * own))


def test_matching_is_a_share_of_the_teachers_mean_square() -> None:
    ones, twos = torch.ones(2, 3, 4, 4), 2 * torch.ones(2, 3, 4, 4)
    assert float(matching([ones, twos], [twos, twos])) == pytest.approx((1 / 4 + 0) / 2)


def test_average_forgets_as_its_decay_says() -> None:
    module = nn.Linear(1, 1, bias=False)
    with torch.no_grad():
        module.weight.fill_(1.0)
    average = Average(module, 0.5)
    expected = 1.0
    for n, value in enumerate([3.0, -1.0, 4.0, 0.0, 2.0, 8.0, 8.0, 8.0, 1.0, 5.0]):
        with torch.no_grad():
            module.weight.fill_(value)
        average.update()
        decay = min(0.5, (1 + n) / (10 + n))
        expected = decay * expected + (1 - decay) * value
    assert float(average.state()["weight"]) == pytest.approx(expected)
    other = nn.Linear(1, 1, bias=False)
    average.copy_to(other)
    assert other.weight.item() == pytest.approx(expected)


def test_fresh_statistics_are_the_means_over_the_batches() -> None:
    net = nn.Sequential(nn.BatchNorm2d(3), nn.Dropout(0.5))
    batches = [torch.randn(4, 3, 2, 2, generator=torch.Generator().manual_seed(n)) * 3 + 1 for n in range(5)]
    fresh_statistics(net, batches)
    norm = net[0]
    assert norm.running_mean is not None
    assert norm.running_var is not None
    assert torch.allclose(norm.running_mean, torch.stack([x.mean((0, 2, 3)) for x in batches]).mean(0))
    assert torch.allclose(norm.running_var, torch.stack([x.var((0, 2, 3)) for x in batches]).mean(0))
    assert norm.momentum == 0.1
    assert not net.training
    assert not norm.training


def test_reinitialise_forgets_everything_and_scales_convolutions_as_he() -> None:
    net = nn.Sequential(nn.Conv2d(3, 64, 3), nn.BatchNorm2d(64), nn.Conv2d(64, 64, 3), nn.Linear(4, 2))
    with torch.no_grad():
        for value in net.state_dict().values():
            value.fill_(77)
    reinitialise(net, seed=1)
    assert not any((value == 77).any() for value in net.state_dict().values())
    assert net[2].weight.std().item() == pytest.approx(math.sqrt(2 / (64 * 9)), rel=0.05)
    again = nn.Sequential(nn.Conv2d(3, 64, 3), nn.BatchNorm2d(64), nn.Conv2d(64, 64, 3), nn.Linear(4, 2))
    reinitialise(again, seed=1)
    assert all(torch.equal(a, b) for a, b in zip(net.parameters(), again.parameters(), strict=True))


def test_reinitialise_refuses_what_it_cannot_do() -> None:
    class Own(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.scale = nn.Parameter(torch.ones(1))

    with pytest.raises(UsageError, match=r"'1.scale' of a Own.*reset_parameters"):
        reinitialise(nn.Sequential(nn.ReLU(), Own()), seed=0)


def test_precision_is_the_one_that_took_less_time(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = [0.0]
    monkeypatch.setattr("time.perf_counter", lambda: clock[0])

    def step(precision: str) -> None:
        clock[0] += {"fp32": 3.0, "bf16": 2.0}[precision]

    assert faster(step, torch.device("cpu")) == "bf16"
    with autocast(torch.device("cpu"), "bf16"):
        assert nn.Linear(2, 2)(torch.ones(1, 2)).dtype == torch.bfloat16
    with autocast(torch.device("cpu"), "fp32"):
        assert nn.Linear(2, 2)(torch.ones(1, 2)).dtype == torch.float32
