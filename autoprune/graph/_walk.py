"""Walks through a program once and asks the rules for the labels of every value."""

from __future__ import annotations

import logging
import operator
from typing import Any, Literal, cast

import numpy as np
import torch
from torch import Tensor
from torch.export.graph_signature import OutputKind
from torch.fx import Node
from torch.fx.node import map_arg

from autoprune.errors import UsageError
from autoprune.graph._call import Call, Param, ProductCall, concrete
from autoprune.graph._computed import ComputedWeight, computed_weights
from autoprune.graph._constants import Constants
from autoprune.graph._labels import NEUTRAL, constant, core, neutral
from autoprune.graph._propagation import OUTPUT, Propagation, Rule
from autoprune.graph._rules_cut import CUT_RULES
from autoprune.graph._rules_elementwise import ELEMENTWISE_RULES, binary, unary
from autoprune.graph._rules_join import JOIN_RULES
from autoprune.graph._rules_layers import LAYER_RULES, TABLE_RULES
from autoprune.graph._rules_norms import NORM_RULES
from autoprune.graph._rules_order import ORDER_RULES
from autoprune.graph._rules_products import PRODUCT_RULES
from autoprune.graph._rules_recurrent import RECURRENT_RULES
from autoprune.graph._rules_reduce import CHOICES, REDUCE_RULES, REDUCED
from autoprune.graph._rules_shape import SHAPE_RULES, move
from autoprune.graph._statistics import come_back
from autoprune.graph._tails import at_the_end
from autoprune.graph._trace import Traced
from autoprune.groups import Argument, Refusal

_log = logging.getLogger(__name__)

_MOVE_RULES = {**SHAPE_RULES, **CUT_RULES, **JOIN_RULES, **ORDER_RULES}
_RULES: dict[str, Rule] = {
    **ELEMENTWISE_RULES,
    **REDUCE_RULES,
    **_MOVE_RULES,
    **LAYER_RULES,
    **TABLE_RULES,
    **NORM_RULES,
    **PRODUCT_RULES,
    **RECURRENT_RULES,
}

_WITH_WEIGHTS = frozenset((*LAYER_RULES, *RECURRENT_RULES))


def _all_tensors(p: Propagation, call: Call) -> Any:
    tensors = [name for name, value in call.args.items() if isinstance(value, (Tensor, Param))]
    return unary(p, call) if len(tensors) == 1 else p.join(call, tensors) if tensors else binary(p, call)


def register_op(name: str, rule: Rule | Literal["elementwise", "move"]) -> None:
    """Teach the coupling graph an operator. What follows from it is proved like everything else.

    Args:
        name: The operator without overload, "namespace.name" ("mylib.swish").
        rule: "elementwise" (all tensors are joined element by element), "move" (the operator is run on integer labels), or a
            function of ``(propagation, call)`` that returns the labels of the output.

    Raises:
        UsageError: if the operator is known already.
    """
    if name in _RULES:
        raise UsageError(
            f"The operator '{name}' already has a rule; register only operators that are refused as unknown."
        )
    _RULES[name] = _all_tensors if rule == "elementwise" else move if rule == "move" else rule


def known_ops() -> list[str]:
    """Return the names of all operators that have a rule, sorted."""
    return sorted(_RULES)


def _is_mutable(target: Any) -> bool:
    return isinstance(target, torch._ops.OpOverload) and target._schema.is_mutable


def op_name(target: Any) -> str:
    """Return an operator's name without overload and in-place mark ("aten.add" for ``add_.Tensor``)."""
    if not isinstance(target, torch._ops.OpOverload):
        return str(getattr(target, "__name__", target))
    name = str(target._overloadpacket)
    return name[:-1] if _is_mutable(target) and name.endswith("_") and not name.endswith("__") else name


def _bind(target: torch._ops.OpOverload, args: tuple[Any, ...], kwargs: dict[str, Any]) -> dict[str, Any]:
    return {**{spec.name: value for spec, value in zip(target._schema.arguments, args, strict=False)}, **kwargs}


