"""torchvision's classification networks, with its published weights and their own preprocessing."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast
from urllib.error import URLError

from torch import Tensor, nn

from autoprune.errors import AutopruneError, UsageError
from autoprune.registry import nearest
from autoprune.support.packages import lazy

models = lazy("torchvision.models", "A network of torchvision's needs")

Transform = Callable[[Any], Tensor]
_AUXILIARY = ("aux1.", "aux2.", "AuxLogits.")  # heads that only training uses


def check_name(name: str) -> None:
    """Refuse names that torchvision has no classification network for (UsageError with the nearest)."""
    known = models.list_models(module=models)
    if name not in known:
        raise UsageError(f"torchvision has no classification model '{name}'.{nearest(name, known)}")


def find_weights(name: str, weights: str | None) -> Any:
    """Return the weights enum member called ``weights`` ("IMAGENET1K_V1", "DEFAULT"), or with None the default one.

    Raises:
        UsageError: for an unknown name.
    """
    known = models.get_model_weights(name)
    member = (weights or "DEFAULT").rpartition(".")[2]
    if member not in known.__members__:
        names = list(known.__members__)
        raise UsageError(
            f"torchvision's '{name}' has no weights '{weights}'.{nearest(member, names)} Known: {', '.join(names)}."
        )
    return known[member]


def preprocessing(weights: Any) -> tuple[Transform, int, tuple[float, ...], tuple[float, ...]]:
    """Return what the weights were trained with: the transform, the image's side in pixels, mean and standard deviation."""
    transform = weights.transforms()
    return cast(Transform, transform), int(transform.crop_size[0]), tuple(transform.mean), tuple(transform.std)


def promised(weights: Any) -> tuple[str, float] | None:
    """Return the data that the weights' published accuracy was measured on, and that accuracy in [0, 1]; None where none is."""
    for data, measured in weights.meta.get("_metrics", {}).items():
        if "acc@1" in measured:
            return str(data), float(measured["acc@1"]) / 100
    return None


def build(name: str, num_classes: int | None, *, published: bool = False) -> nn.Module:
    """Return the network, untrained, without heads that only training uses.

    Args:
        name: Its name.
        num_classes: Number of outputs, None for its own.
        published: Whether it is for torchvision's published weights.
    """
    options: dict[str, Any] = {} if num_classes is None else {"num_classes": num_classes}
    if name in ("googlenet", "inception_v3"):
        # Published weights expect the input scaled in the network itself.
        options |= {"aux_logits": False, "init_weights": True, "transform_input": published}
    return cast(nn.Module, models.get_model(name, weights=None, **options))


def download(weights: Any) -> dict[str, Tensor]:
    """Return the published state dict, from torch's cache or the net, read with the weights-only reader.

    Raises:
        AutopruneError: if it is not in the cache and cannot be downloaded.
    """
    try:
        state: dict[str, Tensor] = weights.get_state_dict(progress=False, check_hash=True, weights_only=True)
    except (URLError, OSError, RuntimeError) as error:
        raise AutopruneError(
            f"The weights '{weights}' cannot be downloaded ({error}); "
            "check the network, or give --weights the path of a downloaded file."
        ) from error
    return {key: value for key, value in state.items() if not key.startswith(_AUXILIARY)}
