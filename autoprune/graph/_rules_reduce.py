"""Rules of pooling, interpolation, reductions and softmax: what they mix must not be channels."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from autoprune.graph._call import Call, concrete
from autoprune.graph._labels import core, neutral, varying, words
from autoprune.graph._propagation import Propagation
from autoprune.graph._statistics import STATISTICS

POOLS = words(
    """
    max_pool1d max_pool2d max_pool3d avg_pool1d avg_pool2d avg_pool3d adaptive_avg_pool1d adaptive_avg_pool2d
    adaptive_avg_pool3d adaptive_max_pool1d adaptive_max_pool2d adaptive_max_pool3d max_pool1d_with_indices
    max_pool2d_with_indices max_pool3d_with_indices lp_pool1d lp_pool2d upsample_nearest1d upsample_nearest2d
    upsample_nearest3d _upsample_nearest_exact1d _upsample_nearest_exact2d upsample_linear1d upsample_bilinear2d
    upsample_bicubic2d upsample_trilinear3d _upsample_bilinear2d_aa _upsample_bicubic2d_aa
    """
)

REDUCTIONS = words(
    """
    mean sum amax amin var std var_mean std_mean max min logsumexp prod norm linalg_vector_norm argmax argmin any all
    """
)

ALONG = words(
    """
    softmax log_softmax _softmax cumsum cumprod sort normalize
    """
)


DECISIONS = words(
    """
    item _local_scalar_dense is_nonzero equal allclose _assert_scalar _assert_async
    """
)


CHOICES = frozenset(f"aten.{name}" for name in words("max min amax amin argmax argmin"))
"""Reductions that say which channel is the largest or how large it is: at a network's end the answer of a classifier."""

REDUCED = "channels are reduced to one number, which depends on how many there are"


def _outputs(call: Call, labels: Tensor) -> Any:
    value = call.node.meta["val"]
    if isinstance(value, (tuple, list)):
        return [labels.expand(concrete(v.shape)) for v in value]
    return labels.expand(concrete(value.shape))


def pool(p: Propagation, call: Call) -> Any:
    """Every channel by itself; positions are mixed, so what differs along them goes together."""
    x = call.args[next(iter(call.args))]
    if not isinstance(x, Tensor) or x.dim() < 3:
        return p.refuse(call, list(call.args.values()), "the input is not understood")
    spatial = range(x.dim() - 1 if "1d" in call.op else x.dim() - 3 if "3d" in call.op else x.dim() - 2, x.dim())
    return _outputs(call, core(p.unify(x, [d for d in spatial if d in varying(x)])))


def reduce(p: Propagation, call: Call) -> Any:
    """A reduction over positions keeps the channels; one over channels is refused."""
    x = call.args["self"] if "self" in call.args else call.args[next(iter(call.args))]
    if not isinstance(x, Tensor):
        return p.refuse(call, list(call.args.values()), "a parameter is reduced to fewer numbers")
    dims = call.args.get("dim")
    dims = list(range(x.dim())) if dims is None or dims == [] else [dims] if isinstance(dims, int) else list(dims)
    dims = [dim % x.dim() for dim in dims] if x.dim() else []
    if isinstance(call.args.get("other"), Tensor):
        return p.join(call, ("self", "other"))
    over = [dim for dim in dims if dim in varying(x)]
    if over and len(over) < len(varying(x)):  # copies side by side (split attention): each keeps the same channels
        x = p.unify(x, over)
    elif (
        len(over) == 1 and call.args.get("dim") not in (None, []) and call.op in STATISTICS
    ):  # judged when all is known
        p.statistics[call.node] = (call, over[0], p.channels(x, over[0]))
        return _outputs(call, neutral(()))
    elif over:
        return (p.refuse_mixed if call.op in CHOICES else p.refuse)(call, x, REDUCED)
    small = core(x)
    if not call.args.get("keepdim", False):
        for dim in sorted(dims, reverse=True):
            small = small.narrow(dim, 0, 1).squeeze(dim)
    return _outputs(call, small)


def along(p: Propagation, call: Call) -> Any:
    """An operator that mixes the elements along one dimension, which must not be the channels'."""
    x = call.args["self"]
    if not isinstance(x, Tensor) or call.args["dim"] % max(x.dim(), 1) in varying(x):
        return p.refuse_mixed(call, x, "channels are mixed along their dimension")
    return x


def decide(p: Propagation, call: Call) -> Any:
    """A number read out of a tensor: the code may go one way or another for it."""
    p.freeze(list(call.args.values()), p.reason_at(call, "the path through the code depends on their values"))
    return p.opaque_output(call, "the path through the code depends on their values")


REDUCE_RULES = {
    **{f"aten.{name}": decide for name in DECISIONS},
    **{f"aten.{name}": pool for name in POOLS},
    **{f"aten.{name}": reduce for name in REDUCTIONS},
    **{f"aten.{name}": along for name in ALONG},
}
