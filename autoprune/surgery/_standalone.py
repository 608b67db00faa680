"""``load.py`` of a run folder: puts the small network back into its class without autoprune. Nothing here runs it."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from autoprune.groups import PruningGraph
from autoprune.model_guard import ModelInputs
from autoprune.surgery._calls import coded

LOADER = "load.py"
"""Its name."""
_PLAIN = (bool, int, float, str, type(None))
_INTERNAL = frozenset(vars(nn.Module()))


def loader_text(
    dense: nn.Module,
    small: nn.Module,
    graph: PruningGraph,
    traced: nn.Module | None = None,
    inputs: ModelInputs | None = None,
) -> str:
    """Return a module of Python whose ``load`` makes the small network of what the dense one's constructor returns.

    Where that is not had by new weights and numbers alone, its ``load`` says why.

    Args:
        dense: The dense network.
        small: The small one.
        graph: The dense network's coupling graph.
        traced: Of the small network the parts that were pruned; None for all of it.
        inputs: What these are called with; None if that is not known.
    """
    text = Path(__file__).with_name("_loader.py").read_text(encoding="utf-8")
    why = next(_refusals(dense, small, graph, coded(traced or small, inputs)), "")
    if why:
        why += " Rebuild the network with autoprune.load_pruned, or take the program that autoprune export --format pt2 writes."
        return text.replace('REFUSED = ""', f"REFUSED = {_source(why)}")
    lines = [f"    {_source(path)}: {_source(values)},\n" for path, values in _attributes(dense, small)]
    return text.replace(" = {}\n", f" = {{\n{''.join(lines)}}}\n", 1) if lines else text


def _attributes(dense: nn.Module, small: nn.Module) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield for each module the numbers beside its tensors that are others than in the dense network."""
    for path, module in small.named_modules():
        before = vars(dense.get_submodule(path))
        changed = {
            name: tuple(value) if isinstance(value, torch.Size) else value
            for name, value in vars(module).items()
            if name not in _INTERNAL and _plain(value) and name in before and before[name] != value
        }
        if changed:
            yield path, changed


def _source(value: Any) -> str:
    """Return a plain value as Python code, quoted as formatters do."""
    if isinstance(value, str):
        return json.dumps(value, ensure_ascii=False)
    if isinstance(value, dict):
        return f"{{{', '.join(f'{_source(key)}: {_source(item)}' for key, item in value.items())}}}"
    if isinstance(value, tuple):
        return f"({', '.join(map(_source, value))}{',' if len(value) == 1 else ''})"
    if isinstance(value, list):
        return f"[{', '.join(map(_source, value))}]"
    return f'float("{value}")' if isinstance(value, float) and not math.isfinite(value) else repr(value)


def _plain(value: object) -> bool:
    return type(value) in _PLAIN or (
        type(value) in (tuple, list, torch.Size) and all(map(_plain, value))  # type: ignore[call-overload]
    )


def _refusals(dense: nn.Module, small: nn.Module, graph: PruningGraph, coded_in: str | None) -> Iterator[str]:
    """Yield sentences on what weights and numbers alone do not make of the dense network."""
    if graph.folded:
        where = f"{graph.folded[0].module}.{graph.folded[0].tensor}".lstrip(".")
        yield f"The dense network computes '{where}' ({graph.folded[0].kind}), which the pruned one holds as a plain weight."
    if coded_in is not None:
        yield (
            f"The code of '{coded_in}' names numbers of channels in its calls, which the pruned network gives other numbers "
            f"(a search with --ignore '{coded_in}' keeps them)."
        )
    paths = dict(dense.named_modules())
    for path, module in small.named_modules():
        before = paths.get(path)
        if before is None or type(before) is not type(module) or isinstance(module, torch.jit.ScriptModule):
            yield f"The module '{path}' ({type(module).__name__}) is not one that the dense network's constructor makes."
            return
        held = {name for name, tensor in module._buffers.items() if tensor is not None}
        cached = {name for name in vars(module) if any(f"{name}{end}" in module._parameters for end in ("_g", "_v"))}
        for name, value in (*module._buffers.items(), *vars(module).items()):
            if name in (held - module._non_persistent_buffers_set) | cached or not isinstance(value, Tensor):
                continue
            other = getattr(before, name, None)
            if not isinstance(other, Tensor) or other.shape != value.shape:
                yield f"The tensor '{f'{path}.{name}'.lstrip('.')}' was pruned and is not among the saved weights."
