"""What is imported only where it is used, and the one sentence about a package that is not installed."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from importlib import import_module
from importlib.util import find_spec
from types import ModuleType
from typing import Any

from autoprune.errors import UsageError

EXTRAS = {
    "lightning": "fabric",
    "matplotlib": "plot",
    "onnx": "onnx",
    "onnxruntime": "onnx",
    "onnxscript": "onnx",
    "tensorboard": "tensorboard",
    "timm": "timm",
    "torchmetrics": "metrics",
}
"""Modules that autoprune does not require, and the extra that installs them."""

_DISTRIBUTIONS = {"PIL": "pillow", "sklearn": "scikit-learn", "stable_baselines3": "stable-baselines3"}


def missing(modules: Iterable[str]) -> str | None:
    """Return the first of some modules that is not installed, None if all are. Imports none of them."""
    return next((name for name in modules if find_spec(name) is None), None)


def require(needs: str, *modules: str) -> None:
    """See that modules are installed, without importing them.

    Args:
        needs: What needs them, with its verb ("ONNX needs", "Pictures need").
        *modules: Names of top-level modules.

    Raises:
        UsageError: if one is not; names the package and the command that installs it.
    """
    name = missing(modules)
    if name is None:
        return
    package = _DISTRIBUTIONS.get(name, name)
    install = f"'autoprune[{EXTRAS[name]}]'" if name in EXTRAS else package
    raise UsageError(f"{needs} the package '{package}', which is not installed: pip install {install}.")


def lazy(name: str, needs: str) -> Any:
    """Return a module that is imported when something of it is first asked for, as in Optuna's own code.

    Args:
        name: The module.
        needs: What needs it, see `require`.
    """
    return _Lazy(name, needs)


def lazy_names(package: str, homes: Mapping[str, str]) -> Callable[[str], object]:
    """Return a package's ``__getattr__`` (PEP 562), which imports a name from its module when it is first asked for.

    Args:
        package: The package's ``__name__``.
        homes: The module that each name is in, relative to the package.
    """

    def get(name: str) -> object:
        if name not in homes:
            raise AttributeError(f"module '{package}' has no attribute '{name}'")
        try:
            value: object = getattr(import_module(f"{package}.{homes[name]}"), name)
        except ModuleNotFoundError as error:
            require(f"{name} needs", (error.name or "").partition(".")[0])
            raise
        setattr(import_module(package), name, value)
        return value

    return get


class _Lazy(ModuleType):
    def __init__(self, name: str, needs: str) -> None:
        super().__init__(name)
        self._needs = needs
        self._module: ModuleType | None = None

    def __getattr__(self, item: str) -> Any:
        if item.startswith("__"):  # asked by what walks over all that a module holds
            raise AttributeError(item)
        if self._module is None:
            require(self._needs, self.__name__.partition(".")[0])
            self._module = import_module(self.__name__)
        return getattr(self._module, item)
