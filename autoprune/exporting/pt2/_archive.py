"""Reading of ``.pt2`` archives without running what is hidden in them.

``torch.export.load`` unpickles: sample inputs that do not load weights-only are loaded with everything allowed, weights and
constants may be marked as pickles, and archives may hold compiled libraries that are opened. Parts of the program are imported
(enumerations in the structure of its inputs), evaluated (sizes), or become source code that is executed (guards, names). So
every entry's checksum is compared, and torch is given an archive made anew of the weights and of a program that
`autoprune.exporting.pt2._program` wrote from what it understood of the file's.
"""

from __future__ import annotations

import io
import json
import math
import re
import zipfile
from pathlib import Path
from typing import Any

from autoprune.exporting.pt2._names import fail, has_name
from autoprune.exporting.pt2._program import clean_program

_PROGRAM = "models/model.json"
_PLAIN = re.compile(r"archive_format|archive_version|byteorder|\.data/\w+|\.format_version|\.storage_alignment")
_PAYLOAD = re.compile(r"data/(weights/weight|constants/tensor)_\d+")
_CONFIG = re.compile(r"data/(weights/model_weights|constants/model_constants)_config\.json")
_SAMPLES = "data/sample_inputs/model.pt"
MOST_JSON = 64 << 20
"""Largest program, in bytes; that of a network of a thousand layers has about 2 MB."""


def checked_pt2(path: Path) -> io.BytesIO:
    """Return an archive that ``torch.export.load`` can be given.

    Raises:
        ValueError: if the file is damaged, or holds something that could run code; says what.
        OSError: if it cannot be read.
    """
    entries = _entries(path)
    for name in [name for name in entries if _CONFIG.fullmatch(name)]:
        entries[name] = _clean_config(name, _json(entries[name], name), entries)
    if _PROGRAM not in entries:
        fail("it holds no program")
    entries[_PROGRAM] = json.dumps(clean_program(_json(entries[_PROGRAM], "program"))).encode()
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w", zipfile.ZIP_STORED) as archive:
        for name, content in entries.items():
            archive.writestr(f"archive/{name}", content)
    made.seek(0)
    return made


def _entries(path: Path) -> dict[str, bytes]:
    """Return the archive's entries without the folder they lie in, the sample inputs empty."""
    found: dict[str, bytes] = {}
    try:
        with zipfile.ZipFile(path) as archive:
            for entry in archive.infolist():
                name = entry.filename.partition("/")[2]
                if name != _SAMPLES and not any(
                    form.fullmatch(name) for form in (_PLAIN, _PAYLOAD, _CONFIG, re.compile(re.escape(_PROGRAM)))
                ):
                    fail(f"it holds '{entry.filename[:60]}', which could run code")
                if name in found or entry.compress_type != zipfile.ZIP_STORED:
                    fail(f"it holds '{entry.filename[:60]}' twice or compressed")
                if name.endswith(".json") and entry.file_size > MOST_JSON:
                    fail(f"its '{name}' has {entry.file_size:,} bytes, more than any network's")
                found[name] = archive.read(entry)  # compares the checksum
    except (zipfile.BadZipFile, EOFError, NotImplementedError) as error:
        raise ValueError(f"it is damaged: {error}") from error
    return {**found, _SAMPLES: b""}  # torch looks for them, and nothing needs them


def _json(content: bytes, what: str) -> Any:
    try:
        return json.loads(content.decode("utf-8"))  # infinities are values of operators
    except (ValueError, RecursionError) as error:
        raise ValueError(f"its {what} is no JSON ({str(error)[:100]})") from error


def _clean_config(name: str, config: Any, entries: dict[str, bytes]) -> bytes:
    """Return where the tensors lie, having seen that they are no pickles and that their bytes are there."""
    found: dict[str, Any] = {}
    for key, entry in dict(config["config"]).items():
        if entry["use_pickle"] or not re.fullmatch(r"(weight|tensor)_\d+", entry["path_name"]):
            fail(f"'{key[:60]}' in its {name.rpartition('/')[2]} is a pickle, which could run code")
        if not has_name(key):
            fail(f"'{key[:60]}' in its {name.rpartition('/')[2]} is no tensor's name")
        sizes = [size["as_int"] for size in entry["tensor_meta"]["sizes"]]
        stored = len(entries.get(f"{name.rpartition('/')[0]}/{entry['path_name']}", b""))
        if any(type(size) is not int or size < 0 for size in sizes) or math.prod(sizes) > stored:
            fail(f"'{key[:60]}' has the sizes {str(sizes)[:60]}, but {stored:,} bytes are stored")
        found[key] = entry
    return json.dumps({"config": found}).encode()
