from __future__ import annotations

import json
import math
from dataclasses import FrozenInstanceError
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from autoprune.errors import UsageError
from autoprune.groups import Group
from autoprune.surgery import Policy, PolicyGroup


def example() -> Policy:
    return Policy(
        groups=(PolicyGroup("layer1.0.conv1", 16, 3, (0, 5, 15)), PolicyGroup("layer2.0.conv1", 2, 2, (0, 1))),
        model={"spec": "cifar-resnet20", "input_shape": [3, 32, 32]},
        budget={"value": 0.5, "mode": "exact"},
        achieved={"macs": 20, "dense_macs": 40, "ratio": 0.5},
        score={"accuracy": 0.9, "reward": math.nan},
        seed=7,
        agent="ddpg",
    )


def test_round_trip(tmp_path: Path) -> None:
    policy = example()
    policy.save(tmp_path / "policy.json")
    loaded = Policy.load(tmp_path / "policy.json")
    assert loaded.score == {"accuracy": 0.9, "reward": None}  # JSON has no NaN.
    assert loaded.to_dict() == {**policy.to_dict(), "score": loaded.score, "groups": loaded.to_dict()["groups"]}
    assert loaded.groups == policy.groups
    assert loaded.counts() == (3, 2)
    assert loaded.kept()["layer1.0.conv1"].tolist() == [0, 5, 15]
    assert loaded.kept()["layer1.0.conv1"].dtype == np.int64
    loaded.save(tmp_path / "again.json")
    assert (tmp_path / "again.json").read_bytes() == (tmp_path / "policy.json").read_bytes()
    with pytest.raises(FrozenInstanceError):
        loaded.seed = 8  # type: ignore[misc]


def test_groups_of_fills_in_whole_groups() -> None:
    decisions = [Group("a", 0, 4, "inner", (), (), ()), Group("b", 1, 2, "inner", (), (), ())]
    assert Policy.groups_of(decisions, {"a": np.array([1, 3])}) == (
        PolicyGroup("a", 4, 2, (1, 3)),
        PolicyGroup("b", 2, 2, (0, 1)),
    )


def damaged(change: dict[str, Any]) -> str:
    content = json.loads(json.dumps(example().to_dict()).replace("NaN", "null"))
    for key, value in change.items():
        target, _, name = key.rpartition(".")
        where = content["groups"][0] if target else content
        if value is KeyError:
            del where[name]
        else:
            where[name] = value
    return json.dumps(content)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "not valid JSON"),
        ("{", "not valid JSON"),
        ("[]", "must be a JSON object"),
        ("{}", "version None"),
        ("[" * 100_000, "not valid JSON"),
        ('{"version": NaN}', "not valid JSON"),
        ('{"version": 1, "version": 1}', "twice"),
        (damaged({"version": 2}), "version 2, but this autoprune reads version 1"),
        (damaged({"version": True}), "version True"),
        (damaged({"sed": 1}), "Unknown key 'sed' in the policy. Did you mean 'seed'"),
        (damaged({"seed": KeyError}), "key 'seed' is missing"),
        (damaged({"seed": "7"}), "'seed' in the policy is '7', but must be of type int or null"),
        (damaged({"groups": {}}), "must be of type list"),
        (damaged({"groups": [3]}), "must be an object"),
        (damaged({"group.indices": [0, 5, 16]}), r"0\.\.15"),
        (damaged({"group.indices": [-1, 5, 6]}), r"0\.\.15"),
        (damaged({"group.indices": [5, 0, 15]}), "ascending"),
        (damaged({"group.indices": [0, 0, 15]}), "distinct"),
        (damaged({"group.indices": [0.5, 1, 15]}), "whole numbers"),
        (damaged({"group.indices": []}), "says 3 of 16 channels are kept and lists 0"),
        (damaged({"group.kept": True}), "must be of type int"),
        (damaged({"group.name": ""}), "empty name"),
        (damaged({"group.name": "layer2.0.conv1"}), "lists group 'layer2.0.conv1' twice"),
        (damaged({"group.colour": "red"}), "Unknown key 'colour' in a group"),
        (damaged({"group.size": KeyError}), "key 'size' is missing in a group"),
    ],
)
def test_damage_is_named(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "policy.json"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(UsageError, match=message) as caught:
        Policy.load(path)
    assert str(path) in str(caught.value)


def test_missing_file(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"The policy '.*none\.json' does not exist"):
        Policy.load(tmp_path / "none.json")
