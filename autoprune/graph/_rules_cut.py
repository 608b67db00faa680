"""Rules of the operators that cut channels up by position: pieces, slices, picked channels.

What is removed must leave the cuts where they were. Either the channels at the same place of every piece are united, or the
numbers in the code that say where the cuts are follow the channels.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from autoprune.graph._call import Call, CallLink, bound, concrete
from autoprune.graph._labels import compress, core, varying
from autoprune.graph._propagation import Propagation, Rule, table
from autoprune.graph._rules_shape import NOTHING, operand, run
from autoprune.groups import Argument

_NARROW = {"start": 2, "length": 3}
"""Where the arguments of ``narrow`` stand."""


def unflatten(x: Tensor, dim: int, sizes: tuple[int, int]) -> Tensor:
    """Split the dimension ``dim`` in two."""
    return x.reshape(*x.shape[:dim], *sizes, *x.shape[dim + 1 :])


def unify_pieces(p: Propagation, x: Tensor, dim: int, pieces: int, *, strided: bool = False) -> Tensor:
    """Unite the channels at the same place of every one of ``pieces`` equal pieces (or phases) along ``dim``."""
    small = core(x)
    length = x.shape[dim] // pieces
    cut = unflatten(small, dim, (length, pieces) if strided else (pieces, length))
    merged = p.merge(cut.numpy(), dim + 1 if strided else dim)
    joined = torch.from_numpy(np.ascontiguousarray(merged)).expand(cut.shape).reshape(small.shape)
    return joined.expand(x.shape)


def slice_(p: Propagation, call: Call) -> Any:
    """A slice of channels that is one of several equal pieces, or one phase of a stride."""
    x, dim = operand(p, call), call.args.get("dim", 0)
    dim %= x.dim()
    size = x.shape[dim]
    picked = torch.arange(size)[slice(call.args.get("start"), call.args.get("end"), call.args.get("step", 1))]
    if "length" in call.args:  # narrow
        picked = torch.arange(size)[call.args["start"] :][: call.args["length"]]
    length, step = len(picked), call.args.get("step", 1)
    if dim in varying(x) and 0 < length < size:
        start = int(picked[0])
        if step == 1 and _link_cuts(p, call, x, dim, start, start + length):
            pass
        elif step == 1 and _ends(p, call, start, start + length).keys() & p.fixed:
            _link_ends(p, call, x, dim, start, start + length)
        elif step == 1 and length > 1 and size % length == 0 and start % length == 0:
            x = unify_pieces(p, x, dim, size // length)
            _link_ends(p, call, x, dim, start, start + length)
        elif step == 1 and _link_ends(p, call, x, dim, start, start + length, fixed=True):
            pass
        elif step > 1 and size % step == 0 and length == size // step:
            x = unify_pieces(p, x, dim, step, strided=True)
        else:
            return p.refuse(call, x, "channels are cut at a place that is fixed in the code")
    return run(call, x)


def _link_cuts(p: Propagation, call: Call, x: Tensor, dim: int, start: int, end: int) -> bool:
    """Let the attributes that a slice's ends come from follow the channels before them; False unless all ends have one."""
    size = x.shape[dim]
    sources = {cut: p.sources(call, cut) for cut in (start, end) if 0 < cut < size}
    if not all(sources.values()):
        return False
    labels = p.channels(x, dim)
    for cut, found in sources.items():
        p.link(found, labels[:cut])
    return True


def _ends(p: Propagation, call: Call, start: int, end: int) -> dict[Argument, tuple[slice, int]]:
    """Return the arguments of a slice in the code, the channels that each counts, and the sign; nothing unless all are found."""
    args = call.args
    found: dict[Argument | None, tuple[slice, int]] = {}
    if "length" in args:
        if start > 0:
            found[p.calls.number(call.node, _NARROW, args["start"], "start")] = slice(start), 1
        found[p.calls.number(call.node, _NARROW, args["length"], "length")] = slice(start, end), 1
    else:
        first, last = args.get("start") or 0, sys.maxsize if args.get("end") is None else args["end"]
        part = p.calls.part(call.node, first, last) or (None, None)
        if start > 0:
            found[part[0]] = (slice(start, None), -1) if first < 0 else (slice(start), 1)
        if last < sys.maxsize:
            found[part[1]] = (slice(end, None), -1) if last < 0 else (slice(end), 1)
    return {} if None in found else {argument: what for argument, what in found.items() if argument is not None}


def _link_ends(p: Propagation, call: Call, x: Tensor, dim: int, start: int, end: int, *, fixed: bool = False) -> bool:
    """Let the ends that the code gives a slice follow the channels before them; False unless they are found there."""
    ends = _ends(p, call, start, end)
    labels = p.channels(x, dim) if ends else NOTHING
    for argument, (counted, sign) in ends.items():
        p.link_call(argument, CallLink("count", labels[counted], NOTHING, sign, fixed=fixed))
    return bool(ends)


