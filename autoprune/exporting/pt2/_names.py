"""Names in an exported program: torch writes them into source code, so they are letters, digits and little else."""

from __future__ import annotations

import re
from typing import Any, NoReturn

_NODE = re.compile(r"[A-Za-z_]\w{0,300}", re.ASCII)
_PATH = re.compile(r"[\w.:/+\- ]{1,300}", re.ASCII)


def fail(message: str) -> NoReturn:
    """Raise a ValueError."""
    raise ValueError(message)


def node_name(name: Any) -> str:
    """Return the name of a node (ValueError for anything that is no identifier)."""
    if not isinstance(name, str) or not _NODE.fullmatch(name):
        fail(f"it has the name '{name!s:.60}', which is no identifier")
    return name


def has_name(path: Any) -> bool:
    """Whether something may be the dotted name of a parameter or buffer."""
    return isinstance(path, str) and _PATH.fullmatch(path) is not None


def path_name(path: Any) -> str:
    """Return the dotted name of a parameter or buffer (ValueError for anything else)."""
    if not has_name(path):
        fail(f"it has the parameter '{path!s:.60}', which is no dotted name")
    return str(path)