def _is_view(node: Node) -> bool:
    target = node.target
    if target is operator.getitem:
        return True
    return isinstance(target, torch._ops.OpOverload) and any(
        ret.alias_info is not None and not ret.alias_info.is_write for ret in target._schema.returns
    )


class _Walk:
    def __init__(self, traced: Traced, fixed: frozenset[Argument]) -> None:
        self.traced = traced
        self.p = Propagation(
            tensors=traced.tensors,
            frozen_params=dict(traced.frozen),
            sizes=traced.sizes,
            calls=traced.calls,
            fixed=fixed,
            constants=Constants(traced.program),
            ends=lambda node: at_the_end(node, traced.inputs, _WITH_WEIGHTS),
        )
        self.env: dict[Node, Any] = {}
        self.p.computed = computed_weights(traced)
        self.weights = {weight.node: weight for weight in self.p.computed.values()}
        self.inside = {node for weight in self.weights.values() for node in weight.nodes}
        self.active: set[Node] = set()
        self.mixed: set[Node] = set()

    def run(self) -> Propagation:
        nodes = list(self.traced.program.graph.nodes)
        for node in nodes:
            if node.op == "placeholder":
                self.env[node] = self._placeholder(node)
            elif node.op == "output":
                self._output(node)
            elif node in self.weights:
                self.env[node] = self._weight(self.weights[node])
            elif node in self.inside:
                self.env[node] = None
            elif node.op == "call_function":
                self.env[node] = self._value(node)
        layers = {layer.call.node for layer in self.p.layers}
        self._judge_statistics(layers)
        for node in nodes:
            if op_name(node.target) in LAYER_RULES and node not in layers:
                self.p.products[node] = ProductCall(node)
        self.p.values = self.env
        return self.p

    def _judge_statistics(self, layers: set[Node]) -> None:
        """Refuse the means and the like over channels that do not come back to them."""
        over: dict[tuple[int, ...], list[Node]] = {}
        for node, (_, _, labels) in self.p.statistics.items():
            over.setdefault(tuple(np.unique(self.p.sets.find(labels)).tolist()), []).append(node)
        for nodes in over.values():
            labels = self.p.statistics[nodes[0]][2]
            if not come_back(nodes, labels, self.env, self.p.sets.find, active=self.active, mixed=layers | self.mixed):
                for node in nodes:
                    call, _, labels = self.p.statistics.pop(node)
                    (self.p.refuse_mixed if call.op in CHOICES else self.p.refuse)(call, labels, REDUCED)

    def _placeholder(self, node: Node) -> Any:
        value = node.meta.get("val")
        if node in self.traced.tensors:
            name = self.traced.tensors[node]
            return Param(name, self.traced.shapes[name])
        if not isinstance(value, Tensor):
            return value
        shape = concrete(value.shape)
        if node in self.traced.inputs:
            self.active.add(node)
            return constant(self.p.opaque_label("the network's input channels stand beside them"), shape)
        if value.numel() == 1:
            return neutral(shape)
        return constant(
            self.p.opaque_label(f"a constant tensor of shape {list(shape)} in the code is as wide as they are"), shape
        )

    def _weight(self, weight: ComputedWeight) -> Param:
        """A computed weight stands for the parameter it comes from, whose output channels its vectors share."""
        source: Param = self.env[weight.source]
        labels = self.p.slot_labels(source, 0)
        for vector, dim in weight.vectors:
            labels = self.p.unite_slot(labels, self.env[vector], dim)
        return source

    def _output(self, node: Node) -> None:
        specs = self.traced.program.graph_signature.output_specs
        for result, spec in zip(node.args[0], specs, strict=True):  # type: ignore[arg-type]
            value = self.env.get(result) if isinstance(result, Node) else None
            if spec.kind == OutputKind.USER_OUTPUT:
                self.p.freeze(value, OUTPUT)
            else:
                self.p.freeze(value, f"they are written to '{spec.target}' by the forward pass")

    def _value(self, node: Node) -> Any:
        read = {n: self.env.get(n) for n in node.all_input_nodes}
        args = map_arg(node.args, read.__getitem__)
        kwargs = map_arg(node.kwargs, read.__getitem__)
        target = node.target
        active = {n for n in node.all_input_nodes if n in self.active}
        if active and not isinstance(node.meta.get("val"), (int, torch.SymInt, float, bool)):
            self.active.add(node)
        if target is operator.getitem:
            source, item = cast("tuple[Any, int]", args)
            return source[item] if isinstance(source, (list, tuple)) else source
        value = node.meta.get("val")
        if isinstance(value, (int, float, bool)):
            return value
        if isinstance(value, (torch.SymInt, torch.SymFloat, torch.SymBool)):
            return value.node.hint
        if not isinstance(target, torch._ops.OpOverload):
            call = Call(node, op_name(target), dict(enumerate(args)), frozenset())  # type: ignore[arg-type]
            return self._unknown(call, args, kwargs)
        bound = _bind(target, args, kwargs)
        nodes = _bind(target, node.args, node.kwargs)
        names = frozenset(name for name, arg in nodes.items() if any(n in self.active for n in _nodes(arg)))
        call = Call(node, op_name(target), bound, names)
        rule = _RULES.get(call.op)
        if call.op not in ELEMENTWISE_RULES and call.op not in _MOVE_RULES:
            self.mixed.add(node)
        if call.op in PRODUCT_RULES:
            self.p.products[node] = ProductCall(node)
        try:
            result = rule(self.p, call) if rule else self._unknown(call, args, kwargs)
        except (RuntimeError, ValueError, TypeError, LookupError, AttributeError) as error:  # fail closed
            _log.debug("The rule of %s failed: %r", call.op, error)
            result = self.p.refuse(call, list(bound.values()), "the operator is used in a way that is not understood")
        if _is_mutable(target):
            self._written(call, result)
        return result

    def _unknown(self, call: Call, args: Any, kwargs: Any) -> Any:
        self.p.products[call.node] = ProductCall(call.node)
        if not _tensors([args, kwargs]):
            value = call.node.meta.get("val")
            if isinstance(value, Tensor):
                return constant(
                    self.p.opaque_label(self.p.reason_at(call, "an operator that is not known makes a tensor")),
                    concrete(value.shape),
                )
            return None
        text = "an operator that is not known to the coupling graph"
        return self.p.refuse_mixed(call, [args, list(kwargs.values())], text)

    def _written(self, call: Call, result: Any) -> None:
        """An in-place operator: later uses of what it wrote to see the result."""
        written = call.node.args[0] if call.node.args else None
        if not isinstance(written, Node) or not isinstance(result, Tensor):
            return
        before = self.env.get(written)
        if isinstance(before, Param):
            self.p.freeze([before, result], self.p.reason_at(call, f"the tensor '{before.name}' is changed in place"))
            return
        if _is_view(written) and isinstance(before, Tensor):
            known = core(before)
            if bool((known == NEUTRAL).any()) and bool((core(result) != NEUTRAL).any()):
                reason = self.p.reason_at(call, "channels are written in place into a tensor made in the code")
                self.p.freeze(result, reason)
                self.p.refusals.append(Refusal(call.node.name, reason))
        self.env[written] = result
        if (call.node.meta.get("val") is not None and written in self.active) or call.active:
            self.active.add(written)


def _nodes(value: Any) -> list[Node]:
    found: list[Node] = []
    map_arg(value, found.append)
    return found


def _tensors(value: Any) -> list[Any]:
    if isinstance(value, (Tensor, Param)):
        return [value]
    if isinstance(value, dict):
        value = list(value.values())
    return [found for item in value for found in _tensors(item)] if isinstance(value, (list, tuple)) else []


def propagate(traced: Traced, fixed: frozenset[Argument] = frozenset()) -> Propagation:
    """Return what the rules find out about a traced program.

    Args:
        traced: The program.
        fixed: Arguments of calls that do not follow the channels by themselves.
    """
    return _Walk(traced, fixed).run()


__all__: list[str] = ["known_ops", "op_name", "propagate", "register_op"]
