"""Rules of the operators that only move data: they are run on the labels themselves.

Where channels are cut up by position (split, slice, view), what is removed must leave the cuts where they were: the channels at
the same place of every piece are united.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from autoprune.graph._labels import NEUTRAL, compress, constant, core, neutral, reshape_blocks, varying, words
from autoprune.graph._propagation import BROADCAST, Call, CallLink, Propagation, Rule, bound, concrete
from autoprune.groups import Argument, IntArray

_NARROW = {"start": 2, "length": 3}
"""Where the arguments of ``narrow`` stand."""
NOTHING: IntArray = np.zeros(0, dtype=np.int64)


def _input(p: Propagation, call: Call) -> Tensor:
    name = next(iter(call.args))
    return p.labels_of(call, call.args[name])


def _run(call: Call, x: Tensor) -> Any:
    name = next(iter(call.args))
    result = call.node.target(**{**call.args, name: x})  # type: ignore[operator]
    return compress(result) if isinstance(result, Tensor) else [compress(part) for part in result]


def move(p: Propagation, call: Call) -> Any:
    """Permutations, squeezes and the like: nothing is cut."""
    return _run(call, _input(p, call))


def expand(p: Propagation, call: Call) -> Any:
    """``expand`` repeats dimensions of size 1. A single channel that is repeated has to stay, and fits all it meets."""
    x, shape = _input(p, call), call.shape
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
    x, shape = _input(p, call), call.shape
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


def _unflatten(x: Tensor, dim: int, sizes: tuple[int, int]) -> Tensor:
    return x.reshape(*x.shape[:dim], *sizes, *x.shape[dim + 1 :])


def _unify_pieces(p: Propagation, x: Tensor, dim: int, pieces: int, *, strided: bool = False) -> Tensor:
    """Unite the channels at the same place of every one of ``pieces`` equal pieces (or phases) along ``dim``."""
    small = core(x)
    length = x.shape[dim] // pieces
    cut = _unflatten(small, dim, (length, pieces) if strided else (pieces, length))
    merged = p.merge(cut.numpy(), dim + 1 if strided else dim)
    joined = torch.from_numpy(np.ascontiguousarray(merged)).expand(cut.shape).reshape(small.shape)
    return joined.expand(x.shape)


def slice_(p: Propagation, call: Call) -> Any:
    """A slice of channels that is one of several equal pieces, or one phase of a stride."""
    x, dim = _input(p, call), call.args.get("dim", 0)
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
            x = _unify_pieces(p, x, dim, size // length)
            _link_ends(p, call, x, dim, start, start + length)
        elif step == 1 and _link_ends(p, call, x, dim, start, start + length, fixed=True):
            pass
        elif step > 1 and size % step == 0 and length == size // step:
            x = _unify_pieces(p, x, dim, step, strided=True)
        else:
            return p.refuse(call, x, "channels are cut at a place that is fixed in the code")
    return _run(call, x)


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
    x, dim = _input(p, call), call.args.get("dim", 0)
    dim %= x.dim()
    if dim in varying(x):
        sizes = [concrete(part.shape)[dim] for part in call.node.meta["val"]]
        if "split_sizes" in call.args and _link_pieces(p, call, x, dim, sizes):
            return _run(call, x)
        argument = p.calls.pieces(call.node)
        if len(set(sizes)) > 1 and argument is None:
            return p.refuse(call, x, "channels are cut into unequal pieces")
        if len(set(sizes)) == 1 < len(sizes) and argument not in p.fixed:
            x = _unify_pieces(p, x, dim, len(sizes))
            labels = p.channels(x, dim)
            for counted in (sizes[0], x.shape[dim]):  # the size of a piece may be a fraction of the attribute
                p.link(p.sources(call, counted), labels[:counted])
        if len(sizes) > 1 and argument is not None:
            uneven = len(set(sizes)) > 1
            p.link_call(argument, CallLink("pieces", p.channels(x, dim), np.cumsum(sizes), fixed=uneven))
    return _run(call, x)


def select(p: Propagation, call: Call) -> Any:
    """One index, or each index, of a dimension; a channel that is picked by its number has to stay."""
    x, dim = _input(p, call), call.args.get("dim", 0)
    dim %= x.dim()
    if dim not in varying(x):
        return _run(call, x)
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
    return _run(call, x)


def index_select(p: Propagation, call: Call) -> Any:
    """Positions picked by an index tensor; channels picked by a constant one are picked among those that are left."""
    x, dim = _input(p, call), call.args["dim"] % _input(p, call).dim()
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


def concatenate(p: Propagation, call: Call) -> Any:
    """``cat``; numbers made in the code that stand beside channels are channels that cannot go."""
    parts = [p.labels_of(call, part) for part in call.args["tensors"]]
    parts = [part for part in parts if part.dim() == len(call.shape)]
    dim = call.args.get("dim", 0) % len(call.shape)
    others = [d for d in range(len(call.shape)) if d != dim]
    wide = {d for d in others if any(d in varying(part) for part in parts)}
    channels = (
        any(dim in varying(part) for part in parts)
        or len({int(core(part).flatten()[0]) for part in parts if part.numel()}) > 1
    )
    matched = _match(p, [part for part in parts if part.numel()], dim) if wide else None
    pieces = []
    for part in parts:
        shape = [part.shape[d] if d in wide or d == dim else 1 for d in range(part.dim())]
        if matched is not None:
            piece = matched.expand(shape)
        elif channels and part.numel() and not varying(part) and int(core(part).flatten()[0]) == NEUTRAL:
            piece = constant(p.opaque_label(p.reason_at(call, "channels made in the code stand beside them")), shape)
        else:
            piece = core(part).expand(shape)
        pieces.append(piece)
    return compress(torch.cat(pieces, dim)).expand(call.shape)


def _match(p: Propagation, parts: list[Tensor], dim: int | None) -> Tensor:
    """Unite what lies at the same place of tensors that must have one shape, but for their size along ``dim``."""
    small = [core(p.unify(part, [dim] if dim is not None else [])) for part in parts]
    wide = [max(sizes) for sizes in zip(*(part.shape for part in small), strict=True)]
    total = small[0].expand(wide).numpy()
    for part in small[1:]:
        total = p.combine(total, part.expand(wide).numpy())
    return torch.from_numpy(np.ascontiguousarray(total))


def stack(p: Propagation, call: Call) -> Any:
    """``stack``: tensors of one shape, so what lies at the same place goes together."""
    dim = call.args.get("dim", 0) % len(call.shape)
    parts = [p.labels_of(call, part) for part in call.args["tensors"]]
    if not any(varying(part) for part in parts):  # single channels, side by side
        return compress(torch.stack(parts, dim))
    return _match(p, parts, None).unsqueeze(dim).expand(call.shape)


def _pad_dim(p: Propagation, call: Call, x: Tensor, dim: int, before: int, after: int, zeros: bool) -> Tensor:
    shape = list(x.shape)
    channels = dim in varying(x) or (shape[dim] == 1 and dim == 1 and x.dim() > 2)
    if not channels or (before == 0 and after == 0):
        shape[dim] += before + after
        return (x.narrow(dim, 0, 1) if x.stride(dim) == 0 else x).expand(shape)
    if not zeros or before < 0 or after < 0:
        p.refuse(call, x, "channels are padded or cropped in a way that depends on their number")
        shape[dim] += before + after
        return constant(p.opaque_label(p.reason_at(call, "channels are padded")), shape)
    label = p.opaque_label(p.reason_at(call, "channels of zeros are padded on, and their number is fixed in the code"))
    pieces = []
    for count in (before, None, after):
        size = [s if d in varying(x) else 1 for d, s in enumerate(x.shape)]
        size[dim] = x.shape[dim]
        if count is None:
            pieces.append(core(x).expand(size))
        else:
            size[dim] = count
            pieces.append(constant(label, size))
    shape[dim] += before + after
    return torch.cat(pieces, dim).expand(shape)


def pad(p: Propagation, call: Call) -> Any:
    """Padding of positions leaves channels alone; channels of zeros are channels that cannot go."""
    x = _input(p, call)
    amounts: Sequence[int] = call.args.get("pad", call.args.get("padding", ()))
    zeros = call.args.get("mode", "constant") == "constant" and "pad" in call.args
    for place in range(len(amounts) // 2):
        x = _pad_dim(p, call, x, x.dim() - 1 - place, amounts[2 * place], amounts[2 * place + 1], zeros)
    return x


def meshgrid(p: Propagation, call: Call) -> Any:
    """Coordinates of a grid, made in the code."""
    parts = [p.labels_of(call, part) for part in call.args["tensors"]]
    if any(varying(part) or (part.numel() and int(core(part).flatten()[0]) != NEUTRAL) for part in parts):
        return p.refuse(call, parts, "channels are made a grid of")
    return [neutral(call.shape) for _ in parts]


def flip(p: Propagation, call: Call) -> Any:
    """A flip reverses the labels' order too."""
    x = _input(p, call)
    dims = [dim % x.dim() for dim in call.args["dims"]]
    return compress(torch.flip(core(x), [d for d in dims if d in varying(x)])).expand(call.shape)


