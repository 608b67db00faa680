"""Where ``torch.export`` refuses a model: the same ATen operators, recorded while the example input runs through it.

What is recorded is one path through the code, with sizes and numbers as they were on the example. It is packed as an exported
program of the same conventions (parameters, buffers and constants are placeholders), so that nothing downstream differs.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch._export.verifier import TrainingIRVerifier
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.export import ExportedProgram
from torch.export.exported_program import ModuleCallEntry, ModuleCallSignature
from torch.export.graph_signature import (
    ExportGraphSignature,
    InputKind,
    InputSpec,
    OutputKind,
    OutputSpec,
    TensorArgument,
)
from torch.fx.experimental.proxy_tensor import make_fx
from torch.utils import _pytree as pytree

from autoprune.model_guard import ModelInputs


def output_tensors(output: Any) -> list[Tensor]:
    """Return all tensors of a model's output in order: of tuples, lists, dictionaries and dataclasses, however nested."""
    found: list[Tensor] = []
    for leaf in pytree.tree_leaves(output):
        if isinstance(leaf, Tensor):
            found.append(leaf)
        elif dataclasses.is_dataclass(leaf) and not isinstance(leaf, type):
            found += output_tensors([getattr(leaf, entry.name) for entry in dataclasses.fields(leaf)])
        elif isinstance(leaf, Mapping):
            found += output_tensors(list(leaf.values()))
    return found


def _state(model: nn.Module) -> dict[str, Tensor]:
    """Return parameters and buffers, tied ones once; the buffers are copies, since the forward may write to them."""
    buffers = {name: buffer.detach().clone() for name, buffer in model.named_buffers()}
    return {**{name: parameter.detach() for name, parameter in model.named_parameters()}, **buffers}


def record(model: nn.Module, inputs: ModelInputs) -> ExportedProgram:
    """Run a model and return what it did as a program.

    Args:
        model: The model, in eval mode.
        inputs: What it is called with.

    Raises:
        Exception: whatever the tracer or the model raises.
    """
    state = _state(model)

    def forward(tensors: dict[str, Tensor], given: list[Tensor]) -> list[Tensor]:
        following = iter(given)
        called = inputs.map(lambda _: next(following))
        return output_tensors(torch.func.functional_call(model, tensors, called.args, called.kwargs))

    traced = make_fx(
        forward,
        tracing_mode="real",
        pre_dispatch=True,
        _error_on_data_dependent_ops=False,
        record_stack_traces=True,
    )(state, list(inputs.tensors))
    return _pack(model, traced, list(state), inputs)


def _pack(model: nn.Module, traced: fx.GraphModule, names: list[str], called: ModelInputs) -> ExportedProgram:
    graph = traced.graph
    placeholders = graph.find_nodes(op="placeholder")
    lifted, given = placeholders[: len(names)], placeholders[len(names) :]
    parameters = dict(model.named_parameters())
    persistent = set(model.state_dict())
    inputs = [
        InputSpec(InputKind.PARAMETER, TensorArgument(node.name), name)
        if name in parameters
        else InputSpec(InputKind.BUFFER, TensorArgument(node.name), name, persistent=name in persistent)
        for node, name in zip(lifted, names, strict=True)
    ]
    constants = _lift_constants(traced, given[0])
    _one_fake_mode(graph)
    inputs += [InputSpec(InputKind.CONSTANT_TENSOR, TensorArgument(node.name), node.name) for node in constants]
    inputs += [InputSpec(InputKind.USER_INPUT, TensorArgument(node.name), None) for node in given]
    (output,) = graph.find_nodes(op="output")
    results = pytree.tree_leaves(output.args)
    output.args = (tuple(results),)
    outputs = [OutputSpec(OutputKind.USER_OUTPUT, TensorArgument(node.name), None) for node in results]
    spec = pytree.tree_structure((called.tensors, {}))
    signature = ModuleCallSignature([], [], spec, pytree.tree_structure([0] * len(outputs)))
    own = {**parameters, **dict(model.named_buffers())}
    return ExportedProgram(
        root=traced,
        graph=graph,
        graph_signature=ExportGraphSignature(inputs, outputs),
        state_dict={name: own[name] for name in names},
        range_constraints={},
        module_call_graph=[ModuleCallEntry("", signature)],
        constants={node.name: tensor for node, tensor in constants.items()},
        verifiers=[TrainingIRVerifier],
    )


def _one_fake_mode(graph: fx.Graph) -> None:
    """Let all values that stand in the graph belong to one fake mode, as the exporter's do."""
    mode = FakeTensorMode()

    def fake(value: Any) -> Any:
        if not isinstance(value, Tensor):
            return value
        with mode:
            return torch.empty_strided(value.shape, value.stride(), dtype=value.dtype, device=value.device)

    for node in graph.nodes:
        if "val" in node.meta:
            node.meta["val"] = pytree.tree_map(fake, node.meta["val"])
            node.meta.pop("tensor_meta", None)
        elif node.op == "call_function":
            node.meta["val"] = None  # a number that the code took out of a tensor, and that no operator reads


def _lift_constants(traced: fx.GraphModule, before: fx.Node) -> dict[fx.Node, Tensor]:
    """Turn tensors that the code made outside the recorder's sight into placeholders."""
    found: dict[fx.Node, Tensor] = {}
    seen: dict[str, fx.Node] = {}
    for node in traced.graph.find_nodes(op="get_attr"):
        target = str(node.target)
        if target not in seen:
            with traced.graph.inserting_before(before):
                placeholder = traced.graph.placeholder(f"c_{target.strip('_')}")
            placeholder.meta = dict(node.meta)
            placeholder.meta["val"] = getattr(traced, target)
            found[placeholder] = getattr(traced, target).detach()
            seen[target] = placeholder
        node.replace_all_uses_with(seen[target])
        traced.graph.erase_node(node)
    return found
