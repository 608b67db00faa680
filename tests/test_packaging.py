"""envs/ and agents/ lie at the top of the checkout and are installed as autoprune.envs and autoprune.agents."""

import os
import shutil
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import pytest

import autoprune

ROOT = Path(__file__).parents[1]
# An editable install's import hook would find the subpackages by itself; the paths alone must do.
_WHERE = (
    "import sys; sys.meta_path[:] = [finder for finder in sys.meta_path if 'ditable' not in str(finder)]\n"
    "import autoprune, autoprune.envs, autoprune.agents\n"
    "print(*(module.__file__ for module in (autoprune, autoprune.envs, autoprune.agents)), sep='\\n')"
)


@pytest.fixture
def site(tmp_path: Path) -> Path:
    """A folder laid out like a plain install."""
    ignore = shutil.ignore_patterns("__pycache__")
    shutil.copytree(ROOT / "autoprune", tmp_path / "site" / "autoprune", ignore=ignore)
    for name in ("envs", "agents"):
        shutil.copytree(ROOT / name, tmp_path / "site" / "autoprune" / name, ignore=ignore)
    return tmp_path / "site"


def _where(folder: Path, site: Path) -> list[Path]:
    run = subprocess.run(
        [sys.executable, "-c", _WHERE],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(site), "PYTHONDONTWRITEBYTECODE": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 0, run.stderr
    return [Path(line) for line in run.stdout.split()]


def test_plain_install_with_the_checkout_as_current_folder(site: Path) -> None:
    expected = [ROOT / name / "__init__.py" for name in ("autoprune", "envs", "agents")]
    assert _where(ROOT, site) == expected


def test_plain_install_elsewhere(site: Path, tmp_path: Path) -> None:
    package = site / "autoprune"
    expected = [folder / "__init__.py" for folder in (package, package / "envs", package / "agents")]
    assert _where(tmp_path, site) == expected


def test_a_checkout_adds_one_folder_to_the_path_and_an_install_none(site: Path) -> None:
    code = "import autoprune; print(len(autoprune.__path__))"
    for folder, count in ((ROOT, "2"), (site, "1")):
        run = subprocess.run([sys.executable, "-c", code], cwd=folder, capture_output=True, text=True, check=True)
        assert run.stdout.strip() == count


def test_every_package_is_listed() -> None:
    tomllib = pytest.importorskip("tomllib")
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    listed = project["tool"]["setuptools"]["packages"]
    found = {"autoprune"}
    for top, prefix in (
        (ROOT / "autoprune", "autoprune"),
        (ROOT / "envs", "autoprune.envs"),
        (ROOT / "agents", "autoprune.agents"),
    ):
        for init in top.rglob("__init__.py"):
            found.add(".".join([prefix, *init.parent.relative_to(top).parts]))
    assert sorted(listed) == sorted(found)


def test_version_is_the_installed_one() -> None:
    assert version("autoprune") == autoprune.__version__


def test_typed_marker_is_there() -> None:
    assert (Path(autoprune.__file__).parent / "py.typed").is_file()
