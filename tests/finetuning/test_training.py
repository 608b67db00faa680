from __future__ import annotations

import copy
import signal
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import ClassVar

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import autoprune
from autoprune.errors import AutopruneError, UsageError
from autoprune.evaluation import Evaluator
from autoprune.finetuning import FinetuneProgress
from autoprune.finetuning._engine import Engine, FabricEngine, make_engine
from autoprune.support.jsonl import read_jsonl
from autoprune.support.strict_json import read_json
from autoprune.support.tensors import load_safetensors

from ._tiny import EPOCHS, images, network, tune


def test_a_training_killed_in_the_middle_of_an_epoch_ends_as_if_it_had_not_been(tmp_path: Path) -> None:
    script = str(Path(__file__).with_name("_tiny.py"))
    killed = subprocess.run([sys.executable, script, str(tmp_path / "killed")], capture_output=True, check=False)
    assert killed.returncode == -signal.SIGKILL, killed.stderr.decode()
    assert len(read_jsonl(tmp_path / "killed" / "history.jsonl")) == 1
    assert not (tmp_path / "killed" / "result.json").exists()

    whole = tune(tmp_path / "whole")
    begun = []

    class Seen(FinetuneProgress):
        def begin(self, name: str, epochs: int, done: int, images: int) -> None:
            begun.append(done)

    resumed = tune(tmp_path / "killed", Seen())
    assert begun == [1]
    for file in ("model.safetensors", f"checkpoint-{EPOCHS}.safetensors"):
        mine, theirs = (load_safetensors(tmp_path / name / file) for name in ("killed", "whole"))
        assert mine.keys() == theirs.keys()
        assert all(torch.equal(mine[key], theirs[key]) for key in mine)
    numbers = [{k: v for k, v in result.result.items() if k != "wall_s"} for result in (resumed, whole)]
    assert numbers[0] == numbers[1]
    histories = [[{**line, "seconds": 0} for line in result.history] for result in (resumed, whole)]
    assert histories[0] == histories[1]


def test_result_is_that_of_the_best_epoch_by_the_search_part(tmp_path: Path) -> None:
    found = tune(tmp_path)
    best = max(found.history, key=lambda line: (line["search_accuracy"], -line["search_loss"]))
    assert found.result["best_epoch"] == best["epoch"]
    assert [line["epoch"] for line in found.history] == [1, 2, 3, 4]
    for seed, key in ((2, "search_accuracy"), (3, "accuracy")):
        x, y = images(seed).tensors
        with torch.no_grad():
            assert float((found.model(x).argmax(1) == y).double().mean()) == found.result[key]
    stored = load_safetensors(tmp_path / "model.safetensors")
    assert all(torch.equal(stored[name], value) for name, value in found.model.state_dict().items())
    assert read_json(tmp_path / "result.json") == found.result
    assert found.result["params"] == sum(p.numel() for p in network().parameters())
    assert found.result["macs"] == 6 * 9 * 64 + 4 * 6 * 9 * 36 + 144 * 3


def test_the_report_part_is_looked_at_once(tmp_path: Path) -> None:
    looks = []

    def report(model: nn.Module) -> dict[str, float]:
        looks.append(model)
        return {"accuracy": 0.25, "loss": 1.0}

    recipe = autoprune.Recipe(epochs=3, batch_size=16, precision="fp32")
    found = autoprune.finetune(network(), train=images(1), evaluate=images(2), report=report, recipe=recipe)
    assert len(looks) == 1
    assert found.result["accuracy"] == 0.25
    assert found.result["accuracy_se"] is None
    assert not found.result["distilled"]


