"""The program in a ``.pt2`` file, written anew from what is understood of it.

One tensor goes in, one comes out. What torch would import, execute or pass on unread is not copied: guards (torch makes those of
the inputs' sizes itself), metadata of nodes, the structure of inputs and outputs, which is always the same. Everything else is
copied key by key: an operator must be listed (`_operators`), a name an identifier, a size plain arithmetic
(`_sizes`).
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any

from autoprune.exporting.pt2._names import fail, node_name, path_name
from autoprune.exporting.pt2._operators import NUMBERS, check_flags, check_text, operator_of
from autoprune.exporting.pt2._sizes import MOST_NUMBER, check_size

MOST_NODES = 50_000
MOST_BITS = 256
"""Most bits of a number that sizes are calculated to, were every input as large as can be."""
_LEAF: dict[str, Any] = {"type": None, "context": None, "children_spec": []}
_TUPLE = {"type": "builtins.tuple", "context": "null", "children_spec": [_LEAF]}
_NO_KEYWORDS = {"type": "builtins.dict", "context": "[]", "children_spec": []}
_IN = json.dumps([1, {"type": "builtins.tuple", "context": "null", "children_spec": [_TUPLE, _NO_KEYWORDS]}])
_OUT = json.dumps([1, _LEAF])
_VERIFIERS = (["TRAINING"], ["ATEN"])


def clean_program(program: Any) -> dict[str, Any]:
    """Return a program that torch can be given.

    Raises:
        ValueError: saying what in it is not understood.
    """
    try:
        module = program["graph_module"]
        specs = _signature(module["signature"])
        graph = _graph(module["graph"])
        root = {
            "fqn": "",
            "signature": {"inputs": [], "outputs": [], "in_spec": _IN, "out_spec": _OUT, "forward_arg_names": None},
        }
        if program["verifiers"] not in _VERIFIERS:
            fail(f"it is of the dialect {program['verifiers']!s:.60}")
        return {
            "graph_module": {
                "graph": graph,
                "signature": specs,
                "module_call_graph": [root],
                "metadata": {},
                "treespec_namedtuple_fields": {},
            },
            "opset_version": {"aten": _int(program["opset_version"]["aten"])},
            "range_constraints": {
                node_name(name): {key: _bound(bounds[key]) for key in ("min_val", "max_val")}
                for name, bounds in program["range_constraints"].items()
            },
            "schema_version": {key: _int(program["schema_version"][key]) for key in ("major", "minor")},
            "verifiers": program["verifiers"],
            "torch_version": _version(program["torch_version"]),
            "guards_code": [],
        }
    except (KeyError, TypeError, AttributeError, IndexError, RecursionError) as error:
        raise ValueError(f"its program is damaged ({type(error).__name__}: {str(error)[:60]})") from error


def _version(text: Any) -> str:
    return text if isinstance(text, str) and len(text) < 60 and "\n" not in text else ""


def _int(value: Any) -> int:
    if type(value) is not int or abs(value) > MOST_NUMBER:
        fail(f"it has the number {value!s:.40}, which is no whole number of a size")
    return value


def _bound(value: Any) -> int | None:
    return None if value is None else _int(value)


def _signature(signature: Mapping[str, Any]) -> dict[str, Any]:
    inputs = [_input(spec) for spec in signature["input_specs"]]
    if sum("user_input" in spec for spec in inputs) != 1:
        fail("it takes something else than one tensor")
    outputs = signature["output_specs"]
    if len(outputs) != 1 or set(outputs[0]) != {"user_output"}:
        fail("it gives something else than one tensor, or changes its weights")
    output = {"user_output": {"arg": _tensor(outputs[0]["user_output"]["arg"])}}
    return {"input_specs": inputs, "output_specs": [output]}


def _input(spec: Mapping[str, Any]) -> dict[str, Any]:
    (kind, content), *more = spec.items()
    if more or kind not in ("user_input", "parameter", "buffer", "tensor_constant"):
        fail(f"it takes an input of the kind '{kind!s:.40}'")
    if kind == "user_input":
        return {kind: {"arg": _tensor(content["arg"])}}
    found = {"arg": {"name": node_name(content["arg"]["name"])}, f"{kind}_name": path_name(content[f"{kind}_name"])}
    return {kind: {**found, "persistent": content["persistent"] is True} if kind == "buffer" else found}


def _tensor(argument: Mapping[str, Any]) -> dict[str, Any]:
    if set(argument) != {"as_tensor"}:
        fail("it takes or gives something else than a tensor")
    return {"as_tensor": {"name": node_name(argument["as_tensor"]["name"])}}


def _graph(graph: Mapping[str, Any]) -> dict[str, Any]:
    if len(graph["nodes"]) > MOST_NODES:
        fail(f"it has {len(graph['nodes']):,} nodes, more than any network's")
    if graph.get("custom_obj_values"):
        fail("it holds an object of a class of its own")
    bits: dict[str, int] = {}
    return {
        "inputs": [_tensor(argument) for argument in graph["inputs"]],
        "outputs": [_tensor(argument) for argument in graph["outputs"]],
        "nodes": [_node(node, bits) for node in graph["nodes"]],
        "tensor_values": {node_name(name): _meta(meta) for name, meta in graph["tensor_values"].items()},
        "sym_int_values": {node_name(name): _size(value) for name, value in graph["sym_int_values"].items()},
        "sym_bool_values": {node_name(name): _truth(value) for name, value in graph["sym_bool_values"].items()},
        "sym_float_values": {
            node_name(name): _size(value, float) for name, value in graph.get("sym_float_values", {}).items()
        },
        "is_single_tensor_return": graph["is_single_tensor_return"] is True,
        "custom_obj_values": {},
    }


def _meta(meta: Mapping[str, Any]) -> dict[str, Any]:
    """Return a tensor's type, sizes and strides."""
    return {
        "dtype": _int(meta["dtype"]),
        "sizes": [_size(size) for size in meta["sizes"]],
        "requires_grad": meta["requires_grad"] is True,
        "device": _device(meta["device"]),
        "strides": [_size(size) for size in meta["strides"]],
        "storage_offset": _size(meta["storage_offset"]),
        "layout": _int(meta["layout"]),
    }


