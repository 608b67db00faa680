"""The plug-ins of examples/plugins: each is one short file, keeps its contract, and is found by its name alone."""

from __future__ import annotations

import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch

from autoprune.agents import agents
from autoprune.cost import costs
from autoprune.data import data_sources, load_data
from autoprune.errors import UsageError
from autoprune.evaluation import rewards
from autoprune.registry import find_factory
from autoprune.select import SelectionInputs, selections
from autoprune.testing import AgentContract, RewardContract, SelectionContract

FOLDER = Path(__file__).parent.parent / "examples" / "plugins"
NAMES = ("balanced", "energy", "fpgm", "hill_climber", "noisy_digits")
REGISTRIES = (agents, costs, data_sources, rewards, selections)


def plugin(name: str) -> ModuleType:
    """Return a plug-in's module, imported once as the command line imports ``path/to/file.py:main``."""
    return sys.modules[find_factory(f"{FOLDER / name}.py:main", "plug-in").__module__]


def setup_module() -> None:
    """Register them for these tests alone."""
    for name in NAMES:
        plugin(name)


def teardown_module() -> None:
    """Take them out of the registries again."""
    for registry, name in zip(REGISTRIES, ("hill-climber", "energy", "noisy-digits", "balanced", "fpgm"), strict=True):
        del registry._items[name]  # type: ignore[attr-defined]
    for name in [name for name in sys.modules if any(name.startswith(f"_autoprune_{own}_") for own in NAMES)]:
        del sys.modules[name]


def test_each_is_one_short_file() -> None:
    assert {path.stem for path in FOLDER.glob("*.py")} == set(NAMES)
    for name in NAMES:
        assert len((FOLDER / f"{name}.py").read_text().splitlines()) <= 60, name


@pytest.mark.parametrize("name", NAMES)
def test_each_runs(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """In this process, which has registered them already; `python examples/plugins/NAME.py` does the same."""
    monkeypatch.chdir(tmp_path)
    plugin(name).main()
    said = capsys.readouterr().out
    assert "best *" in said
    assert ("of the energy, measured again" in said) == (name == "energy")
    assert list(tmp_path.iterdir()) == []


class TestFPGM(SelectionContract):
    def make_selection(self) -> Any:
        return selections.get("fpgm")()


class TestHillClimber(AgentContract):
    agent = "hill-climber"


class TestBalanced(RewardContract):
    reward = "balanced"


@pytest.mark.parametrize("seed", range(5))
def test_fpgm_is_the_summed_distance_to_all_other_filters(seed: int) -> None:
    """Against a double loop; of two equal filters one goes first, as the paper wants it (section 3.3)."""
    filters = torch.randn(30, 12, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    filters[17] = filters[4] = filters.mean(dim=0)
    brute = [sum(float((one - other).norm()) for other in filters) for one in filters]
    order = selections.get("fpgm")().order(SelectionInputs(30, {"filters": (filters,)}))
    assert set(order[:2]) == {4, 17}
    np.testing.assert_allclose(np.array(brute)[order], np.sort(brute), rtol=1e-9)


def test_fpgm_weighs_every_producer_alike() -> None:
    first, second = torch.randn(2, 8, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    selection = selections.get("fpgm")()
    scaled = selection.order(SelectionInputs(8, {"filters": (1000 * first, second)}))
    assert scaled.tolist() == selection.order(SelectionInputs(8, {"filters": (first, second)})).tolist()


def test_named_data_are_loaded_by_name() -> None:
    clean, noisy = load_data("noisy-digits", mean=(0.3,), std=(0.4,)), load_data("noisy-digits:0.2")
    assert [len(part) for part in (clean.calibration, clean.search, clean.report)] == [1000, 400, 397]
    original = load_data("noisy-digits:0")
    difference = noisy.search[0][0] - original.search[0][0]
    assert 0.1 < float(difference.std()) < 0.3
    torch.testing.assert_close(clean.search[3][0], (original.search[3][0] - 0.3) / 0.4)
    by_path = load_data(f"{FOLDER / 'noisy_digits.py'}:noisy_digits")
    assert torch.equal(by_path.search[0][0], original.search[0][0])
    with pytest.raises(
        UsageError, match=r"Did you mean 'noisy-digits'\? Known: cluttered-digits, .*, noisy-digits, package"
    ):
        load_data("noisy-digit:3")


@pytest.mark.parametrize(("registry", "name"), [(data_sources, "cifar10"), (costs, "macs"), (agents, "hill-climber")])
def test_names_that_would_never_be_found_cannot_be_taken(registry: Any, name: str) -> None:
    with pytest.raises(
        UsageError, match=rf"^The {registry.kind} '{name}' is already registered; choose another name\.$"
    ):
        registry.register(name)(object())
