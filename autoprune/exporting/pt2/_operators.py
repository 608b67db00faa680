"""Which operators a ``.pt2`` file may call: the pure ones that exported networks consist of.

An operator is pure here if it makes tensors from tensors and numbers, and nothing else: it writes into none of its inputs, reads
no file, and takes no text but a mode from a list. The names are listed; what torch says of each overload is compared as a second
wall, so that a name with a writing overload (``aten.add.out``) lets only the others pass.
"""

from __future__ import annotations

import re
from functools import cache
from typing import Any

import torch

from autoprune.exporting.pt2._names import fail

_NAMES = """
    conv1d conv2d conv3d conv_transpose1d conv_transpose2d conv_transpose3d convolution linear addmm mm bmm baddbmm
    matmul mv dot vdot outer einsum scaled_dot_product_attention bilinear cdist cosine_similarity lstm gru rnn_tanh
    rnn_relu embedding one_hot

    batch_norm _native_batch_norm_legit_no_training instance_norm layer_norm native_layer_norm group_norm
    native_group_norm rms_norm _weight_norm _weight_norm_interface

    relu relu6 leaky_relu prelu elu selu celu gelu silu mish glu sigmoid hardsigmoid hardswish hardtanh tanh softplus
    log_sigmoid hardshrink softshrink threshold softmax log_softmax _softmax _log_softmax dropout alpha_dropout
    feature_dropout feature_alpha_dropout rrelu

    max_pool1d max_pool2d max_pool3d max_pool1d_with_indices max_pool2d_with_indices max_pool3d_with_indices avg_pool1d
    avg_pool2d avg_pool3d adaptive_avg_pool1d adaptive_avg_pool2d adaptive_avg_pool3d _adaptive_avg_pool2d
    _adaptive_avg_pool3d adaptive_max_pool1d adaptive_max_pool2d adaptive_max_pool3d

    add sub rsub mul div true_divide floor_divide remainder fmod pow neg abs sign square sqrt rsqrt reciprocal exp exp2
    expm1 log log2 log10 log1p sin cos tan asin acos atan atan2 sinh cosh asinh acosh atanh erf erfc erfinv floor ceil
    round trunc frac clamp clamp_min clamp_max maximum minimum fmax fmin where eq ne lt le gt ge logical_and logical_or
    logical_not logical_xor bitwise_and bitwise_or bitwise_not bitwise_xor isnan isinf isfinite nan_to_num lerp addcmul
    addcdiv masked_fill hypot logaddexp logit xlogy positive

    sum mean amax amin aminmax max min argmax argmin std var std_mean var_mean prod norm linalg_vector_norm linalg_norm
    frobenius_norm logsumexp logcumsumexp cumsum cumprod any all count_nonzero topk sort argsort

    view reshape _unsafe_view flatten unflatten permute transpose t mT mH numpy_T matrix_H adjoint expand expand_as
    view_as reshape_as squeeze unsqueeze cat concat stack hstack vstack dstack chunk split split_with_sizes tensor_split
    unsafe_chunk unsafe_split unsafe_split_with_sizes unbind slice select narrow index index_select gather
    take_along_dim repeat repeat_interleave tile roll flip rot90 fliplr flipud pad constant_pad_nd reflection_pad1d
    reflection_pad2d reflection_pad3d replication_pad1d replication_pad2d replication_pad3d pixel_shuffle
    pixel_unshuffle channel_shuffle native_channel_shuffle unfold im2col col2im movedim moveaxis swapaxes swapdims
    diagonal diag_embed tril triu contiguous clone detach alias lift_fresh_copy to _to_copy type_as meshgrid
    broadcast_to broadcast_tensors ravel scatter scatter_add slice_scatter select_scatter diagonal_scatter index_put
    index_add index_copy index_fill copy fill view_as_complex view_as_real real imag

    upsample_nearest1d upsample_nearest2d upsample_nearest3d _upsample_nearest_exact1d _upsample_nearest_exact2d
    _upsample_nearest_exact3d upsample_linear1d upsample_bilinear2d upsample_trilinear3d upsample_bicubic2d
    _upsample_bilinear2d_aa _upsample_bicubic2d_aa grid_sampler grid_sampler_2d grid_sampler_3d affine_grid_generator

    fft_fft fft_ifft fft_rfft fft_irfft fft_fft2 fft_ifft2 fft_rfft2 fft_irfft2

    zero zeros ones full eye arange linspace scalar_tensor zeros_like ones_like full_like new_zeros new_ones new_full

    sym_size sym_stride sym_numel _assert_tensor_metadata
"""
PURE = frozenset(_NAMES.split())
"""Operators of torch's own namespace (aten) that a file may call, without their overloads."""
TEXTS = {
    ("gelu", "approximate"): re.compile("none|tanh"),
    ("div", "rounding_mode"): re.compile("floor|trunc"),
    ("conv1d", "padding"): re.compile("same|valid"),
    ("conv2d", "padding"): re.compile("same|valid"),
    ("conv3d", "padding"): re.compile("same|valid"),
    ("pad", "mode"): re.compile("constant|reflect|replicate|circular"),
    ("meshgrid", "indexing"): re.compile("ij|xy"),
    ("einsum", "equation"): re.compile(r"[A-Za-z.,> \-]{1,100}"),
    **{(f"fft_{name}", "norm"): re.compile("forward|backward|ortho")
       for name in ("fft", "ifft", "rfft", "irfft", "fft2", "ifft2", "rfft2", "irfft2")},
}  # fmt: skip
"""Which text an operator's argument may be."""
_ON_SIZES = """
    _operator.getitem _operator.add _operator.sub _operator.mul _operator.floordiv _operator.truediv _operator.mod _operator.neg
    _operator.pos _operator.eq _operator.ne _operator.lt _operator.le _operator.gt _operator.ge _operator.and_ _operator.or_
    _operator.not_ torch.sym_max torch.sym_min torch.sym_int torch.sym_float torch.sym_ite torch.sym_not math.ceil math.floor
    math.trunc
"""
NUMBERS = frozenset(_ON_SIZES.split())
"""What a file may call on sizes."""
_DATA = frozenset({
    "Tensor", "number", "int", "SymInt", "float", "bool", "SymBool", "str", "ScalarType", "Layout", "MemoryFormat", "Device",
})  # fmt: skip


