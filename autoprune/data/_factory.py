"""The user's own data: a function that returns the parts."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from autoprune.data._adapt import as_dataset
from autoprune.data._check import Expected
from autoprune.data._held import Held
from autoprune.data._items import Items
from autoprune.data._labels import labels_in
from autoprune.data._types import CALIBRATION, draw, halves
from autoprune.errors import UsageError
from autoprune.registry import Registry, call_factory

_NAMES = {"calibration": "calibration", "train": "train", "search": "search", "report": "report"}
_NAMES |= {"validation": "search", "val": "search", "test": "report"}
"""Keys that a factory's mapping may have, and the part that each is."""
_MAPPING = '{"calibration": ..., "search": ..., "report": ...} (and "train": ... to fine-tune on)'
Parts = dict[str, Held | Items]
EMBEDDED = ("cluttered-digits", "digits")
"""The built-in data that need no folder, each with an embedded network of the same name."""
KINDS = (*EMBEDDED, "cifar10", "fashion-mnist", "imagefolder")
"""The built-in data, each but the embedded with its folder behind a colon."""
data_sources: Registry[Callable[..., Any]] = Registry("data source", "autoprune.data_sources", reserved=KINDS)
"""Data of one's own by name, ``--data NAME`` or ``NAME:ROOT``: factories like those of ``package.module:factory``, which may also
take ``root``."""


def call_data_factory(
    spec: str,
    options: Mapping[str, Any],
    expected: Expected,
    *,
    factory: Callable[..., Any] | None = None,
    labels: bool | None = True,
) -> tuple[Parts, str, bool]:
    """Call the factory and name its parts calibration, search, report and, if there is one, train.

    The factory returns a mapping with these names ("validation" or "val" for search and "test" for report are understood too),
    or a tuple of two: calibration and search images. Each part is whatever `autoprune.data.adapt` understands. Without report
    images the search images are halved at random (fixed seed); without calibration images some of "train" are taken.

    Args:
        spec: The factory.
        options: What it may have parameters for.
        expected: What the network takes and gives.
        factory: The factory, where ``spec`` is a registered name.
        labels: Whether there are labels; False reads none, None those that there are.

    Returns:
        The parts, in words how they were made, and whether labels are read.

    Raises:
        UsageError: if it returns anything else.
        AutopruneError: if it raises.
    """
    parts = _named(call_factory(spec, "data", options, factory=factory), spec)
    if labels is None:
        labels, search = labels_in(parts["search"][1])
        parts["search"] = (parts["search"][0], search)
    if (
        labels and "train" in parts and not (seen := labels_in(parts["train"][1]))[0]
    ):  # only fine-tuning learns from them
        parts["train"] = (parts["train"][0], seen[1])
        alone = {"train"}
    else:
        alone = set()
    found = {
        name: as_dataset(part, name, expected, labelled=name != "calibration" if labels and name not in alone else None)
        for name, (_, part) in parts.items()
    }
    how = {name: key for name, (key, _) in parts.items()}
    if "calibration" not in found:
        found["calibration"] = found["train"].subset(draw(CALIBRATION, len(found["train"])).tolist())
        how["calibration"] = (
            f"some of {how['train']}" if len(found["calibration"]) < len(found["train"]) else how["train"]
        )
    if "report" not in found:
        whole = found["search"]
        if len(whole) < 2:
            raise UsageError(
                f"The search part of '{spec}' holds 1 image, which cannot be halved into search and report; give at least 2."
            )
        first, second = halves(len(whole))
        found |= {"search": whole.subset(first.tolist()), "report": whole.subset(second.tolist())}
        words = f"calibration: {how['calibration']}; search and report: {how['search']}, halved at random"
        return found, words, labels
    return found, "; ".join(f"{name}: {how[name]}" for name in ("calibration", "search", "report")), labels


def raw_parts(spec: str, options: Mapping[str, Any], *, factory: Callable[..., Any] | None = None) -> dict[str, Any]:
    """Call the factory and return its parts as they came, by the names calibration, search, report and train.

    Args:
        spec: The factory.
        options: What it may have parameters for.
        factory: The factory, where ``spec`` is a registered name.

    Raises:
        UsageError: if it returns anything else than named parts.
        AutopruneError: if it raises.
    """
    found = {
        name: part for name, (_, part) in _named(call_factory(spec, "data", options, factory=factory), spec).items()
    }
    return {"calibration": found["train"], **found} if "calibration" not in found else found


def _named(found: Any, spec: str) -> dict[str, tuple[str, Any]]:
    """Return what each part is called in the factory's answer, and the part."""
    if isinstance(found, tuple) and hasattr(found, "_asdict"):
        found = found._asdict()
    if isinstance(found, tuple | list):
        if len(found) != 2:
            raise UsageError(
                f"The data '{spec}' returned a {type(found).__name__} of {len(found)}, of which nobody can say which part is "
                f"which; return {_MAPPING}."
            )
        return {"calibration": ("the first of two", found[0]), "search": ("the second of two", found[1])}
    if not isinstance(found, Mapping):
        raise UsageError(f"The data '{spec}' returned a {type(found).__name__}, but must return {_MAPPING}.")
    given = {str(key): part for key, part in found.items() if part is not None}
    unknown = [key for key in given if key not in _NAMES]
    parts: dict[str, tuple[str, Any]] = {}
    for key in given:
        name = _NAMES.get(key, key)
        if name in parts:
            raise UsageError(
                f"The data '{spec}' returned both '{parts[name][0]}' and '{key}', which are the same part; return {_MAPPING}."
            )
        parts[name] = key, given[key]
    if unknown or "search" not in parts or not {"calibration", "train"} & set(parts):
        raise UsageError(
            f"The data '{spec}' returned a mapping with the keys {', '.join(given) or 'none'}, but must return {_MAPPING}."
        )
    return parts
