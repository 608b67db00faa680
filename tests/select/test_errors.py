"""The error curves that the backward elimination leaves behind."""

import numpy as np
import pytest
import torch

from autoprune.select import Consumer, OptimalBrainSurgeon, SelectionInputs, elimination


def drawn(size=6, width=2, outputs=5, seed=0, consumers=1):
    draw = torch.Generator().manual_seed(seed)
    made = []
    for _ in range(consumers):
        inputs = torch.randn(400, size * width, generator=draw, dtype=torch.float64)
        inputs = inputs @ torch.randn(size * width, size * width, generator=draw, dtype=torch.float64)
        weight = torch.randn(size * width, outputs, generator=draw, dtype=torch.float64)
        unit = torch.arange(size).repeat_interleave(width)
        made.append((inputs, Consumer(inputs.T @ inputs / len(inputs), weight, unit)))
    found = SelectionInputs(
        size, {"moments": tuple(consumer for _, consumer in made), "magnitude": torch.ones(size, dtype=torch.float64)}
    )
    return found, [inputs for inputs, _ in made]


def test_each_is_the_least_squares_error_with_the_channels_that_stay():
    found, inputs = drawn(consumers=2)
    errors = elimination(found)[1]
    selection = OptimalBrainSurgeon()
    for count in range(1, found.size + 1):
        expected = 0.0
        for consumer, x in zip(found["moments"], inputs, strict=True):
            stays = torch.isin(consumer.unit, torch.from_numpy(selection.keep(found, count)))
            wanted = x @ consumer.weight
            fitted = x[:, stays] @ torch.linalg.lstsq(x[:, stays], wanted).solution
            expected += float((wanted - fitted).square().sum() / wanted.square().sum())
        np.testing.assert_allclose(errors[count], expected, rtol=2e-2, atol=1e-3)  # the elimination is damped a little


def test_they_never_rise_with_the_count():
    errors = elimination(drawn(size=9, seed=1)[0])[1]
    assert errors[-1] == 0.0
    assert (np.diff(errors) <= 0).all()


def test_without_consumers_it_is_a_parabola():
    errors = elimination(SelectionInputs(4, {"moments": (), "magnitude": torch.ones(4, dtype=torch.float64)}))[1]
    np.testing.assert_allclose(errors, [1.0, 0.5625, 0.25, 0.0625, 0.0])


def test_a_large_group_goes_in_few_steps_and_nearly_as_well(monkeypatch: pytest.MonkeyPatch) -> None:
    """Eliminated eight at a time the channels that stay are about as good as those eliminated one by one, refitted."""
    found = drawn(size=96, seed=3)[0]
    one_by_one, _ = elimination(found)
    monkeypatch.setattr("autoprune.select._obs.ONE_BY_ONE", 50)
    monkeypatch.setattr("autoprune.select._obs.STEPS", 12)
    together, estimated = elimination(found)
    assert sorted(together) == list(range(96))
    assert (np.diff(estimated[1:]) <= 1e-12).all()
    consumer = found["moments"][0]

    def error(order: np.ndarray) -> float:
        """The consumer's error with the last 48 channels, by least squares on them alone."""
        kept = np.isin(consumer.unit.numpy(), order[48:])
        gram, weight = consumer.gram.numpy(), consumer.weight.numpy()
        inner, right = gram[np.ix_(kept, kept)], gram[kept] @ weight
        fitted = np.linalg.solve(inner + 1e-9 * np.trace(inner) / len(inner) * np.eye(len(inner)), right)
        return float((weight * (gram @ weight)).sum() - (right * fitted).sum()) / consumer.energy()

    rng = np.random.default_rng(0)
    random = np.mean([error(rng.permutation(96)) for _ in range(5)])
    assert error(one_by_one) <= error(together) * 1.0001
    assert error(together) < error(one_by_one) + 0.25 * (random - error(one_by_one))
