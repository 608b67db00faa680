"""Hostile programs: each is refused with a sentence, or what is hostile in it never reaches torch."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn

from autoprune.exporting import export_model
from autoprune.exporting.pt2._archive import _entries
from autoprune.exporting.pt2._program import clean_program
from autoprune.exporting.pt2._sizes import check_size


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """The program of a small network with a batch normalisation."""
    path = tmp_path_factory.mktemp("pt2") / "net.pt2"
    net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(4 * 9, 2))
    export_model(net, torch.randn(2, 3, 5, 5), path, format="pt2")
    program: dict[str, Any] = json.loads(_entries(path)["models/model.json"])
    return program


def text(value: str) -> dict[str, Any]:
    return {"as_string": value}


def node(program: Any, number: int = 0) -> Any:
    return program["graph_module"]["graph"]["nodes"][number]


def calls(target: str, **arguments: Any) -> Callable[[Any], None]:
    """Return a change: the first call is another one."""

    def change(program: Any) -> None:
        node(program)["target"] = target
        node(program)["inputs"] = [{"name": name, "arg": arg, "kind": 1} for name, arg in arguments.items()]

    return change


def at(*path: Any, to: Any) -> Callable[[Any], None]:
    """Return a change: what lies at a path is something else."""

    def change(program: Any) -> None:
        for key in path[:-1]:
            program = program[key]
        program[path[-1]] = to

    return change


GRAPH = ("graph_module", "graph")
NODE = (*GRAPH, "nodes", 0)
IMAGE = {"as_tensor": {"name": "x"}}
MODULE = "it_was_imported"
ENUM = json.dumps(
    [1, {"type": None, "context": {"__enum__": True, "fqn": f"{MODULE}:E", "name": "A"}, "children_spec": []}]
)


def squaring(program: Any) -> None:
    """Square a size again and again."""
    program["graph_module"]["graph"]["nodes"] = [
        {
            "target": "_operator.mul",
            "inputs": [{"name": "", "arg": {"as_sym_int": {"as_name": f"n{max(place - 1, 0)}"}}} for _ in range(2)],
            "outputs": [{"as_sym_int": {"as_name": f"n{place}"}}],
            "metadata": {},
        }
        for place in range(60)
    ]


def doubled(program: Any) -> None:
    specs = program["graph_module"]["signature"]["input_specs"]
    specs.append(next(spec for spec in specs if "user_input" in spec))


REFUSED: dict[str, tuple[Callable[[Any], None], str]] = {
    "a file that is mapped": (
        calls("torch.ops.aten.from_file.default", filename=text("victim"), shared={"as_bool": True}),
        "calls 'aten.from_file.default'",
    ),
    "a write": (calls("torch.ops.aten.fill_.Scalar", self=IMAGE, value={"as_int": 0}), "calls 'aten.fill_.Scalar'"),
    "a write into an output": (
        calls("torch.ops.aten.add.out", self=IMAGE, other=IMAGE, out=IMAGE),
        "calls 'aten.add.out'",
    ),
    "an operator of somebody's": (calls("torch.ops.mine.steal.default"), "calls 'mine.steal.default'"),
    "an operator that loads": (calls("torch.ops.load_library"), "calls 'load_library'"),
    "a block": (calls("torch.ops.higher_order.cond"), "calls 'higher_order.cond'"),
    "a function of torch": (calls("torch.hub.load"), "calls 'torch.hub.load'"),
    "an extension": (calls("#mine.thing"), "calls '#mine.thing'"),
    "nothing to call": (at(*NODE, "target", to=None), "calls 'None'"),
    "a calculation with strings": (
        calls("torch.ops.aten.index.str", self=text("a"), substr=text("a")),
        "aten.index.str",
    ),
    "random numbers": (calls("torch.ops.aten.rand.default", size={"as_ints": [2]}), "calls 'aten.rand.default'"),
    "memory as it is": (calls("torch.ops.aten.empty.memory_format", size={"as_ints": [9]}), "calls 'aten.empty"),
    "text where none belongs": (
        calls("torch.ops.aten.relu.default", self=text("/etc/passwd")),
        "gives 'relu' the text",
    ),
    "text that is not listed": (
        calls("torch.ops.aten.gelu.default", self=IMAGE, approximate=text("exec")),
        "gives 'gelu' the text 'exec'",
    ),
    "an object": (
        calls("torch.ops.aten.relu.default", self={"as_custom_obj": {"name": "a", "class_fqn": "b"}}),
        "as_custom_obj",
    ),
    "an operator as argument": (
        calls("torch.ops.aten.relu.default", self={"as_operator": "torch.hub.load"}),
        "as_operator",
    ),
    "a graph as argument": (calls("torch.ops.aten.relu.default", self={"as_graph": {}}), "as_graph"),
    "another device": (
        calls(
            "torch.ops.aten.zeros.default", size={"as_ints": [2]}, device={"as_device": {"type": "cuda", "index": 0}}
        ),
        "on the device 'cuda'",
    ),
    "statistics that change": (
        calls("torch.ops.aten.batch_norm.default", input=IMAGE, training={"as_bool": True}),
        "as in training",
    ),
    "statistics that change by default": (calls("torch.ops.aten.batch_norm.default", input=IMAGE), "as in training"),
    "instance statistics that change": (
        calls(
            "torch.ops.aten.instance_norm.default", input=IMAGE, running_mean=IMAGE, use_input_stats={"as_bool": True}
        ),
        "as in training",
    ),
    "dropout": (calls("torch.ops.aten.dropout.default", input=IMAGE, train={"as_bool": True}), "as in training"),
    "a buffer that is written": (
        at(
            "graph_module",
            "signature",
            "output_specs",
            0,
            to={"buffer_mutation": {"arg": {"name": "a"}, "buffer_name": "b"}},
        ),
        "changes its weights",
    ),
    "two inputs": (doubled, "something else than one tensor"),
    "an input that is an object": (
        at("graph_module", "signature", "input_specs", 0, to={"custom_obj": {}}),
        "input of the kind 'custom_obj'",
    ),
    "an object of its own": (
        at(*GRAPH, "custom_obj_values", to={"a": {"name": "a", "class_fqn": "b"}}),
        "class of its own",
    ),
    "a name that is code": (at(*NODE, "name", to="x = __import__('os')"), "no identifier"),
    "an output that is code": (at(*NODE, "outputs", 0, to={"as_tensor": {"name": "a\nimport os"}}), "no identifier"),
    "a parameter that is code": (
        at("graph_module", "signature", "input_specs", 0, "parameter", "parameter_name", to='a", print(1), "'),
        "no dotted name",
    ),
    "a size that is code": (
        at(*GRAPH, "sym_int_values", to={"a": {"as_expr": {"expr_str": "__import__('os')", "hint": None}}}),
        "more than plain arithmetic",
    ),
    "a tower of powers": (
        at(*GRAPH, "sym_int_values", to={"a": {"as_expr": {"expr_str": "9**9**9**9", "hint": None}}}),
        "more than plain arithmetic",
    ),
    "sizes that are squared": (squaring, "more digits than any tensor's"),
    "a huge number": (at(*NODE, "inputs", 0, "arg", to={"as_ints": [10**4000, 1]}), "no whole number of a size"),
    "another dialect": (at("verifiers", to=["MINE"]), "of the dialect"),
    "too many nodes": (at(*GRAPH, "nodes", to=[None] * 60_000), "60,000 nodes"),
    "no graph": (at("graph_module", to=None), "is damaged"),
    "no program": (at("graph_module", "graph", "nodes", to=7), "is damaged"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_a_file_must_not_do_is_named(exported: dict[str, Any], name: str) -> None:
    change, message = REFUSED[name]
    program = copy.deepcopy(exported)
    change(program)
    with pytest.raises(ValueError, match=message.replace("(", r"\(")):
        clean_program(program)


def test_what_torch_would_execute_or_import_is_left_out(exported: dict[str, Any]) -> None:
    program = copy.deepcopy(exported)
    program["guards_code"] = ['L[\'x"+str(__import__("os"))+"\'].size()[0] == 2']
    program["graph_module"]["metadata"] = {"custom": "[" * 100_000}
    program["graph_module"]["treespec_namedtuple_fields"] = {MODULE: {"field_names": ["a"]}}
    root = program["graph_module"]["module_call_graph"][0]["signature"]
    root |= {"in_spec": ENUM, "out_spec": ENUM, "forward_arg_names": ["x):\n import os\ndef f("]}
    node(program)["metadata"] = {"source_fn_stack": f"a,{MODULE}", "from_node": "[]", "stack_trace": "File 'x'"}
    assert clean_program(program) == clean_program(exported)
    assert MODULE not in json.dumps(clean_program(program))


@pytest.mark.parametrize(
    ("expression", "right"),
    [
        ("Symbol('s77', positive=True, integer=True)", True),
        ("FloorDiv(s0 + 3, 2) * Max(u1, 4)", True),
        ("64*s77**2 - 1", True),
        ("(s0 - 1)//2 + 1", True),
        ("Eq(Mod(s0, 8), 0)", True),
        ("s0.foo", False),
        ("__import__('os')", False),
        ("Max('__import__(1)')", False),
        ("Symbol('s0', integer=__import__('os'))", False),
        ("Symbol('s0', integer='__import__(1)')", False),
        ("Symbol('__import__(1)')", False),
        ("[s0 for s0 in s1]", False),
        ("(lambda: s0)()", False),
        ("s0 +", False),
        ("9**9**9**9", False),
        ("(9**8)**8", False),
        ("9**9", False),
        ("s0**s1", False),
        ("s0**-1", False),
        ("1 << 10**9", False),
        ("Pow(9, Pow(9, 9))", False),
        ("10" * 400, False),
        ("1e400", False),
        ("+".join(["s0"] * 300), False),
        ("(" * 90 + "s0" + ")" * 90, True),
        ("-" * 900 + "s0", False),
        ("", False),
        (7, False),
        (None, False),
    ],
)
def test_sizes_are_bounded_arithmetic(expression: Any, right: bool) -> None:
    if right:
        check_size(expression)
    else:
        with pytest.raises(ValueError, match="more than plain arithmetic"):
            check_size(expression)
