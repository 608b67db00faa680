"""The operators that are element-wise. Nothing else is: an operator that is not listed is refused."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from autoprune.graph._call import Call, Param
from autoprune.graph._labels import core, neutral, words
from autoprune.graph._propagation import Propagation

UNARY = words(
    """
    abs alias bitwise_not ceil celu clamp clamp_max clamp_min clone contiguous cos cosh detach dropout elu erf
    erfc exp exp2 expm1 alpha_dropout feature_dropout feature_alpha_dropout fill floor frac gelu hardshrink
    hardsigmoid hardswish hardtanh isfinite isinf isnan leaky_relu lift_fresh lift_fresh_copy log log10 log1p
    log2 log_sigmoid logical_not logit masked_fill mish nan_to_num neg negative positive reciprocal relu relu6
    requires_grad_ round rsqrt selu sgn sigmoid sign silu sin sinh softplus softshrink sqrt square tan tanh
    tanhshrink threshold to to_copy _to_copy trunc type_as zero zeros_like ones_like full_like empty_like rrelu
    softsign
    """
)

BINARY = words(
    """
    atan2 bitwise_and bitwise_or bitwise_xor copysign div divide eq floor_divide fmax fmin fmod ge greater gt
    hypot le less logaddexp logical_and logical_or logical_xor lt maximum minimum mul multiply ne pow remainder
    true_divide xlogy
    """
)

SUMS = words(
    """
    add sub subtract rsub lerp
    """
)

NARY = {
    "addcmul": ("self", "tensor1", "tensor2"),
    "addcdiv": ("self", "tensor1", "tensor2"),
    "where": ("condition", "self", "other"),
}

CONSTANTS = words(
    """
    full zeros ones empty arange scalar_tensor linspace new_zeros new_ones new_full new_empty rand randn
    """
)


def unary(p: Propagation, call: Call) -> Any:
    """One tensor in, the same shape out; a mask or a second operand is joined."""
    first = next(iter(call.args))
    names = [first, *(name for name in ("mask",) if name in call.args)]
    if len(names) == 1 and isinstance(call.args[first], Tensor):
        return call.args[first]
    return p.join(call, names)


def binary(p: Propagation, call: Call) -> Any:
    """Two tensors, or a tensor and a number."""
    return p.join(call, ("self", "other", "exponent"))


def sums(p: Propagation, call: Call) -> Any:
    """A sum of two tensors: what makes a group residual if both carry channels of their own."""
    return p.join(call, ("self", "other", "end", "weight"), residual=True)


def nary(p: Propagation, call: Call) -> Any:
    """Three tensors."""
    return p.join(call, NARY[call.op.removeprefix("aten.")], residual="addc" in call.op)


def constants(p: Propagation, call: Call) -> Any:
    """A tensor of numbers made in the code; it stands for no channel."""
    del p
    return neutral(call.shape)


def nothing(p: Propagation, call: Call) -> Any:
    """A check of a tensor's type that the exporter adds: it has no output."""
    del p, call


def copy(p: Propagation, call: Call) -> Any:
    """``target.copy_(source)``: what is written over and what is written go together."""
    target, source = call.args["self"], call.args["src"]
    if isinstance(target, Tensor) and isinstance(source, Tensor) and bool((core(target) == 0).any()):
        return p.refuse(call, [target, source], "channels are written in place into a tensor made in the code")
    if isinstance(target, Param):
        return p.refuse(call, [target, source], f"the tensor '{target.name}' is changed in place")
    return p.join(call, ("self", "src"))


ELEMENTWISE_RULES = {
    **{f"aten.{name}": unary for name in UNARY},
    **{f"aten.{name}": binary for name in BINARY},
    **{f"aten.{name}": sums for name in SUMS},
    **{f"aten.{name}": nary for name in NARY},
    **{f"aten.{name}": constants for name in CONSTANTS},
    "aten.copy": copy,
    "aten._assert_tensor_metadata": nothing,
}
