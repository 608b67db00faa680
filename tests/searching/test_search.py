from __future__ import annotations

import runpy
from collections.abc import Mapping
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset, TensorDataset

import autoprune
from autoprune import Budget, Policy, Score, SearchResult, UsageError
from autoprune.agents import Uniform
from autoprune.cli import main
from autoprune.exporting import load_exported
from autoprune.graph import build_graph
from autoprune.searching import search_to_folder
from autoprune.support.strict_json import read_json
from autoprune.support.tensors import load_safetensors
from autoprune.surgery import load_pruned


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a = nn.Conv2d(2, 12, 3, padding=1)
        self.b = nn.Conv2d(12, 8, 3, padding=1)
        self.head = nn.Linear(8, 3)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.head(self.b(self.a(x).relu()).relu().mean((2, 3)))
        return y


@pytest.fixture
def net() -> Net:
    torch.manual_seed(0)
    return Net()


def images(count: int, seed: int) -> TensorDataset:
    generator = torch.Generator().manual_seed(seed)
    return TensorDataset(
        torch.randn(count, 2, 6, 6, generator=generator), torch.randint(3, (count,), generator=generator)
    )


CALIBRATION, SEARCH, REPORT = images(40, 1), images(30, 2), images(20, 3)


def search(net: nn.Module, **options: object) -> SearchResult:
    given = {"calibration": CALIBRATION, "evaluate": SEARCH, "report": REPORT, "agent": "uniform"}
    given |= {"budget": 0.5, **options}
    return autoprune.search(net, torch.zeros(2, 2, 6, 6), **given)  # type: ignore[arg-type]


NETS = """
import torch
from torch import nn
from torch.utils.data import TensorDataset

def net():
    return nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Conv2d(4, 4, 3), nn.Flatten(), nn.Linear(64, 3))

def part(n):
    return TensorDataset(torch.rand(n, 1, 8, 8, generator=torch.Generator().manual_seed(n)), torch.arange(n) % 3)

def data(mean=()):
    return {"calibration": part(20), "validation": part(21), "test": part(22)}
"""


def test_a_drop_of_accuracy_is_led_by_the_smallest_from_python_as_from_the_command_line(
    net: Net, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    budget = Budget(max_drop=50.0)
    result = search(net, budget=budget, episodes=1, finish_steps=0)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "nets.py").write_text(NETS)
    asked = {"model": "nets.py:net", "data": "nets.py:data", "input_shape": (8, 8), "budget": budget}
    asked |= {"agent": "uniform", "finish_steps": 0, "episodes": 1}
    report = search_to_folder(asked, tmp_path / "run").read_report()
    assert result.report["reward"] == report["reward"] == "smallest"
    assert set(report["drop"]) == {"smallest", "failed"}


def test_result_is_a_smaller_network_of_the_same_class_and_the_original_is_untouched(net: Net, tmp_path: Path) -> None:
    before = {name: tensor.clone() for name, tensor in net.state_dict().items()}
    result = search(net, budget=0.5)
    assert all(torch.equal(tensor, before[name]) for name, tensor in net.state_dict().items())
    assert type(result.model) is Net
    assert [group.kept for group in result.policy.groups] == [result.model.a.out_channels, result.model.b.out_channels]
    a, b = result.policy.counts()
    macs, dense = 36 * 9 * (2 * a + a * b) + 3 * b, 36 * 9 * (2 * 12 + 12 * 8) + 3 * 8
    assert result.report["final"]["macs"] == macs <= 0.5 * dense
    x, y = REPORT.tensors
    with torch.no_grad():
        assert result.report["final"]["accuracy"] == (result.model(x).argmax(1) == y).double().mean().item()
    for name in ("dense", "uniform", "shallow", "deep", "report acc"):
        assert name in result.table
    result.save(tmp_path / "kept")
    policy = Policy.load(tmp_path / "kept" / "policy.json")
    state = load_safetensors(tmp_path / "kept" / "model.safetensors")
    again = load_pruned(Net(), build_graph(Net(), torch.zeros(2, 2, 6, 6)), policy, state)
    with torch.no_grad():
        assert torch.equal(again(x), result.model(x))
    assert read_json(tmp_path / "kept" / "report.json") == result.report


def test_the_model_stays_in_the_mode_and_on_the_device_it_was_in(net: Net) -> None:
    net.train()
    net.b.eval()
    search(net)
    assert [module.training for module in (net, net.a, net.b, net.head)] == [True, True, False, True]
    device = "cuda" if torch.cuda.is_available() else "cpu"
    result = search(net, device=device)
    assert {tensor.device.type for network in (net, result.model) for tensor in network.state_dict().values()} == {
        "cpu"
    }


