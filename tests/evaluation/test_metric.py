"""A metric says values in its own unit, and which of two is better."""

import json
import math

import pytest

from autoprune.evaluation import ACCURACY, AGREEMENT, DIVERGENCE, Metric


def test_values_are_said_in_the_unit_of_the_metric() -> None:
    assert ACCURACY.text(0.91324) + ACCURACY.unit == "91.32 %"
    assert DIVERGENCE.text(0.0421349) + DIVERGENCE.unit == "0.04213"
    assert Metric("psnr", share=False).text(31.41592) == "31.42"
    assert AGREEMENT.text(-0.005) == "-0.50"


@pytest.mark.parametrize("metric", [ACCURACY, DIVERGENCE, Metric("rmse", maximize=False, share=False)])
def test_better_is_in_the_direction_of_the_metric(metric: Metric) -> None:
    assert metric.better(0.7, 0.6) is metric.maximize
    assert metric.better(0.6, 0.7) is not metric.maximize
    assert not metric.better(0.6, 0.6)
    assert not metric.better(math.nan, 0.6)
    assert (metric.gain(0.7, 0.6) > 0) is metric.maximize
    assert metric.gain(0.7, 0.6) == metric.sign * (0.7 - 0.6)


def test_a_metric_goes_through_json_and_what_is_no_metric_is_refused() -> None:
    metric = Metric("map50", share=True)
    assert Metric.from_dict(json.loads(json.dumps(metric.to_dict()))) == metric
    assert Metric.from_dict(None) == ACCURACY
    wrong: list[object] = ["map50", {"name": "a"}, {"name": "", "maximize": True, "share": True}]
    wrong.append({"name": "a", "maximize": 1, "share": True})
    for value in wrong:
        with pytest.raises(ValueError, match="the metric is"):
            Metric.from_dict(value)
