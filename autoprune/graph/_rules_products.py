"""Rules of products of activations: ``matmul``, ``einsum``, attention.

Each dimension of a product is one of these: both operands have it and so has the output (a *batch*, such as attention heads),
one operand has it and so has the output (it is *free*), or both have it and the output does not (it is *summed* over). Channels
along a batch dimension go together, free ones pass through, and those summed over are read there: one that is removed is a term
less.
"""

from __future__ import annotations

from collections.abc import Sequence
from string import ascii_letters
from typing import Any

from torch import Tensor

from autoprune.graph._call import Call, Param, ProductCall
from autoprune.graph._labels import NEUTRAL, constant, core, neutral, varying
from autoprune.graph._propagation import BROADCAST, Propagation
from autoprune.graph._rules_layers import from_channels
from autoprune.groups import IntArray

Operand = Tensor | Param


def _sides(operand: Operand) -> list[int]:
    """Return the dimensions along which an operand holds channels; of a parameter all may."""
    if isinstance(operand, Param):
        return [dim for dim, size in enumerate(operand.shape) if size > 1]
    return varying(operand)


def _single(operand: Operand) -> int:
    """Return the label of an operand that has one everywhere, else the neutral one."""
    if isinstance(operand, Param) or varying(operand) or not operand.numel():
        return NEUTRAL
    return int(core(operand).flatten()[0])


def product(p: Propagation, call: Call, operands: Sequence[Operand], letters: Sequence[str], out: str) -> Any:
    """A sum of products in the notation of ``einsum``; dimensions of size 1 are broadcast.

    Args:
        p: What is known so far.
        call: The call.
        operands: What is multiplied, two operands as a rule.
        letters: A letter for each dimension of each operand.
        out: Those of the output.
    """
    along: dict[str, IntArray] = {}
    reads: dict[str, tuple[int, int]] = {}
    for number, (operand, text) in enumerate(zip(operands, letters, strict=True)):
        sides = _sides(operand)
        if isinstance(operand, Tensor) and len(sides) > 1:
            return p.refuse(call, operands, "channels lie along several dimensions of what is multiplied")
        for dim in sides:
            if isinstance(operand, Param):
                labels = p.sets.find(p.slot_labels(operand, dim))
            else:
                labels = p.channels(operand, dim)
                reads.setdefault(text[dim], (number, dim))
            known = along.get(text[dim])
            along[text[dim]] = labels if known is None else p.combine(known, labels)
    # A parameter's dimension that meets no channels is one of positions, unless it is all that the output has.
    for letter in [letter for letter in along if letter not in reads]:
        if letter not in out or any(other in out for other in reads):
            p.freeze(along.pop(letter), p.reason_at(call, "a parameter is multiplied along positions"))
    single = _meet_singles(p, call, operands, letters, along)
    times = {letter: sum(letter in text for text in letters) for letter in along}
    kept = [letter for letter in along if letter in out]
    summed = [letter for letter in along if letter not in out]
    if len(kept) > 1 or len(summed) > 1 or any(times[letter] < 2 for letter in summed):
        return p.refuse(call, operands, "channels are multiplied with one another in a way that is not understood")
    found = None
    if summed:
        number, dim = reads[summed[0]]
        found = (number, dim, along[summed[0]])
    p.products[call.node] = ProductCall(call.node, tuple(along.values()), found)
    if kept:
        return from_channels(p.sets.find(along[kept[0]]), call.shape, out.index(kept[0]))
    return neutral(call.shape) if single is None else constant(p.opaque_label(single), call.shape)


def _meet_singles(
    p: Propagation, call: Call, operands: Sequence[Operand], letters: Sequence[str], along: dict[str, IntArray]
) -> str | None:
    """Let operands with one label everywhere meet the others' channels; return why such a one has to stay."""
    found: str | None = None
    for operand, text in zip(operands, letters, strict=True):
        label = _single(operand)
        if label == NEUTRAL or isinstance(operand, Param):
            continue
        reason = p.opaque.get(label)
        if reason is None:
            reason = p.reason_at(call, BROADCAST if along else "all channels of a tensor take part in one product")
            p.freeze(operand, reason)
        for letter, labels in along.items():
            if letter in text and operand.shape[text.index(letter)] > 1:
                p.freeze(labels, reason)
        found = found or reason
    return found


def matmul(p: Propagation, call: Call) -> Any:
    """``a @ b`` with broadcast batch dimensions."""
    names = list(call.args)[:2]
    operands = [call.args[name] for name in names]
    if not all(isinstance(operand, (Tensor, Param)) for operand in operands):
        return p.refuse(call, operands, "what is multiplied is not understood")
    left, right = (len(operand.shape) for operand in operands)
    batch = ascii_letters[3 : 3 + max(left, right, 2) - 2]
    first = "b" if left == 1 else batch[len(batch) - left + 2 :] + "ab"
    second = "b" if right == 1 else batch[len(batch) - right + 2 :] + "bc"
    out = batch + ("a" if left > 1 else "") + ("c" if right > 1 else "")
    return product(p, call, operands, (first, second), out)


def einsum(p: Propagation, call: Call) -> Any:
    """``einsum`` of two tensors, none of which has a letter twice; channels that it sums over have to stay."""
    terms, arrow, out = str(call.args["equation"]).replace(" ", "").partition("->")
    letters, operands = terms.split(","), list(call.args["tensors"])
    understood = all(isinstance(operand, (Tensor, Param)) for operand in operands)
    if not arrow or "." in terms or len(operands) != 2 or not understood or any(len(set(t)) < len(t) for t in letters):
        return p.refuse(call, operands, "the equation is not understood")
    for operand, text in zip(operands, letters, strict=True):
        if isinstance(operand, Tensor) and any(text[dim] not in out for dim in varying(operand)):
            reason = "einsum sums over channels, which it does in another way, at another cost, where one is left"
            return p.refuse(call, operands, reason)
    return product(p, call, operands, letters, out)


def attention(p: Propagation, call: Call) -> Any:
    """``scaled_dot_product_attention``: whole heads go; the size of one is fixed."""
    operands = [call.args[name] for name in ("query", "key", "value")]
    mask, dims = call.args.get("attn_mask"), len(call.shape)
    tensors = all(isinstance(operand, Tensor) and operand.dim() == dims for operand in operands)
    if not tensors or call.args.get("enable_gqa"):
        return p.refuse(call, [*operands, mask], "attention of tensors that are no heads of equal numbers")
    if any(dim >= dims - 2 for operand in operands for dim in varying(operand)):
        return p.refuse(call, [*operands, mask], "channels inside attention heads are fixed by the heads' size")
    wide = [dim for operand in operands for dim in varying(operand)]
    if mask is not None and any(dim - dims >= -len(mask.shape) and mask.shape[dim - dims] > 1 for dim in wide):
        return p.refuse(call, [*operands, mask], "the attention's mask differs between heads")
    batch = ascii_letters[4 : 4 + dims - 2]
    return product(p, call, operands, (batch + "ab", batch + "cb", batch + "cd"), batch + "ad")


PRODUCT_RULES = {
    "aten.matmul": matmul,
    "aten.bmm": matmul,
    "aten.mm": matmul,
    "aten.einsum": einsum,
    "aten.scaled_dot_product_attention": attention,
}
