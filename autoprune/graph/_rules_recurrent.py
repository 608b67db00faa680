"""Rules of recurrent layers: channels that go in can be removed, hidden units stay.

An input channel is a column of the first layer's input weights, of both directions; nothing else of an LSTM or GRU hangs on it.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from torch import Tensor

from autoprune.graph._call import Call, Param, ProductCall
from autoprune.graph._labels import NEUTRAL, varying
from autoprune.graph._propagation import Propagation
from autoprune.groups import IntArray

HIDDEN = "the hidden units of a recurrent layer stay whole, for each step reads all of the one before"


def _refused(p: Propagation, call: Call, text: str) -> Any:
    p.products[call.node] = ProductCall(call.node)
    return p.refuse(call, list(call.args.values()), text)


def layers(p: Propagation, call: Call) -> Any:
    """``nn.LSTM``, ``nn.GRU`` and ``nn.RNN``, several layers and both directions, batch first or not."""
    params = call.args.get("params")
    if "input" not in call.args or not isinstance(params, (list, tuple)):
        return _refused(p, call, "a recurrent layer of packed sequences is not understood")
    directions = 2 if call.args["bidirectional"] else 1
    per_direction, more = divmod(len(params), int(call.args["num_layers"]) * directions)
    if more or per_direction != (4 if call.args["has_biases"] else 2):
        return _refused(p, call, "a recurrent layer with a projection is not understood")
    params = list(params)
    inner = params[directions * per_direction :: per_direction]  # the input weights of the layers above the first
    return _reads(p, call, params[: directions * per_direction : per_direction], params[1], inner)


def cell(p: Propagation, call: Call) -> Any:
    """``nn.LSTMCell`` and its relatives: one step."""
    return _reads(p, call, [call.args["w_ih"]], call.args["w_hh"], [])


def _reads(p: Propagation, call: Call, first: list[Any], hidden: Any, inner: list[Any]) -> Any:
    """Unite the input's channels with the columns of the ``first`` weights; what is multiplied is in proportion to all columns.

    Args:
        p: What is known so far.
        call: The call.
        first: The input weights of the first layer, one for each direction.
        hidden: A weight that reads hidden units.
        inner: The input weights of all layers above.
    """
    x = call.args["input"]
    weights = [*first, hidden, *inner]
    if not isinstance(x, Tensor) or not all(isinstance(weight, Param) and len(weight.shape) == 2 for weight in weights):
        return _refused(p, call, "the weights of a recurrent layer are computed, not parameters")
    last = x.dim() - 1
    if any(dim != last for dim in varying(x)):
        return _refused(p, call, "a recurrent layer runs along a dimension that is not the channels'")
    p.freeze(call.args.get("hx"), p.reason_at(call, HIDDEN))
    labels = p.channels(x, last)
    for weight in first:
        labels = p.unite_slot(labels, weight, 1)
    above = sum(weight.shape[1] for weight in inner) // len(first)
    levels = 1 + len(inner) // len(first)
    columns: IntArray = np.full(above + levels * hidden.shape[1], NEUTRAL, dtype=np.int64)
    p.products[call.node] = ProductCall(call.node, (np.concatenate([labels, columns]),), (0, last, labels))
    return p.opaque_output(call, p.reason_at(call, HIDDEN))


RECURRENT_RULES = {
    **{f"aten.{name}": layers for name in ("lstm", "gru", "rnn_tanh", "rnn_relu")},
    **{f"aten.{name}_cell": cell for name in ("lstm", "gru", "rnn_tanh", "rnn_relu")},
}