def operator_of(target: Any) -> tuple[str, str]:
    """Return the operator and the overload that a node calls.

    Raises:
        ValueError: naming it, if a file must not call it.
    """
    match = re.fullmatch(r"torch\.ops\.aten\.(\w+)\.(\w+)", target) if isinstance(target, str) else None
    if match is None or match[1] not in PURE or not is_pure(match[1], match[2]):
        fail(
            f"it calls '{str(target).removeprefix('torch.ops.')[:60]}', which is not among the pure operators of a network"
        )
    return match[1], match[2]


@cache
def is_pure(name: str, overload: str) -> bool:
    """Whether torch says of an overload that it writes into nothing and takes only tensors, numbers and listed text."""
    found = getattr(getattr(torch.ops.aten, name, None), overload, None)
    if not isinstance(found, torch._ops.OpOverload):
        return False
    schema = found._schema
    if any(argument.alias_info is not None and argument.alias_info.is_write for argument in schema.arguments):
        return False
    results = {str(result.real_type) for result in schema.returns}
    if not results <= ({"int", "SymInt"} if name.startswith("sym_") else {"Tensor", "List[Tensor]"}):
        return False
    return all(_is_data(name, argument) for argument in schema.arguments)


def _is_data(name: str, argument: Any) -> bool:
    kinds = set(re.findall(r"[A-Za-z]+", str(argument.real_type).replace("Optional", "").replace("List", "")))
    if "Generator" in kinds and argument.has_default_value():  # none can be given in a file
        return True
    if "str" in kinds and (name, argument.name) not in TEXTS and not argument.has_default_value():
        return False
    return kinds <= _DATA


def check_text(name: str, argument: Any, text: Any) -> str:
    """Return a text argument of an operator (ValueError for one that is not listed)."""
    allowed = TEXTS.get((name, argument))
    if not isinstance(text, str) or allowed is None or not allowed.fullmatch(text):
        fail(f"it gives '{name}' the text '{text!s:.60}', which is not among those that it may have")
    return text


def check_flags(name: str, given: dict[str, Any]) -> None:
    """Refuse flags with which an operator changes running statistics or draws random numbers.

    Args:
        name: The operator.
        given: Its arguments by name, as the file has them.
    """
    if name in ("batch_norm", "dropout", "alpha_dropout", "feature_dropout", "feature_alpha_dropout", "rrelu", "lstm", "gru",
                "rnn_tanh", "rnn_relu"):  # fmt: skip
        flag = "training" if name in ("batch_norm", "rrelu") else "train"
        wrong = given.get(flag, {}).get("as_bool", name != "rrelu") is not False
    elif name == "instance_norm":
        wrong = "as_none" not in given.get("running_mean", {"as_none": True}) and given["use_input_stats"] != {
            "as_bool": False
        }
    elif name == "scaled_dot_product_attention":
        wrong = next(iter(given.get("dropout_p", {"as_float": 0}).values())) != 0
    else:
        wrong = False
    if wrong:
        fail(f"it calls '{name}' as in training, which changes statistics or draws random numbers")
