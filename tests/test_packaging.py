"""envs/ and agents/ lie at the top of the checkout and are installed as autoprune.envs and autoprune.agents."""

import os
import shutil
import subprocess
import sys
import zipfile
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


@pytest.fixture(scope="session")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with what a wheel installs in ``wheel``, and what an editable install does in ``editable``."""
    pytest.importorskip("setuptools", minversion="77")  # as pyproject.toml asks for; an older one comes with some venvs
    folder = tmp_path_factory.mktemp("built")
    source = folder / "source"
    source.mkdir()
    for name in ("pyproject.toml", "setup.py", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    for name in ("autoprune", "agents", "envs", "tests"):
        shutil.copytree(ROOT / name, source / name, ignore=shutil.ignore_patterns("__pycache__"))
    for kind in ("wheel", "editable"):
        code = f"from setuptools import build_meta as m; print(m.build_{kind}({str(folder)!r}))"
        run = subprocess.run([sys.executable, "-c", code], cwd=source, capture_output=True, text=True, check=True)
        with zipfile.ZipFile(folder / run.stdout.split()[-1]) as archive:
            archive.extractall(folder / kind)
    return folder


def test_the_wheel_has_every_module_of_the_checkout_and_no_other(built: Path) -> None:
    def modules(top: Path, below: str = "") -> set[str]:
        return {f"{below}{path.relative_to(top).as_posix()}" for path in top.rglob("*.py")}

    expected = modules(ROOT / "autoprune")
    for name in ("agents", "envs"):
        expected |= modules(ROOT / name, f"{name}/")
    wheel = built / "wheel"
    assert modules(wheel / "autoprune") == expected
    assert modules(wheel) == {f"autoprune/{name}" for name in expected}


@pytest.mark.parametrize("kind", ["wheel", "editable"])
def test_only_the_package_can_be_imported(built: Path, kind: str) -> None:
    code = f"""
import importlib, site, sys
sys.meta_path[:] = [finder for finder in sys.meta_path if 'ditable' not in str(finder)]  # of this environment's install
for name in [name for name in sys.modules if "editable" in name]:
    del sys.modules[name]
sys.path.insert(0, {str(built / kind)!r})
site.addsitedir(sys.path[0])
import autoprune.agents, autoprune.envs
for name in ("agents", "envs", "tests", "autoprune.tests", "autoprune.docs", "autoprune.benchmarks"):
    try:
        importlib.import_module(name)
    except ModuleNotFoundError:
        continue
    raise SystemExit(f"{{name}} can be imported")
print(autoprune.__file__, autoprune.agents.__file__, autoprune.envs.__file__)
"""
    done = subprocess.run([sys.executable, "-I", "-c", code], cwd="/", capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    places = [Path(place).parent for place in done.stdout.split()]
    if kind == "wheel":
        package = built / "wheel" / "autoprune"
        assert places == [package, package / "agents", package / "envs"]
    else:
        assert places == [built / "source" / name for name in ("autoprune", "agents", "envs")]


def test_a_checkout_lends_nothing_else() -> None:
    code = "from importlib import util as u; import autoprune.agents, autoprune.envs; print(u.find_spec('autoprune.tests'))"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "None"


def test_version_is_the_installed_one() -> None:
    assert version("autoprune") == autoprune.__version__


def test_typed_marker_is_there() -> None:
    assert (Path(autoprune.__file__).parent / "py.typed").is_file()