def test_a_loader_scores_like_its_data_set_and_so_does_a_function_that_does_the_same(net: Net) -> None:
    def evaluate(model: nn.Module) -> Mapping[str, float]:
        x, y = SEARCH.tensors
        with torch.no_grad():
            logits = model(x)
        loss = nn.functional.cross_entropy(logits, y).item()
        return {"accuracy": (logits.argmax(1) == y).double().mean().item(), "loss": loss}

    rows = []
    for part in (SEARCH, DataLoader(SEARCH, batch_size=7), evaluate):
        found = search(net, evaluate=part, report=part, finish_steps=0)  # a function does not say how many images
        rows.append(
            (found.policy.groups, found.report["final"]["accuracy"], pytest.approx(found.report["final"]["loss"]))
        )
        assert (found.report["final"]["accuracy_se"] is None) == (part is evaluate)
    assert rows[0] == rows[1] == rows[2]


def test_calibration_as_tensor_or_loader_gives_the_same_network(net: Net) -> None:
    loaders = (DataLoader(CALIBRATION, batch_size=9, shuffle=shuffle) for shuffle in (False, True))
    own = DataLoader(CALIBRATION, batch_size=9, collate_fn=lambda items: torch.stack([image for image, _ in items]))
    parts = (CALIBRATION, CALIBRATION.tensors[0], *loaders, own)
    nets = [search(net, calibration=part).model.state_dict() for part in parts]
    for other in nets[1:]:
        for name, tensor in nets[0].items():
            torch.testing.assert_close(other[name], tensor, atol=1e-5, rtol=1e-4)


def test_a_reward_of_ones_own_decides(net: Net) -> None:
    def small(score: Score, dense: Score, budget: Budget) -> float:
        return -score.params / dense.params

    result = search(net, budget=0.9, budget_mode="at-most", agent="random", episodes=12, reward=small)
    random = [row for row in result.report["rows"] if row["name"] == "random"]
    assert result.report["final"] == random[0]
    assert result.report["reward"].endswith("small")
    assert result.report["final"]["params"] < 0.9 * result.report["dense"]["params"]
    assert (
        result.report["final"]["search_reward"] == -result.report["final"]["params"] / result.report["dense"]["params"]
    )


def test_without_a_report_part_the_table_says_that_its_accuracies_flatter(net: Net) -> None:
    result = search(net, report=None)
    assert result.report["accuracy_part"] == "search"
    assert result.report["final"]["accuracy"] == result.report["final"]["search_accuracy"]
    assert "flatter" in result.table


def test_agent_as_a_class_with_a_run_folder_that_is_continued_and_guarded(net: Net, tmp_path: Path) -> None:
    class Mine(Uniform):
        pass

    first = search(net, agent=Mine, out=tmp_path / "run")
    assert first.report["agent"].endswith("Mine")
    assert [row["name"] for row in first.report["rows"]][-1] == first.report["agent"]
    assert search(net, agent=Mine, out=tmp_path / "run").report == first.report
    with pytest.raises(UsageError, match=r"data_fingerprint: \w+… in the run"):
        search(net, agent=Mine, out=tmp_path / "run", evaluate=REPORT)
    with torch.no_grad():
        net.a.weight[0] += 1
    with pytest.raises(UsageError, match="model_fingerprint: "):
        search(net, agent=Mine, out=tmp_path / "run")


class _Lazy(Dataset[tuple[Tensor, int]]):
    def __len__(self) -> int:
        return 12

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        if index >= len(self):
            raise IndexError
        return torch.full((2, 6, 6), float(index)), index % 3


def test_a_data_set_that_is_read_image_by_image(net: Net) -> None:
    result = search(net, calibration=_Lazy(), evaluate=_Lazy(), report=_Lazy())
    assert result.report["final"]["accuracy"] * 12 == pytest.approx(round(result.report["final"]["accuracy"] * 12))


class _Relabelled(_Lazy):
    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        return super().__getitem__(index)[0], (index + 1) % 3


def test_other_labels_are_other_data(net: Net, tmp_path: Path) -> None:
    search(net, evaluate=_Lazy(), out=tmp_path / "run")
    with pytest.raises(UsageError, match="data_fingerprint: "):
        search(net, evaluate=_Relabelled(), out=tmp_path / "run")


class _Unlabelled(_Lazy):
    def __getitem__(self, index: int) -> Tensor:  # type: ignore[override]
        return super().__getitem__(index)[0]


def test_calibration_images_need_no_labels(net: Net) -> None:
    labelled, bare = (search(net, calibration=part).model.state_dict() for part in (_Lazy(), _Unlabelled()))
    assert all(torch.equal(tensor, bare[name]) for name, tensor in labelled.items())


