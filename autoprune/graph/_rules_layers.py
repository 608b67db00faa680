"""Rules of the operators that consume and mint channels: convolutions, linear, PReLU."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.fx import Node

from autoprune.graph._call import Call, LayerCall, Param, TableCall
from autoprune.graph._labels import NEUTRAL, compress, varying
from autoprune.graph._propagation import Propagation
from autoprune.groups import IntArray


def from_channels(labels: IntArray, shape: tuple[int, ...], dim: int) -> Tensor:
    """Return a label tensor of ``shape`` with one label per index along ``dim``."""
    view = [1] * len(shape)
    view[dim] = len(labels)
    return compress(torch.from_numpy(np.array(labels)).view(view).expand(shape))


def _bias(p: Propagation, call: Call, out: IntArray) -> IntArray:
    bias = call.args.get("bias")
    if isinstance(bias, Param) and len(bias.shape) == 1:
        return p.unite_slot(out, bias, 0)
    if bias is not None:
        reason = p.reason_at(call, "the layer's bias is computed, not a parameter")
        p.freeze([out, bias], reason)
    return out


def _source(p: Propagation, node: Node) -> str:
    """Return the name of the largest parameter that a computed weight comes from, or the node's own name."""
    found, stack, seen = [], [node], {node}
    while stack:
        current = stack.pop()
        if current in p.tensors:
            found.append(current)
        stack += [n for n in current.all_input_nodes if n not in seen]
        seen.update(current.all_input_nodes)
    largest = max(found, key=lambda n: math.prod(n.meta["val"].shape), default=None)
    return node.name if largest is None else p.tensors[largest]


def _computed(p: Propagation, call: Call) -> Any:
    """A layer whose weight is computed from parameters (or whose input is one): listed, but none of its channels can go."""
    x, weight = call.args["input"], call.args["weight"]
    node = call.node.args[1]
    by_image = "weight" in call.active
    text = (
        "the layer's weight is computed from the image"
        if by_image
        else "the layer's weight is computed, not a parameter"
    )
    output = p.refuse(call, [x, weight, call.args.get("bias")], text)
    if isinstance(x, Tensor) and isinstance(weight, Tensor) and isinstance(node, Node):
        is_linear, transposed = call.op == "aten.linear", "transpose" in call.op
        channel = len(x.shape) - 1 if is_linear else 1
        p.layers.append(
            LayerCall(
                call=call,
                kind="linear" if is_linear else "conv_transpose" if transposed else "conv",
                weight=Param(_source(p, node), tuple(weight.shape)),
                bias=None,
                in_labels=p.channels(x, channel),
                out_labels=np.full(call.shape[-1 if is_linear else 1], NEUTRAL, dtype=np.int64),
                in_shape=tuple(x.shape),
            )
        )
    return output


def _same_place(p: Propagation, labels: IntArray, groups: int) -> IntArray:
    """Unite the channels at the same place of every group."""
    return np.tile(p.merge(labels.reshape(groups, -1), 0)[0], groups)


