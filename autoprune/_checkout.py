"""``envs/`` and ``agents/`` lie beside this folder in a source checkout, inside it once installed: imported from either place."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec
from importlib.util import spec_from_file_location
from pathlib import Path
from types import ModuleType

BESIDE = ("agents", "envs")
"""Folders of a checkout that are installed inside the package; nothing else of it can be imported as ``autoprune.something``."""


class _Beside(MetaPathFinder):
    def __init__(self, root: Path) -> None:
        self._root = root

    def find_spec(
        self, name: str, path: Sequence[str] | None = None, target: ModuleType | None = None, /
    ) -> ModuleSpec | None:
        package, _, folder = name.partition(".")
        if package != "autoprune" or folder not in BESIDE:
            return None
        place = self._root / folder
        return spec_from_file_location(name, place / "__init__.py", submodule_search_locations=[str(place)])


def import_from_the_checkout() -> None:
    """Let ``autoprune.agents`` and ``autoprune.envs`` be imported from beside this folder, if that is a checkout."""
    root = Path(__file__).resolve().parent.parent
    if (root / "pyproject.toml").is_file() and all((root / folder / "__init__.py").is_file() for folder in BESIDE):
        sys.meta_path.insert(0, _Beside(root))
