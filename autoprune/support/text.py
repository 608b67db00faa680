"""Values in messages."""

from __future__ import annotations

from typing import Any


def short(value: Any) -> str:
    """Return ``value`` for a message; fingerprints and numbers of many digits are cut to their first 12 characters."""
    text = str(value)
    long = len(text) == 64 if isinstance(value, str) else len(text) > 40 and isinstance(value, int | float)
    return text[:12] + "…" if long else text