def roll(p: Propagation, call: Call) -> Any:
    """A roll of positions; one of channels rolls as many of those that are left."""
    x = _input(p, call)
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
    return _run(call, x)


def pixel_shuffle(p: Propagation, call: Call) -> Any:
    """r*r channels become one with r*r as many positions: they go together."""
    x, r = _input(p, call), call.args["upscale_factor"]
    dim = x.dim() - 3
    labels = p.channels(x, dim)
    merged = p.merge(labels.reshape(-1, r * r), 1)[:, 0]
    view = [1] * x.dim()
    view[dim] = len(merged)
    return compress(torch.from_numpy(np.array(merged)).view(view).expand(call.shape))


def pixel_unshuffle(p: Propagation, call: Call) -> Any:
    """One channel becomes r*r: they carry its label."""
    x, r = _input(p, call), call.args["downscale_factor"]
    dim = x.dim() - 3
    labels = torch.from_numpy(np.array(p.channels(x, dim))).repeat_interleave(r * r)
    view = [1] * x.dim()
    view[dim] = len(labels)
    return compress(labels.view(view).expand(call.shape))


def channel_shuffle(p: Propagation, call: Call) -> Any:
    """Channels dealt from ``groups`` piles: the piles stay balanced."""
    x, groups = _input(p, call), call.args["groups"]
    if 1 not in varying(x):
        return x
    x = _unify_pieces(p, x, 1, groups)
    if 1 not in varying(x):
        return x
    x = core(x)
    return _unflatten(x, 1, (groups, x.shape[1] // groups)).transpose(1, 2).flatten(1, 2).expand(call.shape)


def glu(p: Propagation, call: Call) -> Any:
    """Gated linear unit: the two halves go together."""
    x, dim = _input(p, call), call.args.get("dim", -1)
    dim %= x.dim()
    if dim in varying(x):
        x = _unify_pieces(p, x, dim, 2)
    return x.narrow(dim, 0, x.shape[dim] // 2)


def _table(rule: Rule, names: str) -> dict[str, Rule]:
    return {f"aten.{name}": rule for name in words(names)}


MOVE_RULES: dict[str, Rule] = {
    **_table(move, "permute transpose t numpy_T movedim moveaxis squeeze unsqueeze swapaxes swapdims adjoint mT"),
    **_table(move, "squeeze_copy tile repeat repeat_interleave"),
    **_table(reshape, "view reshape flatten unflatten _unsafe_view view_as reshape_as"),
    **_table(expand, "expand expand_as broadcast_to"),
    **_table(split, "split chunk split_with_sizes tensor_split unsafe_split unsafe_chunk"),
    **_table(slice_, "slice narrow"),
    **_table(select, "select unbind"),
    **_table(pad, "pad constant_pad_nd reflection_pad1d reflection_pad2d replication_pad1d replication_pad2d"),
    **_table(concatenate, "cat concat concatenate"),
    **_table(index_select, "index_select"),
    **_table(index, "index"),
    **_table(stack, "stack"),
    **_table(meshgrid, "meshgrid"),
    **_table(flip, "flip"),
    **_table(roll, "roll"),
    **_table(pixel_shuffle, "pixel_shuffle"),
    **_table(pixel_unshuffle, "pixel_unshuffle"),
    **_table(channel_shuffle, "channel_shuffle native_channel_shuffle"),
    **_table(glu, "glu"),
}
