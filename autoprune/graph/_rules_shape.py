"""Rules of the operators that give a tensor another shape: they are run on the labels themselves.

Channels that a view cuts into several dimensions stay balanced over all but one of them.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from torch import Tensor

from autoprune.graph._call import Call, CallLink
from autoprune.graph._labels import compress, core, neutral, reshape_blocks, varying
from autoprune.graph._propagation import BROADCAST, Propagation, Rule, table
from autoprune.groups import IntArray

NOTHING: IntArray = np.zeros(0, dtype=np.int64)
"""No positions: what a `CallLink` that only counts picks."""


def operand(p: Propagation, call: Call) -> Tensor:
    """Return the labels of a call's first operand."""
    name = next(iter(call.args))
    return p.labels_of(call, call.args[name])


def run(call: Call, x: Tensor) -> Any:
    """Run a call on labels in the place of its first operand, and return those of what comes out."""
    name = next(iter(call.args))
    result = call.node.target(**{**call.args, name: x})  # type: ignore[operator]
    return compress(result) if isinstance(result, Tensor) else [compress(part) for part in result]


def move(p: Propagation, call: Call) -> Any:
    """Permutations, squeezes and the like: nothing is cut."""
    return run(call, operand(p, call))


def expand(p: Propagation, call: Call) -> Any:
    """``expand`` repeats dimensions of size 1. A single channel that is repeated has to stay, and fits all it meets."""
    x, shape = operand(p, call), call.shape
    single = x.dim() == len(shape) > 2 and x.shape[1] == 1 and shape[1] > 1 and not varying(x)
    if single and call.active and int(core(x).flatten()[0]) not in p.opaque:
        p.freeze(x, p.reason_at(call, BROADCAST))
        return neutral(shape)
    out = x.expand(shape)
    _link_sizes(p, call, out)
    return out


def reshape(p: Propagation, call: Call) -> Any:
    """``view`` and its relatives. Channels split over several dimensions stay balanced over all but one of them.

    That one is the dimension whose size the code leaves open (-1), for the others are fixed; else the one whose size is an
    attribute named after attention heads; else the largest. An attribute that says how many channels are in it follows them.
    """
    x, shape = operand(p, call), call.shape
    open_dim = _open_dim(call)
    named = p.view_sources(call, shape)
    out = compress(x.reshape(shape))
    before, after = set(varying(x)), set(varying(out))
    balanced: list[int] = []
    for left, right in reshape_blocks(tuple(x.shape), shape) or []:
        inner, outer = [d for d in left if d in before], [d for d in right if d in after]
        if len(outer) > len(inner) == 1:
            heads = [d for d in outer if (source := named[d]) is not None and source.attribute.endswith("heads")]
            free = open_dim if open_dim in outer else heads[0] if heads else max(outer, key=lambda d: shape[d])
            balanced += [dim for dim in outer if dim != free]
        elif len(inner) > 1 and len(outer) > 1 and [x.shape[d] for d in inner] != [shape[d] for d in outer]:
            return p.refuse(call, x, "channels are regrouped in a way that is not understood")
    out = p.unify(out, balanced) if balanced else out
    left = varying(out)
    if len(left) == 1 and (source := named[left[0]]) is not None:
        p.link([source], p.channels(out, left[0]))
    else:
        _link_sizes(p, call, out)
    return out


def _link_sizes(p: Propagation, call: Call, out: Tensor) -> None:
    """Let the sizes that the code gives a view follow the channels along each dimension of it."""
    arguments = p.calls.sizes(call.node, out.shape)
    for dim in varying(out):
        argument = arguments[dim]
        if argument is not None:
            labels = p.channels(out, dim)
            p.link_call(argument, CallLink("count", labels, NOTHING))


def _open_dim(call: Call) -> int | None:
    """Return the dimension of the output whose size is -1 in the code."""
    sizes = next((call.args[name] for name in ("size", "shape", "sizes") if name in call.args), ())
    if not isinstance(sizes, (list, tuple)) or -1 not in sizes:
        return None
    first = call.args["dim"] % len(call.args["self"].shape) if "sizes" in call.args else 0
    return int(first) + list(sizes).index(-1)


SHAPE_RULES: dict[str, Rule] = {
    **table(move, "permute transpose t numpy_T movedim moveaxis squeeze unsqueeze swapaxes swapdims adjoint mT"),
    **table(move, "squeeze_copy tile repeat repeat_interleave"),
    **table(reshape, "view reshape flatten unflatten _unsafe_view view_as reshape_as"),
    **table(expand, "expand expand_as broadcast_to"),
}
