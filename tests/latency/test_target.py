from __future__ import annotations

import json
from typing import Any

import pytest
import torch

from autoprune.errors import UsageError
from autoprune.latency import Target


@pytest.mark.parametrize("target", [Target(), Target("onnxruntime", batch=32, threads=2), Target(dtype="bfloat16")])
def test_json_round_trip(target: Target) -> None:
    assert Target.from_dict(json.loads(json.dumps(target.to_dict()))) == target


def test_threads_are_filled_in() -> None:
    assert Target().resolved.threads == torch.get_num_threads()
    assert Target(threads=3).resolved.threads == 3
    assert str(Target(threads=1)) == "eager on cpu, batch 1, 1 thread, float32"


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"runtime": "eagr"}, "Unknown target 'eagr'. Did you mean 'eager'?"),
        ({"dtype": "int8"}, "Unknown dtype of the target 'int8'"),
        ({"batch": 0}, "batch size of the target is 0"),
        ({"batch": True}, "batch size of the target is True"),
        ({"threads": 0}, "number of threads of the target is 0"),
        ({"device": "gpu9"}, "Unknown device 'gpu9'"),
        ({"device": "meta"}, "'meta' is not supported"),
        ({"runtime": "onnxruntime", "dtype": "bfloat16"}, "runs float32 on the CPU"),
        ({"dtype": "float16"}, "float16 is for GPUs"),
    ],
)
def test_wrong_values_are_refused(values: dict[str, Any], said: str) -> None:
    with pytest.raises(UsageError) as caught:
        Target(**values)
    assert said in str(caught.value)


def test_unknown_keys_are_refused() -> None:
    with pytest.raises(UsageError, match="must be an object with the keys"):
        Target.from_dict({"runtime": "eager"})
