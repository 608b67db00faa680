"""Networks: the built-in ones, torchvision's and the user's own, with their weights."""

from autoprune.models._cluttered_digits import ClutteredDigitsNet
from autoprune.models._digits import DigitsNet
from autoprune.models._loaded import BUILT_IN, LoadedModel, load_model, untrained
from autoprune.models._resnet import CifarResNet
from autoprune.models._vgg import CifarVgg
from autoprune.models._weights import check_finite, load_into, read_weights, state_fingerprint

__all__ = [
    "BUILT_IN",
    "CifarResNet",
    "CifarVgg",
    "ClutteredDigitsNet",
    "DigitsNet",
    "LoadedModel",
    "check_finite",
    "load_into",
    "load_model",
    "read_weights",
    "state_fingerprint",
    "untrained",
]
