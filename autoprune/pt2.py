"""Reading of ``.pt2`` archives without running what is hidden in them.

``torch.export.load`` unpickles: sample inputs that do not load weights-only are loaded with everything allowed, weights and
constants may be marked as pickles, and archives may hold compiled libraries that are opened. The program itself has strings
that are evaluated: sizes (by SymPy) and guards (as Python). Files that `autoprune.export` writes need none of this, so what
goes beyond plain tensors and arithmetic is refused here, every entry's checksum is compared, and torch is given an archive
made anew of the entries that were looked at.
"""

from __future__ import annotations

import ast
import io
import json
import re
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch

_ENTRY = re.compile(
    r"archive_format|archive_version|byteorder|\.data/\w+|\.format_version|\.storage_alignment|models/model\.json"
    r"|data/weights/(weight_\d+|model_weights_config\.json)|data/constants/(tensor_\d+|model_constants_config\.json)"
    r"|data/sample_inputs/model\.pt"
)
_SAMPLES = "data/sample_inputs/model.pt"
_TARGET = re.compile(
    r"torch\.ops\.(?!load_|loaded_|import_|_)\w+\.(?!__)\w+(\.(?!__)\w+)?|torch\.sym_\w+|math\.\w+"
    r"|_operator\.(getitem|add|sub|mul|floordiv|truediv|mod|neg|pos|pow|eq|ne|lt|le|gt|ge|and_|or_|not_)|"
)
_SYMBOL = re.compile(r"[a-z]+\d+")  # as torch names sizes: s0, u3
_NUMBER = re.compile(r"[+-]?\d+(\.\d*)?(e[+-]?\d+)?")
_FUNCTIONS = frozenset({
    "Max", "Min", "Mod", "PythonMod", "FloorDiv", "CeilDiv", "CleanDiv", "ModularIndexing", "Eq", "Ne", "Gt", "Ge", "Lt", "Le",
    "And", "Or", "Not", "Abs", "Pow", "PowByNatural", "FloatPow", "TruncToInt", "TruncToFloat", "ToFloat", "RoundToInt",
    "FloorToInt", "CeilToInt", "IntTrueDiv", "FloatTrueDiv", "Identity", "Where", "Symbol", "Integer", "Rational", "Float",
    "Add", "Mul", "floor", "ceiling", "oo", "int_oo", "L",
})  # fmt: skip
_PLAIN = (
    ast.Expression, ast.Compare, ast.BoolOp, ast.BinOp, ast.UnaryOp, ast.Constant, ast.Name, ast.Subscript, ast.Call,
    ast.Attribute, ast.keyword, ast.operator, ast.unaryop, ast.boolop, ast.cmpop, ast.expr_context,
)  # fmt: skip


def checked_pt2(path: Path) -> io.BytesIO:
    """Return an archive that ``torch.export.load`` can be given.

    Raises:
        ValueError: if the file is damaged, or holds something that could run code; says what.
        OSError: if it cannot be read.
    """
    entries = _entries(path)
    for name, content in entries.items():
        if name.endswith("_config.json"):
            _check_config(name, content)
    _check_samples(entries.get(_SAMPLES, b""))
    _check_program(json.loads(entries.get("models/model.json", b"null")))
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w", zipfile.ZIP_STORED) as archive:
        for name, content in entries.items():
            archive.writestr(f"archive/{name}", content)
    made.seek(0)
    return made


def _entries(path: Path) -> dict[str, bytes]:
    """Return the archive's entries, without the folder they lie in."""
    found: dict[str, bytes] = {}
    try:
        with zipfile.ZipFile(path) as archive:
            for entry in archive.infolist():
                name = entry.filename.partition("/")[2]
                if not _ENTRY.fullmatch(name):
                    raise ValueError(f"it holds '{entry.filename[:60]}', which could run code")
                if name in found or entry.compress_type != zipfile.ZIP_STORED:
                    raise ValueError(f"it holds '{entry.filename[:60]}' twice or compressed")
                found[name] = archive.read(entry)  # compares the checksum
    except (zipfile.BadZipFile, EOFError, NotImplementedError) as error:
        raise ValueError(f"it is damaged: {error}") from error
    return found


def _check_config(name: str, content: bytes) -> None:
    for key, entry in json.loads(content)["config"].items():
        if entry["use_pickle"] or not re.fullmatch(r"(weight|tensor)_\d+", entry["path_name"]):
            raise ValueError(f"'{key[:60]}' in its {name.rpartition('/')[2]} is a pickle, which could run code")


def _check_samples(content: bytes) -> None:
    if not content:
        return
    try:
        torch.load(io.BytesIO(content), weights_only=True)
    except Exception as error:  # torch raises many kinds here
        raise ValueError("its sample inputs are more than tensors, which could run code") from error


def _check_program(program: Any) -> None:
    for key, value in _walk(program):
        if key == "target" and isinstance(value, str) and not _TARGET.fullmatch(value):
            raise ValueError(f"it calls '{value:.60}', which is no operator of torch")
        if key == "expr_str" and not _is_arithmetic(value, inputs=False):
            raise ValueError(f"its size '{value!s:.60}' is more than arithmetic")
        if key == "guards_code" and not all(_is_arithmetic(guard, inputs=True) for guard in value):
            raise ValueError("its guards are more than comparisons of sizes")


def _walk(value: Any) -> Iterator[tuple[str, Any]]:
    """Go through all keys of nested JSON."""
    if isinstance(value, dict):
        for key, item in value.items():
            yield key, item
            yield from _walk(item)
    elif isinstance(value, list):
        for item in value:
            yield from _walk(item)


def _is_arithmetic(text: Any, *, inputs: bool) -> bool:
    """Whether an expression is about numbers and symbols only, and maybe sizes of inputs (``L['x'].size()[0]``)."""
    try:
        nodes = list(ast.walk(ast.parse(text, mode="eval")))
    except (SyntaxError, ValueError, TypeError, RecursionError):
        return False
    names = {id(node.slice) for node in nodes if inputs and isinstance(node, ast.Subscript) and _is_inputs(node.value)}
    return all(isinstance(node, _PLAIN) and (id(node) in names or _is_harmless(node)) for node in nodes)


def _is_inputs(node: ast.expr) -> bool:
    return isinstance(node, ast.Name) and node.id == "L"


def _is_harmless(node: ast.AST) -> bool:
    if isinstance(node, ast.Constant):
        text = node.value if isinstance(node.value, str) else "0"  # SymPy evaluates texts in their turn
        return isinstance(node.value, int | float | str) and bool(_SYMBOL.fullmatch(text) or _NUMBER.fullmatch(text))
    if isinstance(node, ast.Name):
        return node.id in _FUNCTIONS or _SYMBOL.fullmatch(node.id) is not None
    if isinstance(node, ast.Attribute):
        return node.attr in ("size", "stride", "ndim", "dim")
    if isinstance(node, ast.Call):
        return isinstance(node.func, ast.Name | ast.Attribute)
    return True