def conv(p: Propagation, call: Call) -> Any:
    """Convolution of any dimension, transposed or not.

    With groups, whole groups go, or the channels at the same place of every group, whichever leaves the finer choice.
    """
    x, weight = call.args["input"], call.args["weight"]
    transposed = "transpose" in call.op
    if not isinstance(weight, Param):
        return _computed(p, call)
    if not isinstance(x, Tensor) or x.dim() != len(weight.shape):
        return p.refuse(call, [x, weight, call.args.get("bias")], "the convolution's input has no batch dimension")
    if any(dim > 1 for dim in varying(x)):
        p.refuse(
            call, x, "a convolution runs along channels and mixes each with its neighbours, which change where one goes"
        )
    groups = int(call.args.get("groups", 1))
    in_dim = 0 if transposed else 1
    inputs = p.channels(x, 1)
    balanced = not transposed and 1 < groups < min(weight.shape[1], weight.shape[0] // groups)
    if balanced:
        inputs = _same_place(p, inputs, groups)
        p.unite_slot(inputs[: weight.shape[1]], weight, in_dim)
        out = _same_place(p, p.slot_labels(weight, 0), groups)
    elif groups == 1:
        inputs = p.unite_slot(inputs, weight, in_dim)
        out = p.sets.find(p.slot_labels(weight, 1 - in_dim))
    else:
        # The weight's first dimension holds all output channels (transposed: all input channels), group after group.
        own = p.slot_labels(weight, 0)
        united = p.combine(p.merge(inputs.reshape(groups, -1), 1), p.merge(own.reshape(groups, -1), 1))
        if transposed:
            out = np.repeat(united[:, 0], weight.shape[1])
            inputs = p.unite_slot(inputs, weight, 0)
        else:
            out = p.sets.find(own)
            inputs = p.sets.find(inputs)
    out = _bias(p, call, out)
    bias = call.args.get("bias")
    p.layers.append(
        LayerCall(
            call=call,
            kind="conv_transpose" if transposed else "conv",
            weight=weight,
            bias=bias if isinstance(bias, Param) else None,
            in_labels=inputs,
            out_labels=out,
            in_shape=tuple(x.shape),
            balanced=balanced,
        )
    )
    return from_channels(out, call.shape, 1)


def linear(p: Propagation, call: Call) -> Any:
    """``x @ weight.T + bias`` over the last dimension."""
    x, weight = call.args["input"], call.args["weight"]
    if not isinstance(weight, Param) or not isinstance(x, Tensor):
        return _computed(p, call)
    last = x.dim() - 1
    if any(dim != last for dim in varying(x)):
        p.refuse(call, [x], "a linear layer runs along a dimension that is not the channels'")
        inputs: IntArray = np.full(weight.shape[1], NEUTRAL, dtype=np.int64)
    else:
        inputs = p.unite_slot(p.channels(x, last), weight, 1)
    out = _bias(p, call, p.sets.find(p.slot_labels(weight, 0)))
    bias = call.args.get("bias")
    p.layers.append(
        LayerCall(
            call=call,
            kind="linear",
            weight=weight,
            bias=bias if isinstance(bias, Param) else None,
            in_labels=inputs,
            out_labels=out,
            in_shape=tuple(x.shape),
        )
    )
    return from_channels(out, call.shape, len(call.shape) - 1)


def prelu(p: Propagation, call: Call) -> Any:
    """PReLU with one slope, or one per channel."""
    x, weight = call.args["self"], call.args["weight"]
    if isinstance(weight, Param) and weight.shape in ((), (1,)):
        return x
    if not isinstance(x, Tensor) or x.dim() < 2 or not isinstance(weight, Param):
        return p.refuse(call, [x, weight], "the slopes are computed, not a parameter")
    return from_channels(p.unite_slot(p.channels(x, 1), weight, 0), call.shape, 1)


def embedding(p: Propagation, call: Call) -> Any:
    """Rows of a table by whole numbers: the table's columns are channels, made here as a linear layer makes its own."""
    weight, indices = call.args["weight"], call.args["indices"]
    if not isinstance(weight, Param) or len(weight.shape) != 2:
        return p.refuse(call, [weight, indices], "the table of an embedding is computed, not a parameter")
    if isinstance(indices, Tensor) and varying(indices):
        return p.refuse(call, [indices], "an embedding is asked for by numbers that channels are")
    labels = p.sets.find(p.slot_labels(weight, 1))
    p.tables.append(TableCall(call, weight, labels, len(p.layers)))
    return from_channels(labels, call.shape, len(call.shape) - 1)


TABLE_RULES = {"aten.embedding": embedding}
LAYER_RULES = {
    **{f"aten.conv{n}d": conv for n in (1, 2, 3)},
    **{f"aten.conv_transpose{n}d": conv for n in (1, 2, 3)},
    "aten.linear": linear,
    "aten.prelu": prelu,
}
