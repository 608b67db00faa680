"""What a file given as a network is, told by its name and the names in its archive: nothing in it is read or run."""

from __future__ import annotations

from pathlib import Path
from zipfile import BadZipFile, ZipFile

_EXPORTED = ("archive_format", "serialized_exported_program.json", "models/model.json")
_INSTEAD = "give the code that makes it, --model path/to/file.py:factory"
_ITS_WEIGHTS = "its weights, saved as .safetensors or with torch.save(network.state_dict(), FILE), as --weights"


def not_a_network(path: Path) -> str:
    """Return a sentence on why a file is not taken as a network, and what to give instead.

    Args:
        path: A file that is there.
    """
    if path.suffix == ".py":
        return f"The model '{path}' is a file of Python; name what makes the network in it, --model {path}:factory."
    if path.suffix == ".safetensors":
        return f"The model '{path}' is a file of weights; {_INSTEAD}, and this file as --weights."
    if path.suffix == ".onnx":
        return f"The model '{path}' is an ONNX graph, which has no modules to prune; {_INSTEAD}, and {_ITS_WEIGHTS}."
    names = _names(path)
    if any(name.endswith(_EXPORTED) for name in names):
        return (
            f"The model '{path}' is a saved ExportedProgram, a program without the network's modules; {_INSTEAD}, and "
            f"{_ITS_WEIGHTS}."
        )
    if any("/code/" in name or name.endswith("constants.pkl") for name in names):
        return (
            f"The model '{path}' is a scripted or traced network (TorchScript), which is not loaded from files; {_INSTEAD}, and "
            f"{_ITS_WEIGHTS}."
        )
    return (
        f"The model '{path}' is a file, and networks are not unpickled; {_INSTEAD}, and this file as --weights if it holds a "
        "state dict."
    )


def _names(path: Path) -> list[str]:
    """Return the names in a zip archive; none if it is none."""
    try:
        with ZipFile(path) as archive:
            return archive.namelist()
    except (BadZipFile, OSError, ValueError, NotImplementedError):
        return []
