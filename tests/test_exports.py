from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

import autoprune

API = Path(__file__).parents[1] / "docs" / "api.md"


def test_all_is_sorted_and_everything_in_it_exists() -> None:
    assert autoprune.__all__ == sorted(autoprune.__all__)
    assert all(getattr(autoprune, name) is not None for name in autoprune.__all__)
    assert set(autoprune.__all__) <= set(dir(autoprune))


def test_the_documentation_lists_every_name_once_and_says_how_stable_it_is() -> None:
    rows = re.findall(r"^\| `(\w+)` \| .+ \| (stable|provisional) \|$", API.read_text(encoding="utf-8"), re.MULTILINE)
    assert sorted(name for name, _ in rows) == autoprune.__all__


def test_a_name_that_is_not_there() -> None:
    with pytest.raises(AttributeError, match="'autoprune' has no attribute 'serach'"):
        _ = autoprune.serach


def test_import_and_help_do_not_load_torch() -> None:
    code = "import sys, autoprune.cli as c; c.main(['search', '--help']); sys.exit('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "Examples:" in done.stdout
