"""The error curves that the backward elimination leaves behind."""

import numpy as np
import torch

from autoprune.select import Consumer, Evidence, OptimalBrainSurgeon, elimination_errors


def evidence(size=6, width=2, outputs=5, seed=0, consumers=1):
    draw = torch.Generator().manual_seed(seed)
    made = []
    for _ in range(consumers):
        inputs = torch.randn(400, size * width, generator=draw, dtype=torch.float64)
        inputs = inputs @ torch.randn(size * width, size * width, generator=draw, dtype=torch.float64)
        weight = torch.randn(size * width, outputs, generator=draw, dtype=torch.float64)
        unit = torch.arange(size).repeat_interleave(width)
        made.append((inputs, Consumer(inputs.T @ inputs / len(inputs), weight, unit)))
    found = Evidence(size, tuple(consumer for _, consumer in made), torch.ones(size, dtype=torch.float64))
    return found, [inputs for inputs, _ in made]


def test_each_is_the_least_squares_error_with_the_channels_that_stay():
    found, inputs = evidence(consumers=2)
    errors = elimination_errors(found)
    selection = OptimalBrainSurgeon()
    for count in range(1, found.size + 1):
        expected = 0.0
        for consumer, x in zip(found.consumers, inputs, strict=True):
            stays = torch.isin(consumer.unit, torch.from_numpy(selection.keep(found, count)))
            wanted = x @ consumer.weight
            fitted = x[:, stays] @ torch.linalg.lstsq(x[:, stays], wanted).solution
            expected += float((wanted - fitted).square().sum() / wanted.square().sum())
        np.testing.assert_allclose(errors[count], expected, rtol=2e-2, atol=1e-3)  # the elimination is damped a little


def test_they_never_rise_with_the_count():
    errors = elimination_errors(evidence(size=9, seed=1)[0])
    assert errors[-1] == 0.0
    assert (np.diff(errors) <= 0).all()


def test_without_readers_it_is_a_parabola():
    errors = elimination_errors(Evidence(4, (), torch.ones(4, dtype=torch.float64)))
    np.testing.assert_allclose(errors, [1.0, 0.5625, 0.25, 0.0625, 0.0])