def test_one_step_is_that_of_sgd() -> None:
    """Of one batch with every extra off, the epoch is one step of torch's own SGD on the cross-entropy."""
    net, (x, y) = network().eval(), images(1).tensors
    net[3] = nn.Identity()
    twin = copy.deepcopy(net).train()
    recipe = autoprune.Recipe(
        epochs=1, batch_size=64, lr=0.1, warmup=0, ema=0, clip=0, label_smoothing=0, precision="fp32", weight_decay=0.01
    )
    found = autoprune.finetune(net, train=images(1), evaluate=images(2), recipe=recipe)
    F.cross_entropy(twin(x), y).backward()
    with torch.no_grad():
        for parameter in twin.parameters():
            assert parameter.grad is not None
            gradient = parameter.grad + (0.01 * parameter if parameter.ndim > 1 else 0)
            parameter -= 0.1 * 1.9 * gradient  # Nesterov's first step
    for mine, theirs in zip(found.model.parameters(), twin.parameters(), strict=True):
        assert torch.allclose(mine, theirs, atol=1e-6)


def test_a_strided_1x1_layer_of_few_channels_is_trained_safely() -> None:
    """Training is channels-last, where oneDNN's own gradient of such a layer kills the process (see tests/_backward.py)."""
    net = nn.Sequential(
        nn.Conv2d(1, 4, 3, padding=1), nn.ReLU(), nn.Conv2d(4, 6, 1, stride=2), nn.Flatten(), nn.Linear(96, 3)
    )
    recipe = autoprune.Recipe(epochs=1, batch_size=16, precision="fp32")
    found = autoprune.finetune(net, teacher=net, train=images(1), evaluate=images(2), recipe=recipe).model
    assert not torch.equal(found[2].weight, net[2].weight)
    assert found[2].stride == (2, 2)


def test_accumulation_gives_the_gradient_of_the_batch() -> None:
    net = nn.Sequential(nn.Flatten(), nn.Linear(64, 3))
    found = []
    for accumulate in (1, 4):
        recipe = autoprune.Recipe(epochs=2, batch_size=32, accumulate=accumulate, precision="fp32")
        found.append(autoprune.finetune(net, train=images(1), evaluate=images(2), recipe=recipe).model)
    assert torch.allclose(found[0][1].weight, found[1][1].weight, atol=1e-6)


def test_a_teacher_is_followed_even_against_the_labels() -> None:
    """With distillation alone the labels do not matter."""
    teacher = network()
    with torch.no_grad():
        teacher[-1].bias.copy_(torch.tensor([0.0, 0.0, 50.0]))
    recipe = autoprune.Recipe(epochs=10, batch_size=16, distill=1.0, lr=0.3, precision="fp32")
    found = autoprune.finetune(network(), train=images(1), evaluate=images(2), teacher=teacher, recipe=recipe)
    assert set(found.model(images(4).tensors[0]).argmax(1).tolist()) == {2}


def test_the_callers_networks_stay_as_they_were() -> None:
    net, teacher = network(), network()
    before = copy.deepcopy(net.state_dict())
    recipe = autoprune.Recipe(epochs=1, batch_size=16, precision="fp32")
    autoprune.finetune(net, train=images(1), evaluate=images(2), teacher=teacher, recipe=recipe)
    assert all(torch.equal(before[name], value) for name, value in net.state_dict().items())
    assert all(parameter.requires_grad for parameter in teacher.parameters())


def test_from_scratch_does_not_depend_on_the_weights() -> None:
    other = network()
    with torch.no_grad():
        for value in other.parameters():
            value.mul_(3)
    recipe = autoprune.Recipe(epochs=1, batch_size=16, from_scratch=True, precision="fp32")
    found = [autoprune.finetune(n, train=images(1), evaluate=images(2), recipe=recipe) for n in (network(), other)]
    states = [result.model.state_dict().values() for result in found]
    assert all(torch.equal(a, b) for a, b in zip(*states, strict=True))
    assert found[0].result["name"] == "scratch"


def test_patience_ends_early() -> None:
    worse = iter([0.9, 0.9, 0.8, 0.7, 0.6, 0.5])  # the first network is measured twice
    found = autoprune.finetune(
        network(),
        train=images(1),
        evaluate=lambda model: {"accuracy": next(worse), "loss": 1.0},
        report=images(3),
        recipe=autoprune.Recipe(epochs=5, patience=2, batch_size=16, precision="fp32"),
    )
    assert found.result["epochs_done"] == 3
    assert found.result["best_epoch"] == 1