def _device(device: Mapping[str, Any]) -> dict[str, Any]:
    if device["type"] != "cpu":
        fail(f"it computes on the device '{device['type']!s:.40}'; export it on the CPU")
    return {"type": "cpu", "index": None if device.get("index") is None else 0}


def _size(size: Mapping[str, Any], kind: type = int) -> dict[str, Any]:
    """Return a size: a number, or an expression."""
    (form, value), *more = size.items()
    plain = {int: "as_int", float: "as_float"}[kind]
    if form == plain and not more:
        return {plain: _int(value) if kind is int else float(value)}
    if form != "as_expr" or more:
        fail(f"it has a size of the kind '{form!s:.40}'")
    return {"as_expr": _expression(value)}


def _truth(value: Mapping[str, Any]) -> dict[str, Any]:
    if set(value) == {"as_bool"}:
        return {"as_bool": value["as_bool"] is True}
    return {"as_expr": _expression(value["as_expr"])}


def _expression(value: Mapping[str, Any]) -> dict[str, Any]:
    check_size(value["expr_str"])
    hint = value.get("hint")
    if hint is not None:
        ((kind, number),) = hint.items()
        if kind not in ("as_int", "as_float", "as_bool"):
            fail(f"it has a size of the kind '{kind!s:.40}'")
        hint = {kind: _int(number) if kind == "as_int" else float(number) if kind == "as_float" else number is True}
    return {"expr_str": value["expr_str"], "hint": hint}