def _link_pieces(p: Propagation, call: Call, x: Tensor, dim: int, sizes: Sequence[int]) -> bool:
    """Let the attributes that pieces' sizes come from follow the channels in them; False if no size comes from one.

    What is in pieces whose size is fixed in the code has to stay then.
    """
    ends = np.cumsum(sizes)
    listed = p.source_list(call, sizes)
    sources = [[item] for item in listed] if listed else [p.sources(call, size) if size > 1 else [] for size in sizes]
    if not any(sources) or (not all(sources) and p.calls.pieces(call.node) is not None):
        return False
    labels = p.channels(x, dim)
    for found, end, size in zip(sources, ends, sizes, strict=True):
        if found:
            p.link(found, labels[end - size : end])
        else:
            p.freeze(
                labels[end - size : end], p.reason_at(call, "channels are cut at a place that is fixed in the code")
            )
    return True


def split(p: Propagation, call: Call) -> Any:
    """``split`` and ``chunk``: pieces are as large as a module's attributes say, or equal and balanced."""
    x, dim = operand(p, call), call.args.get("dim", 0)
    dim %= x.dim()
    if dim in varying(x):
        sizes = [concrete(part.shape)[dim] for part in call.node.meta["val"]]
        if "split_sizes" in call.args and _link_pieces(p, call, x, dim, sizes):
            return run(call, x)
        argument = p.calls.pieces(call.node)
        if len(set(sizes)) > 1 and argument is None:
            return p.refuse(call, x, "channels are cut into unequal pieces")
        if len(set(sizes)) == 1 < len(sizes) and argument not in p.fixed:
            x = unify_pieces(p, x, dim, len(sizes))
            labels = p.channels(x, dim)
            for counted in (sizes[0], x.shape[dim]):  # the size of a piece may be a fraction of the attribute
                p.link(p.sources(call, counted), labels[:counted])
        if len(sizes) > 1 and argument is not None:
            uneven = len(set(sizes)) > 1
            p.link_call(argument, CallLink("pieces", p.channels(x, dim), np.cumsum(sizes), fixed=uneven))
    return run(call, x)


def glu(p: Propagation, call: Call) -> Any:
    """Gated linear unit: the two halves go together."""
    x, dim = operand(p, call), call.args.get("dim", -1)
    dim %= x.dim()
    if dim in varying(x):
        x = unify_pieces(p, x, dim, 2)
    return x.narrow(dim, 0, x.shape[dim] // 2)


def select(p: Propagation, call: Call) -> Any:
    """One index, or each index, of a dimension; a channel that is picked by its number has to stay."""
    x, dim = operand(p, call), call.args.get("dim", 0)
    dim %= x.dim()
    if dim not in varying(x):
        return run(call, x)
    place = call.args.get("index")
    if not isinstance(place, int):
        return p.refuse(call, x, "single channels are picked by number")
    argument = p.calls.item(call.node, lambda item: type(item) is int and item == place)
    argument = argument or p.calls.number(call.node, {"index": 2}, place, "index")
    if argument is None and place != 0:
        return p.refuse(call, x, "single channels are picked by number")
    labels = p.channels(x, dim)
    p.freeze(labels[[place]], p.reason_at(call, "a single channel is picked by its number"))
    if argument is not None and place != 0:
        counted = labels[:place] if place > 0 else labels[place:]
        p.link_call(argument, CallLink("count", counted, NOTHING, 1 if place > 0 else -1, even=False))
    return run(call, x)


def index_select(p: Propagation, call: Call) -> Any:
    """Positions picked by an index tensor; channels picked by a constant one are picked among those that are left."""
    x, dim = operand(p, call), call.args["dim"] % operand(p, call).dim()
    if dim not in varying(x):
        return core(x).expand(call.shape)
    argument = p.calls.argument(call.node, {"index": 2}, "index")
    return _pick(p, call, x, dim, argument, p.constant(bound(call.node).get("index")))


def index(p: Propagation, call: Call) -> Any:
    """``x[:, places]`` with one constant index."""
    x = call.args["self"]
    nodes = bound(call.node).get("indices") or ()
    given = [dim for dim, node in enumerate(nodes) if node is not None]
    places = p.constant(nodes[given[0]]) if len(given) == 1 else None
    if not isinstance(x, Tensor) or places is None or places.dim() != 1:
        return p.refuse(call, list(call.args.values()), "elements are picked by an index that is not understood")
    if given[0] not in varying(x):
        shape = [1 if d not in varying(x) else size for d, size in enumerate(x.shape)]
        return core(x).expand(shape).expand(call.shape)
    argument = p.calls.item(call.node, lambda item: item is Tensor or isinstance(item, list))
    return _pick(p, call, x, given[0], argument, places)


def _pick(p: Propagation, call: Call, x: Tensor, dim: int, argument: Argument | None, places: Tensor | None) -> Any:
    if argument is None or places is None or places.dim() != 1:
        return p.refuse(call, x, "single channels are picked by number")
    if places.dtype == torch.bool:
        places = places.nonzero()[:, 0]
    places = places.long() % x.shape[dim]
    p.link_call(argument, CallLink("picked", p.channels(x, dim), places.numpy()))
    small = core(x)
    return compress(small.index_select(dim, places)).expand(call.shape)


CUT_RULES: dict[str, Rule] = {
    **table(split, "split chunk split_with_sizes tensor_split unsafe_split unsafe_chunk"),
    **table(slice_, "slice narrow"),
    **table(select, "select unbind"),
    **table(index_select, "index_select"),
    **table(index, "index"),
    **table(glu, "glu"),
}
