"""Automatic channel pruning: a budget in, a smaller ordinary PyTorch network and the policy that made it out."""

from __future__ import annotations

from pathlib import Path

__version__ = "0.1.0"

# envs/ and agents/ lie beside this folder in a source checkout and inside it once installed.
_root = Path(__file__).resolve().parent.parent
if (_root / "pyproject.toml").is_file() and (_root / "envs" / "__init__.py").is_file():
    __path__.append(str(_root))