def test_sensitivity_goes_by_the_errors_where_the_evaluate_function_gives_no_loss(net: Net) -> None:
    def evaluate(model: nn.Module) -> Mapping[str, float]:
        x, y = SEARCH.tensors
        return {"accuracy": (model(x).argmax(1) == y).double().mean().item()}

    result = search(net, evaluate=evaluate, agent="sensitivity", episodes=9)
    assert result.report["final"]["macs"] <= 0.5 * result.report["dense"]["macs"]
    assert result.report["final"]["loss"] is not None  # that of the report part, which is labelled images


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"evaluate": TensorDataset(torch.zeros(0, 2, 6, 6), torch.zeros(0).long())},
            "evaluate part of the data holds no",
        ),
        ({"calibration": torch.zeros(0, 2, 6, 6)}, "calibration part of the data holds no"),
        ({"budget": 0}, r"'0', but must be a ratio in \(0, 1\]"),
        ({"budget": "half"}, r"'half', but must be a ratio in \(0, 1\]"),
        ({"agent": "unifrom"}, "Did you mean 'uniform'"),
        ({"calibration": torch.zeros(9, 3, 6, 6)}, r"shape"),
        ({"evaluate": lambda model: {"acc": 1.0}}, "must return a dict with 'accuracy'"),
        ({"evaluate": lambda model: {"accuracy": 93.2}}, "a share in .*, not a percentage"),
    ],
)
def test_what_cannot_be_done(net: Net, change: dict[str, object], message: str) -> None:
    with pytest.raises(autoprune.AutopruneError, match=message):
        search(net, **change)


def test_example_input_and_output_are_checked(net: Net) -> None:
    for example, message in (
        (torch.zeros(1, 2, 6, 6), "at least two"),
        (torch.zeros(2, 3, 6, 6), r"of shape \(2, 3, 6, 6\)"),
    ):
        with pytest.raises(UsageError, match=message):
            autoprune.search(net, example, calibration=CALIBRATION, evaluate=SEARCH, budget=0.5)
    with pytest.raises(UsageError, match="not class scores"):
        autoprune.search(
            net.a, torch.zeros(2, 2, 6, 6), calibration=CALIBRATION, evaluate=SEARCH, budget=0.5, labels=True
        )


def test_a_run_folder_has_a_loader_that_no_verb_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "nets.py").write_text(NETS)
    asked = {"model": "nets.py:net", "data": "nets.py:data", "input_shape": (8, 8), "budget": 0.5, "episodes": 1}
    folder = search_to_folder({**asked, "agent": "uniform", "finish_steps": 0, "baselines": ()}, tmp_path / "run")
    given = ["--policy", str(folder.policy_path), "--model", "nets.py:net"]
    tuned = [
        "finetune",
        str(folder.path),
        "--epochs",
        "1",
        "--model",
        "nets.py:net",
        "--data",
        "nets.py:data",
        "--quiet",
    ]
    written = (folder.path / "load.py").read_text()
    dense = nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Conv2d(4, 4, 3), nn.Flatten(), nn.Linear(64, 3))
    assert runpy.run_path(str(folder.path / "load.py"))["load"](dense)[0].out_channels < 4
    (folder.path / "load.py").write_text("raise SystemExit('it was run')")
    assert main(["prune", *given]) == 0
    assert (folder.path / "pruned" / "load.py").read_text() == written
    assert main(tuned) == 0
    assert (folder.path / "finetune" / "distilled" / "load.py").read_text() == written
    assert main(["eval", str(folder.path), "--model", "nets.py:net", "--data", "nets.py:data"]) == 0
    assert main(["report", str(folder.path)]) == 0
    assert (folder.path / "load.py").read_text() == "raise SystemExit('it was run')"


def test_a_result_shows_itself_and_writes_files_that_other_tools_read(net: Net, tmp_path: Path) -> None:
    result = search(net, finish_steps=0, episodes=1)
    said = repr(result)
    assert said.count("\n") == 0
    assert f"{result.report['final']['macs'] / result.report['dense']['macs']:.3f} of the MACs" in said
    assert "report acc" in result._repr_html_()
    reached, stays = result.plot().axes
    rows, kept = result.report["rows"], result.report["final"]["counts"]
    assert [label.get_text() for label in reached.get_yticklabels()] == [row["name"] for row in rows]
    assert reached.collections[-1].get_offsets()[:, 0].tolist() == pytest.approx(
        [100 * row["accuracy"] for row in rows]
    )
    sizes = result.report["dense"]["counts"]
    assert [bar.get_width() for bar in stays.patches] == pytest.approx([100 * kept[g] / sizes[g] for g in kept])
    example = torch.zeros(2, 2, 6, 6)
    result.export(tmp_path / "net.safetensors", example)
    result.export(tmp_path / "net.pt2", example)
    again = load_exported(tmp_path / "net.pt2")
    x = torch.randn(3, 2, 6, 6)
    with torch.no_grad():
        assert torch.allclose(again(x), result.model(x), atol=1e-5)
    assert load_safetensors(tmp_path / "net.safetensors").keys() == result.model.state_dict().keys()
    with pytest.raises(UsageError, match=r"must end in \.onnx"):
        result.export(tmp_path / "net.bin", example)


def test_what_is_saved_from_python_loads_without_the_search(net: Net, tmp_path: Path) -> None:
    result = search(net, finish_steps=0, episodes=1)
    result.save(tmp_path / "kept")
    loaded = runpy.run_path(str(tmp_path / "kept" / "load.py"))["load"](Net())
    x = torch.randn(3, 2, 6, 6)
    assert torch.equal(loaded(x), result.model(x))
    assert loaded.a.out_channels < net.a.out_channels == 12
