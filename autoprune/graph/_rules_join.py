"""Rules of the operators that put tensors side by side, or numbers made in the code beside channels."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from autoprune.graph._call import Call
from autoprune.graph._labels import NEUTRAL, compress, constant, core, neutral, varying
from autoprune.graph._propagation import Propagation, Rule, table
from autoprune.graph._rules_shape import operand


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


def pad(p: Propagation, call: Call) -> Any:
    """Padding of positions leaves channels alone; channels of zeros are channels that cannot go."""
    x = operand(p, call)
    amounts: Sequence[int] = call.args.get("pad", call.args.get("padding", ()))
    zeros = call.args.get("mode", "constant") == "constant" and "pad" in call.args
    for place in range(len(amounts) // 2):
        x = _pad_dim(p, call, x, x.dim() - 1 - place, amounts[2 * place], amounts[2 * place + 1], zeros)
    return x


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


def meshgrid(p: Propagation, call: Call) -> Any:
    """Coordinates of a grid, made in the code."""
    parts = [p.labels_of(call, part) for part in call.args["tensors"]]
    if any(varying(part) or (part.numel() and int(core(part).flatten()[0]) != NEUTRAL) for part in parts):
        return p.refuse(call, parts, "channels are made a grid of")
    return [neutral(call.shape) for _ in parts]


JOIN_RULES: dict[str, Rule] = {
    **table(pad, "pad constant_pad_nd reflection_pad1d reflection_pad2d replication_pad1d replication_pad2d"),
    **table(concatenate, "cat concat concatenate"),
    **table(stack, "stack"),
    **table(meshgrid, "meshgrid"),
}