def test_a_loss_that_is_not_finite_is_said() -> None:
    recipe = autoprune.Recipe(epochs=2, batch_size=16, lr=1e30, clip=0, precision="fp32")
    with pytest.raises(AutopruneError, match=r"no longer finite.*lower --lr"):
        autoprune.finetune(network(), train=images(1), evaluate=images(2), recipe=recipe)


def test_another_recipe_in_the_same_folder_is_refused(tmp_path: Path) -> None:
    tune(tmp_path)
    with pytest.raises(UsageError, match="epochs: 4 begun, 5 now"):
        tune(tmp_path, epochs=5)


def test_images_are_needed() -> None:
    with pytest.raises(UsageError, match="needs images"):
        autoprune.finetune(network())


def test_several_devices_need_fabric(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("autoprune.support.packages.find_spec", lambda name: None)
    with pytest.raises(UsageError, match=r"autoprune\[fabric\]"):
        make_engine("cpu", 2)
    with pytest.raises(UsageError, match="at least 1"):
        make_engine("cpu", 0)
    with pytest.raises(UsageError, match="is one device"):
        make_engine("cpu:0", 2)


class OneOfTwo(Engine):
    """One of two threads that stand for processes on two hosts: values are really exchanged."""

    met = threading.Barrier(2)
    values: ClassVar[dict[int, Tensor]] = {}

    def __init__(self, rank: int) -> None:
        super().__init__(torch.device("cpu"))
        self.rank, self.world = rank, 2

    def mean(self, value: Tensor) -> Tensor:
        self.values[self.rank] = value
        self.met.wait(60)
        found = (self.values[0] + self.values[1]) / 2
        self.met.wait(60)
        return found


@pytest.mark.parametrize(("own", "other"), [(0, 1), (-1, 0), (5, 6), (3, 3), (-1, -1)])
def test_processes_agree_only_on_the_same_number(own: float, other: float) -> None:
    with ThreadPoolExecutor(2) as pool:
        answers = list(pool.map(lambda pair: OneOfTwo(pair[0]).same(pair[1]), enumerate((own, other))))
    assert answers == [own == other] * 2


def test_processes_that_do_not_share_the_folder_are_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The first one continues from its checkpoint, the second one's disk has none: both say so, none waits for ever."""
    engine = threading.local()
    monkeypatch.setattr("autoprune.finetuning._api.make_engine", lambda device, devices: engine.own)
    engine.own = Engine(torch.device("cpu"))
    tune(tmp_path / "0" / "run", epochs=1)
    (result,) = (tmp_path / "0").rglob("result.json")
    result.unlink()

    def process(rank: int) -> str:
        engine.own = OneOfTwo(rank)
        with pytest.raises(UsageError) as refused:
            tune(tmp_path / str(rank) / "run", epochs=1)
        return str(refused.value)

    with ThreadPoolExecutor(2) as pool:
        assert all("a file system that they share" in said for said in pool.map(process, range(2)))


def test_fabric_takes_the_same_steps(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    pytest.importorskip("lightning")
    plain = tune(tmp_path / "plain")
    monkeypatch.setattr("autoprune.finetuning._api.make_engine", lambda device, devices: FabricEngine("cpu", 1))
    fabric = tune(tmp_path / "fabric")
    states = [result.model.state_dict().values() for result in (plain, fabric)]
    assert all(torch.equal(a, b) for a, b in zip(*states, strict=True))


def test_average_is_what_is_measured() -> None:
    """The history's accuracy is that of the kept weights, not of those in training."""
    found = tune(None, epochs=1)
    accuracy, loss = Evaluator(images(2), name="search", device=torch.device("cpu"))(found.model)
    assert accuracy == found.history[0]["search_accuracy"]
    assert loss == pytest.approx(found.history[0]["search_loss"], rel=1e-6)  # measured in another memory layout
