"""Rules of the operators that bring channels into another order, or trade them for positions."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from autoprune.graph._call import Call, CallLink
from autoprune.graph._labels import compress, core, varying
from autoprune.graph._propagation import Propagation, Rule, table
from autoprune.graph._rules_cut import unflatten, unify_pieces
from autoprune.graph._rules_shape import NOTHING, operand, run


def flip(p: Propagation, call: Call) -> Any:
    """A flip reverses the labels' order too."""
    x = operand(p, call)
    dims = [dim % x.dim() for dim in call.args["dims"]]
    return compress(torch.flip(core(x), [d for d in dims if d in varying(x)])).expand(call.shape)


def roll(p: Propagation, call: Call) -> Any:
    """A roll of positions; one of channels rolls as many of those that are left."""
    x = operand(p, call)
    dims = [dim % x.dim() for dim in call.args.get("dims") or range(x.dim())]
    wide = [dim for dim in dims if dim in varying(x)]
    if not wide:
        return x
    shifts = call.args["shifts"]
    argument = p.calls.number(call.node, {"shifts": 1}, shifts[0], "shifts") if len(dims) == len(shifts) == 1 else None
    if argument is None or not 0 < abs(shifts[0]) < x.shape[wide[0]]:
        return p.refuse(call, x, "channels are rolled, which depends on their number")
    labels, shift = p.channels(x, wide[0]), shifts[0]
    moved = labels[-shift:] if shift > 0 else labels[:-shift]
    p.link_call(argument, CallLink("count", moved, NOTHING, 1 if shift > 0 else -1, even=False))
    return run(call, x)


def pixel_shuffle(p: Propagation, call: Call) -> Any:
    """r*r channels become one with r*r as many positions: they go together."""
    x, r = operand(p, call), call.args["upscale_factor"]
    dim = x.dim() - 3
    labels = p.channels(x, dim)
    merged = p.merge(labels.reshape(-1, r * r), 1)[:, 0]
    view = [1] * x.dim()
    view[dim] = len(merged)
    return compress(torch.from_numpy(np.array(merged)).view(view).expand(call.shape))


def pixel_unshuffle(p: Propagation, call: Call) -> Any:
    """One channel becomes r*r: they carry its label."""
    x, r = operand(p, call), call.args["downscale_factor"]
    dim = x.dim() - 3
    labels = torch.from_numpy(np.array(p.channels(x, dim))).repeat_interleave(r * r)
    view = [1] * x.dim()
    view[dim] = len(labels)
    return compress(labels.view(view).expand(call.shape))


def channel_shuffle(p: Propagation, call: Call) -> Any:
    """Channels dealt from ``groups`` piles: the piles stay balanced."""
    x, groups = operand(p, call), call.args["groups"]
    if 1 not in varying(x):
        return x
    x = unify_pieces(p, x, 1, groups)
    if 1 not in varying(x):
        return x
    x = core(x)
    return unflatten(x, 1, (groups, x.shape[1] // groups)).transpose(1, 2).flatten(1, 2).expand(call.shape)


ORDER_RULES: dict[str, Rule] = {
    **table(flip, "flip"),
    **table(roll, "roll"),
    **table(pixel_shuffle, "pixel_shuffle"),
    **table(pixel_unshuffle, "pixel_unshuffle"),
    **table(channel_shuffle, "channel_shuffle native_channel_shuffle"),
}
