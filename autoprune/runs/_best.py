"""The best network of a search that is not finished: there from the first policy within the budget on.

It is one file, ``best.safetensors``, so that it is there whole whenever the search is stopped: weights, policy and loader. Where
somebody wants it, it is laid out as a folder ``best/`` like those of ``prune``, which every verb takes.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from torch import nn

from autoprune.errors import UsageError
from autoprune.runs._run import RunFolder
from autoprune.support.files import write_text_atomic
from autoprune.support.strict_json import parse_json, to_json
from autoprune.support.tensors import load_described, save_safetensors_atomic
from autoprune.surgery import LOADER, Policy


def write_best(folder: RunFolder, network: nn.Module, policy: Policy, *, loader: str, what: str) -> None:
    """Keep a network as the best so far.

    Args:
        folder: The run.
        network: The small network.
        policy: Its policy.
        loader: The text of its ``load.py``.
        what: What it is in words, for who exports it.

    Raises:
        AutopruneError: if it cannot be written.
    """
    folder.check_in_place()
    said = {"policy": to_json(policy.to_dict()), "loader": loader, "what": what}
    save_safetensors_atomic(folder.best_path, network.state_dict(), metadata=said)


def lay_out_best(folder: RunFolder, say: Callable[[str], None]) -> Path | None:
    """Return a folder with the best network so far of a run that is not finished; None if it is finished, or has none.

    Args:
        folder: The run.
        say: Told what network it is.

    Raises:
        UsageError: if its file is damaged.
        AutopruneError: if the folder cannot be written.
    """
    if folder.finished or not folder.exists or not folder.best_path.is_file():
        return None
    state, said = load_described(folder.best_path)
    try:
        policy, loader, what = Policy.from_dict(parse_json(said["policy"])), said["loader"], said["what"]
    except (KeyError, ValueError, UsageError) as error:
        raise UsageError(
            f"The file '{folder.best_path}' is damaged; continue the search, which writes it anew: autoprune search --out "
            f"{folder.path}"
        ) from error
    path = folder.path / "best"
    save_safetensors_atomic(path / "model.safetensors", state)
    policy.save(path / "policy.json")
    write_text_atomic(path / LOADER, loader)
    say(f"The run in '{folder.path}' is not finished; this is its best network so far: {what}.")
    return path


def remove_best(folder: RunFolder) -> None:
    """Remove what is no longer needed once the run is finished."""
    folder.best_path.unlink(missing_ok=True)
    path = folder.path / "best"
    if path.is_dir() and not path.is_symlink():
        for name in ("model.safetensors", "model.safetensors.json", "policy.json", LOADER):
            (path / name).unlink(missing_ok=True)
        if not any(path.iterdir()):
            path.rmdir()
