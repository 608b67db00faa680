"""Every module class of torch.nn between two convolutions, or two linear layers: pruned rightly, or refused by its name.

The namespace is walked, so that a class that a new torch has is found. Classes are made from the arguments below, or by guessing.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from autoprune.errors import AutopruneError
from autoprune.graph import build_graph, prove
from autoprune.graph._build import TIED
from autoprune.testing import check_surgery, randomised

from .._sample import pick

WIDTH, SIDE, TOKENS = 8, 6, 5
NAMES = sorted(
    name for name, kind in vars(nn).items() if isinstance(kind, type) and issubclass(kind, nn.Module) and name[0] != "_"
)
LOSSES = [name for name in NAMES if re.search(r"Loss(2d)?$", name) and "Softmax" not in name]
NOT_BETWEEN = {
    **dict.fromkeys(("Module", "Container", "RNNBase", "RNNCellBase"), "is what others are made of"),
    **dict.fromkeys(("ModuleDict", "ModuleList", "ParameterDict", "ParameterList"), "has no forward"),
    **dict.fromkeys(LOSSES, "takes a target, and gives one number"),
    **dict.fromkeys(("Embedding", "EmbeddingBag"), "takes whole numbers, which no layer gives"),
}
"""Classes that no layer can stand before."""


def convolution(dims: int) -> Any:
    return (nn.Conv1d, nn.Conv2d, nn.Conv3d)[dims - 1]


ARGUMENTS: dict[str, tuple[Any, ...]] = {
    "AdaptiveLogSoftmaxWithLoss": (WIDTH, 6, [2, 4], 2.0),
    "Bilinear": (WIDTH, WIDTH, 6),
    "ChannelShuffle": (2,),
    "CrossMapLRN2d": (3,),
    "FractionalMaxPool2d": (2, 3),
    "FractionalMaxPool3d": (2, 3),
    "Fold": ((2, 3), 1),
    "GroupNorm": (2, WIDTH),
    "LPPool1d": (2, 2),
    "LPPool2d": (2, 2),
    "LPPool3d": (2, 2),
    "LayerNorm": (WIDTH,),
    "LocalResponseNorm": (3,),
    "MultiheadAttention": (WIDTH, 2, 0.0, True, False, False, None, None, True),
    "PixelShuffle": (2,),
    "PixelUnshuffle": (2,),
    "RMSNorm": (WIDTH,),
    "Sequential": (nn.ReLU(),),
    "Softmax": (1,),
    "LogSoftmax": (1,),
    "Softmin": (1,),
    "Threshold": (0.1, 0.2),
    "Transformer": (WIDTH, 2, 1, 1, 16, 0.0),
    "TransformerDecoder": (nn.TransformerDecoderLayer(WIDTH, 2, 16, 0.0, batch_first=True), 1),
    "TransformerDecoderLayer": (WIDTH, 2, 16, 0.0),
    "TransformerEncoder": (nn.TransformerEncoderLayer(WIDTH, 2, 16, 0.0, batch_first=True), 1),
    "TransformerEncoderLayer": (WIDTH, 2, 16, 0.0),
    "Unflatten": (1, (2, WIDTH // 2)),
    "Upsample": (None, 2),
}
GUESSES: tuple[tuple[Any, ...], ...] = (
    (),
    (2,),
    (WIDTH,),
    (WIDTH, 6),
    (WIDTH, 6, 3),
    (1, WIDTH),
    (nn.ReLU(),),
    (2, WIDTH),
)
CALLS: dict[str, Callable[[nn.Module, Tensor], Any]] = {
    **dict.fromkeys(
        (
            "Bilinear",
            "CosineSimilarity",
            "PairwiseDistance",
            "Transformer",
            "TransformerDecoder",
            "TransformerDecoderLayer",
        ),
        lambda middle, x: middle(x, x.tanh()),
    ),
    "AdaptiveLogSoftmaxWithLoss": lambda middle, x: middle.log_prob(x),
    "MultiheadAttention": lambda middle, x: middle(x, x, x),
}
"""How a module is called that takes more than one tensor."""


class Between(nn.Module):
    """A layer, the module, and a layer on whatever the module gives."""

    def __init__(self, first: nn.Module, middle: nn.Module, images: Tensor) -> None:
        super().__init__()
        self.first, self.middle = first, middle
        with torch.no_grad():
            out = self.inner(images)
        dims = images.dim() - 2
        self.flat = not isinstance(first, nn.Linear) and out.dim() != images.dim()
        if isinstance(first, nn.Linear) or (self.flat and out.dim() in (2, 3)):
            self.last: nn.Module = nn.Linear(out.shape[-1], 4)
        elif self.flat:
            self.last = nn.Sequential(nn.Flatten(), nn.Linear(out[0].numel(), 4))
        else:
            self.last = convolution(dims)(out.shape[1], 4, 1)

    def inner(self, x: Tensor) -> Tensor:
        x = 4 * self.first(x).sigmoid()
        name = type(self.middle).__name__
        if name.startswith("MaxUnpool"):
            pool = {"1": F.max_pool1d, "2": F.max_pool2d, "3": F.max_pool3d}[name[-2]]
            out = self.middle(*pool(x, 2, return_indices=True))
        else:
            out = CALLS.get(name, lambda middle, y: middle(y))(self.middle, x)
        while isinstance(out, tuple):
            out = out[0]
        assert isinstance(out, Tensor)
        return out

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.last(self.inner(x))
        return out


def made(name: str) -> list[tuple[Between, Tensor]]:
    """Return the networks that a class can stand in, with images for each."""
    kind = getattr(nn, name)
    found = []
    for frame in ("1d", "2d", "3d", "linear", "tokens"):
        if name[-2:] in ("1d", "2d", "3d") and name[-2:] != frame:
            continue
        for arguments in [ARGUMENTS[name]] if name in ARGUMENTS else GUESSES:
            torch.manual_seed(0)
            try:
                middle = kind(*arguments).eval()
                if frame in ("linear", "tokens"):
                    images, first = torch.randn(3, *[TOKENS] * (frame == "tokens"), 4), nn.Linear(4, WIDTH)
                else:
                    dims = int(frame[0])
                    images, first = torch.randn(3, 2, *[SIDE] * dims), convolution(dims)(2, WIDTH, 3, padding=1)
                model = Between(first, middle, images)
                randomised(model.double())
            except Exception:
                continue
            found.append((model, images.double()))
            break
    return found


def says_which(reason: str, model: Between) -> bool:
    """Whether a reason names the module or one inside it: its class, its path or an operator of the same name."""
    kinds = {type(module).__name__.lower() for module in model.middle.modules()}
    words = {word.lower() for word in re.findall(r"nn\.(\w+)|torch's (\w+)", reason) for word in word}
    words |= {word.replace("_", "") for word in re.findall(r"aten\.(\w+)", reason)}
    return bool(kinds & words) or "'middle" in reason or reason == TIED


@pytest.mark.filterwarnings("ignore")  # of torch's own modules
@pytest.mark.parametrize("name", pick([name for name in NAMES if name not in NOT_BETWEEN], 9))
def test_a_module_is_pruned_around_rightly_or_refused_by_its_name(name: str) -> None:
    networks = made(name)
    assert networks, (
        f"Say in ARGUMENTS how to make an nn.{name} for {WIDTH} channels, or in NOT_BETWEEN why it is left out."
    )
    for model, images in networks:
        try:
            graph = prove(model, build_graph(model, images), images)
        except AutopruneError as error:
            assert says_which(str(error), model)  # noqa: PT017
            continue
        own = [group for group in graph.groups if "first" in group.producers]
        if any(group.reason is None for group in graph.groups):
            checks = [check_surgery(model, graph, images, policies=1, seed=seed) for seed in range(4)]
            assert max(check.distance for check in checks) < 1e-8
            assert not any(check.macs_wrong or check.params_wrong for check in checks)
            assert max(check.effect for check in checks) > 1e-6 or all(group.reason for group in own)
        for group in own:
            assert group.reason is None or says_which(group.reason, model)
