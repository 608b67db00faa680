"""With torch, numpy and safetensors alone: models are inspected and pruned, rules search; what else is missing is said."""

import re
import subprocess
import sys
import tomllib
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

import pytest

from autoprune.support.packages import EXTRAS

ROOT = Path(__file__).parents[1]
_NAME = re.compile(r"[A-Za-z0-9._-]+")

_START = """
import sys
sys.path[:0] = [{root!r}, {packages!r}]
import warnings
warnings.filterwarnings("error", module="autoprune")
import numpy as np
import torch
from torch import nn
import autoprune

torch.manual_seed(0)
model = nn.Sequential(
    nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Conv2d(8, 8, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 4)
).eval()
images, labels = torch.randn(32, 3, 8, 8), torch.arange(32) % 4


def search(**options):
    part = (images, labels)
    given = {{"calibration": images, "evaluate": part, "report": part, "budget": 0.5, "finish_steps": 0}}
    return autoprune.search(model, images[:2], **given, **options)
"""


def _requirements(*names: str) -> set[str]:
    """Return installed distributions and all that they require, without extras."""
    found: set[str] = set()
    waiting = list(names)
    while waiting:
        name = waiting.pop()
        try:
            installed = distribution(name)
        except PackageNotFoundError:  # for another platform
            continue
        if name not in found:
            found.add(name)
            waiting += [
                _NAME.match(line).group().lower() for line in installed.requires or () if "extra ==" not in line
            ]
    return found


@pytest.fixture(scope="session")
def packages(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with links to the files of torch, numpy and safetensors, and of what they require."""
    folder = tmp_path_factory.mktemp("packages")
    for name in _requirements("torch", "numpy", "safetensors"):
        installed = distribution(name)
        for top in {file.parts[0] for file in installed.files or () if file.parts[0] not in ("..", "__pycache__")}:
            link = folder / top
            if not link.exists():
                link.symlink_to(Path(installed.locate_file(top)))
    return folder


def _run(packages: Path, code: str) -> str:
    start = _START.format(root=str(ROOT), packages=str(packages))
    done = subprocess.run(
        [sys.executable, "-S", "-E", "-c", start + code], capture_output=True, text=True, check=False, cwd=packages
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_models_are_inspected_pruned_and_searched_by_rules(packages: Path) -> None:
    code = """
from importlib.util import find_spec
assert not [name for name in ("scipy", "sklearn", "optuna", "gymnasium", "torchvision", "rich", "typer") if find_spec(name)]
found = autoprune.inspect_model(model, images[:2])
print([group["channels"] for group in found["groups"] if group["prunable"]])
graph = autoprune.proved_graph(model, images[:2])
half = {group.name: np.arange(group.size // 2) for group in graph.groups if group.reason is None}
small = autoprune.prune_model(model, graph, half)
print(small(images).shape, small[2].weight.shape)
found = search(agent="uniform")
print([row["name"] for row in found.report["rows"]], found.report["final"]["macs"] <= found.report["dense"]["macs"] / 2)
try:
    found.table
except autoprune.UsageError as error:
    print(error)
"""
    lines = _run(packages, code).splitlines()
    assert lines[0] == "[8, 8]"
    assert lines[1] == "torch.Size([32, 4]) torch.Size([4, 4, 3, 3])"
    assert lines[2] == "['dense', 'uniform'] True"
    assert lines[3] == "A text table needs the package 'rich', which is not installed: pip install rich."


def test_what_is_missing_is_said_in_a_sentence(packages: Path) -> None:
    code = """
def said(call):
    try:
        call()
    except autoprune.UsageError as error:
        print(error)

for agent in ("auto", "ddpg", "tpe", "cmaes"):
    said(lambda: search(agent=agent, episodes=8))
said(lambda: search(agent="uniform", select="lasso"))
from autoprune.models import load_model
said(lambda: load_model("torchvision:resnet18"))
from autoprune.data import load_data
said(lambda: load_data("digits"))
said(lambda: __import__("autoprune.envs").envs.ChannelPruningEnv)
from contextlib import redirect_stderr
from autoprune.cli import main
with redirect_stderr(sys.stdout):
    assert main(["inspect"]) == 2
"""
    said = _run(packages, code).splitlines()
    sentence = re.compile(r"[A-Z].* needs? the package '([\w-]+)', which is not installed: pip install ([\w-]+)\.")
    found = [sentence.fullmatch(line.removeprefix("Error: ")) for line in said]
    assert all(found), said
    assert all(match[1] == match[2] for match in found)
    assert [match[1] for match in found] == [
        *("scipy", "gymnasium", "optuna", "optuna", "scikit-learn", "torchvision", "scikit-learn", "gymnasium"),
        "typer",
    ]


def test_every_extra_that_is_named_is_there() -> None:
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    for module, extra in EXTRAS.items():
        assert module in {_NAME.match(line).group() for line in extras[extra]}
