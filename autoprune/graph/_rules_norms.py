"""Rules of the normalisations.

Batch and instance norm treat every channel by itself. Layer and group norm mix channels: a pruned one normalises over those that
are left, which is what the proof compares with.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from torch import Tensor

from autoprune.graph._call import Call, Param
from autoprune.graph._labels import varying
from autoprune.graph._propagation import Propagation
from autoprune.graph._rules_layers import from_channels
from autoprune.groups import IntArray


def channel_norm(p: Propagation, call: Call) -> Any:
    """Batch and instance norm: every channel by itself, one number per channel in each vector."""
    x = call.args["input"]
    if not isinstance(x, Tensor) or x.dim() < 2:
        return p.refuse(call, list(call.args.values()), "the norm's input is not understood")
    labels = p.channels(x, 1)
    for name in ("weight", "bias", "running_mean", "running_var"):
        vector = call.args.get(name)
        if isinstance(vector, Param):
            labels = p.unite_slot(labels, vector, 0)
        elif isinstance(vector, Tensor):
            labels = p.combine(labels, p.channels(vector, 0))
    return from_channels(labels, call.shape, 1)


def layer_norm(p: Propagation, call: Call) -> Any:
    """Layer and RMS norm with a scale (its shape says how many channels are left)."""
    x, weight = call.args["input"], call.args.get("weight")
    if not isinstance(x, Tensor):
        return p.refuse(call, list(call.args.values()), "the norm's input is not understood")
    over = range(x.dim() - len(call.args["normalized_shape"]), x.dim())
    dims = [dim for dim in over if dim in varying(x)]
    if not dims:
        return x
    if len(dims) > 1 or not isinstance(weight, Param):
        return p.refuse_mixed(call, x, "the norm runs over channels whose number is fixed in the code")
    labels = p.channels(x, dims[0])
    for name in ("weight", "bias"):
        vector = call.args.get(name)
        if isinstance(vector, Param):
            labels = p.unite_slot(labels, vector, dims[0] - over[0])
        elif vector is not None:
            p.freeze([labels, vector], p.reason_at(call, "the norm's vectors are computed, not parameters"))
    return from_channels(labels, tuple(x.shape), dims[0])


def group_norm(p: Propagation, call: Call) -> Any:
    """Group norm: whole groups go, or the channels at the same place of every group, whichever leaves the finer choice."""
    x, weight, groups = call.args["input"], call.args.get("weight"), int(call.args["num_groups"])
    if not isinstance(x, Tensor) or not isinstance(weight, Param):
        return p.refuse_mixed(
            call, list(call.args.values()), "the norm has no scale that says how many channels there are"
        )
    table = p.channels(x, 1).reshape(groups, -1)
    axis = 1 if groups >= table.shape[1] else 0
    if axis == 0 and math.prod(call.shape[2:]) == 1:  # torch refuses to normalise a single number
        return p.refuse(
            call, [x, weight, call.args.get("bias")], "of a group of a group norm over one position two must stay"
        )
    labels: IntArray = np.broadcast_to(p.merge(table, axis), table.shape).reshape(-1)
    for name in ("weight", "bias"):
        vector = call.args.get(name)
        if isinstance(vector, Param):
            labels = p.unite_slot(labels, vector, 0)
        elif vector is not None:
            p.freeze([labels, vector], p.reason_at(call, "the norm's vectors are computed, not parameters"))
    return from_channels(labels, call.shape, 1)


NORM_RULES = {
    "aten.batch_norm": channel_norm,
    "aten.instance_norm": channel_norm,
    "aten.layer_norm": layer_norm,
    "aten.rms_norm": layer_norm,
    "aten.group_norm": group_norm,
}
