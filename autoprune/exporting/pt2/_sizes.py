"""Sizes in an exported program: arithmetic in symbols like ``s0`` that SymPy evaluates, so that it must be bounded."""

from __future__ import annotations

import ast
import re
from typing import Any

from autoprune.exporting.pt2._names import fail

MOST_CHARACTERS = 1000
MOST_NODES = 200
MOST_NUMBER = 2**63
MOST_POWER = 8
_SYMBOL = re.compile(r"[a-z]+\d+")  # as torch names sizes: s0, u3
_FUNCTIONS = frozenset({
    "Max", "Min", "Mod", "PythonMod", "FloorDiv", "CeilDiv", "CleanDiv", "ModularIndexing", "Eq", "Ne", "Gt", "Ge", "Lt", "Le",
    "And", "Or", "Not", "Abs", "TruncToInt", "TruncToFloat", "ToFloat", "RoundToInt", "FloorToInt", "CeilToInt", "IntTrueDiv",
    "FloatTrueDiv", "Identity", "Where", "Add", "Mul", "Integer", "Rational", "floor", "ceiling",
})  # fmt: skip
_OPERATORS = (
    ast.Add, ast.Sub, ast.Mult, ast.Div, ast.FloorDiv, ast.Mod, ast.UAdd, ast.USub, ast.Not, ast.And, ast.Or, ast.Eq, ast.NotEq,
    ast.Lt, ast.LtE, ast.Gt, ast.GtE,
)  # fmt: skip


def check_size(text: Any) -> None:
    """Refuse an expression that is more than a bounded calculation with whole numbers and sizes.

    Raises:
        ValueError: naming the expression.
    """
    try:
        if not isinstance(text, str) or len(text) > MOST_CHARACTERS:
            raise ValueError("too long")
        body = ast.parse(text, mode="eval").body
        if sum(1 for _ in ast.walk(body)) > MOST_NODES:
            raise ValueError("too many parts")
        _check(body)
    except (SyntaxError, ValueError, TypeError, RecursionError, MemoryError) as error:
        raise ValueError(f"its size '{text!s:.60}' is more than plain arithmetic with sizes") from error


def _check(node: ast.expr) -> None:
    if isinstance(node, ast.Constant):
        if type(node.value) not in (int, float) or not abs(node.value) <= MOST_NUMBER:  # type: ignore[arg-type]
            fail("a constant that is no number of a size")
    elif isinstance(node, ast.Name):
        if not _SYMBOL.fullmatch(node.id) and node.id != "int_oo":
            fail("an unknown name")
    elif isinstance(node, ast.Call):
        _check_call(node)
    elif isinstance(node, ast.BinOp) and isinstance(node.op, ast.Pow):
        power = node.right
        if not (isinstance(power, ast.Constant) and type(power.value) is int and 0 <= power.value <= MOST_POWER):
            fail("a power that is not a small number")
        if any(isinstance(part, ast.Pow) for part in ast.walk(node.left)):
            fail("a power of a power")
        _check(node.left)
    elif isinstance(node, ast.BinOp | ast.UnaryOp | ast.BoolOp | ast.Compare):
        kinds = node.ops if isinstance(node, ast.Compare) else [node.op]
        if not all(isinstance(kind, _OPERATORS) for kind in kinds):
            fail("an unknown operator")
        for part in ast.iter_child_nodes(node):
            if isinstance(part, ast.expr):
                _check(part)
    else:
        fail("neither number, size nor arithmetic")


def _check_call(node: ast.Call) -> None:
    if not isinstance(node.func, ast.Name):
        fail("a call of something else than a function of sizes")
    if node.func.id == "Symbol":  # Symbol('s77', positive=True, integer=True)
        name = node.args[0].value if len(node.args) == 1 and isinstance(node.args[0], ast.Constant) else None
        flags = [keyword.value.value for keyword in node.keywords if isinstance(keyword.value, ast.Constant)]
        if not (isinstance(name, str) and _SYMBOL.fullmatch(name)):
            fail("a symbol that is no size")
        if len(flags) != len(node.keywords) or not all(type(flag) is bool for flag in flags):
            fail("a symbol with strange assumptions")
        return
    if node.func.id not in _FUNCTIONS or node.keywords:
        fail("an unknown function")
    for part in node.args:
        _check(part)