def _node(node: Mapping[str, Any], bits: dict[str, int]) -> dict[str, Any]:
    """Return a call, of an operator or of arithmetic on sizes."""
    target = node["target"]
    given = {str(entry["name"]): entry["arg"] for entry in node["inputs"]}
    if target in NUMBERS:
        name = ""
        _bound_bits(target, node, bits)
    else:
        name, _ = operator_of(target)
        check_flags(name, given)
        for output in node["outputs"]:  # a size of a tensor, or what is made of it
            if "as_sym_int" in output:
                bits[str(output["as_sym_int"].get("as_name"))] = 40
    return {
        "target": target,
        "inputs": [
            {"name": _keyword(entry["name"]), "arg": _argument(entry["arg"], name, entry["name"]), "kind": _kind(entry)}
            for entry in node["inputs"]
        ],
        "outputs": [_argument(output, "", "") for output in node["outputs"]],
        "metadata": {},
        "is_hop_single_tensor_return": None,
        "name": None if node.get("name") is None else node_name(node["name"]),
    }


def _keyword(name: Any) -> str:
    return "" if name == "" else node_name(name)


def _kind(entry: Mapping[str, Any]) -> int | None:
    return None if entry.get("kind") is None else _int(entry["kind"])


def _bound_bits(target: str, node: Mapping[str, Any], bits: dict[str, int]) -> None:
    """Refuse calculations whose numbers grow without bound, as repeated squaring does."""
    parts = [
        bits.get(str(value.get("as_name")), 40) if isinstance(value, Mapping) else 64
        for entry in node["inputs"]
        for value in entry["arg"].values()
    ]
    total = sum(parts) if target.endswith(".mul") else max(parts, default=0) + 1
    if total > MOST_BITS:
        fail("it calculates sizes of more digits than any tensor's")
    for output in node["outputs"]:
        for value in output.values():
            if isinstance(value, Mapping):
                bits[str(value.get("as_name"))] = total


def _named(value: Mapping[str, Any]) -> dict[str, Any]:
    return {"name": node_name(value["name"])}


def _symbolic(value: Mapping[str, Any]) -> dict[str, Any]:
    (form, content), *more = value.items()
    if more or form not in ("as_name", "as_int", "as_bool", "as_float"):
        fail(f"it has a size of the kind '{form!s:.40}'")
    copy: dict[str, Callable[[Any], Any]] = {
        "as_name": node_name, "as_int": _int, "as_bool": lambda flag: flag is True, "as_float": float,
    }  # fmt: skip
    return {form: copy[form](content)}


def _optional(value: Mapping[str, Any]) -> dict[str, Any]:
    return {"as_none": True} if set(value) == {"as_none"} else _tensor(value)


def _many(copy: Callable[[Any], Any]) -> Callable[[Any], Any]:
    def copy_all(values: Any) -> Any:
        if not isinstance(values, list):
            fail("a list of an operator's arguments is none")
        return [copy(value) for value in values]

    return copy_all


_ARGUMENTS: dict[str, Callable[[Any], Any]] = {
    "as_none": lambda value: True,
    "as_tensor": _named,
    "as_tensors": _many(_named),
    "as_optional_tensor": _optional,
    "as_optional_tensors": _many(_optional),
    "as_int": _int,
    "as_ints": _many(_int),
    "as_float": float,
    "as_floats": _many(float),
    "as_bool": lambda value: value is True,
    "as_bools": _many(lambda value: value is True),
    "as_sym_int": _symbolic,
    "as_sym_ints": _many(_symbolic),
    "as_sym_float": _symbolic,
    "as_sym_bool": _symbolic,
    "as_scalar_type": _int,
    "as_memory_format": _int,
    "as_layout": _int,
    "as_device": _device,
}


def _argument(argument: Mapping[str, Any], operator: str, name: Any) -> dict[str, Any]:
    (kind, value), *more = argument.items()
    if more:
        fail("an argument of an operator has several values")
    if kind == "as_string":
        return {kind: check_text(operator, name, value)}
    if kind not in _ARGUMENTS:
        fail(f"it gives '{operator or 'a calculation'}' an argument of the kind '{kind!s:.40}'")
    return {kind: _ARGUMENTS[kind](value)}
