"""The target: what will run the network, and how."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, replace
from typing import Any

import torch

from autoprune.errors import UsageError
from autoprune.registry import nearest

RUNTIMES = ("eager", "compile", "onnxruntime")
DTYPES = ("float32", "bfloat16", "float16")


@dataclass(frozen=True)
class Target:
    """What will run the network.

    Attributes:
        runtime: "eager" is PyTorch as it is, "compile" is `torch.compile`, "onnxruntime" is onnxruntime on the CPU.
        device: "cpu", "cuda" or "cuda:N".
        batch: Images in one batch.
        threads: Threads that compute; None for as many as PyTorch uses (`resolved` fills it in).
        dtype: "float32"; PyTorch also takes "bfloat16" and, on a GPU, "float16".

    Raises:
        UsageError: for any other value.
    """

    runtime: str = "eager"
    device: str = "cpu"
    batch: int = 1
    threads: int | None = None
    dtype: str = "float32"

    def __post_init__(self) -> None:
        _check_name("target", self.runtime, RUNTIMES)
        _check_name("dtype of the target", self.dtype, DTYPES)
        _check_number("batch size", self.batch)
        if self.threads is not None:
            _check_number("number of threads", self.threads)
        try:
            kind = torch.device(str(self.device)).type  # a number would be a GPU's, of any size
        except RuntimeError as error:
            raise UsageError(f"Unknown device {self.device!r:.60}; give cpu or cuda (cuda:1, ...).") from error
        if kind not in ("cpu", "cuda"):
            raise UsageError(f"The device '{self.device}' is not supported as a target; use cpu or cuda.")
        if self.runtime == "onnxruntime" and (kind != "cpu" or self.dtype != "float32"):
            raise UsageError(
                f"The target onnxruntime runs float32 on the CPU, not {self.dtype} on {self.device}; "
                "use --target eager or compile for that."
            )
        if self.dtype == "float16" and kind == "cpu":
            raise UsageError("The dtype float16 is for GPUs; on the CPU use bfloat16 or float32.")

    @property
    def resolved(self) -> Target:
        """The same with the number of threads filled in."""
        return self if self.threads is not None else replace(self, threads=torch.get_num_threads())

    def to_dict(self) -> dict[str, Any]:
        """Return JSON-ready values."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: object) -> Target:
        """Return the target that `to_dict` wrote.

        Raises:
            UsageError: for anything else.
        """
        known = {entry.name for entry in fields(cls)}
        if not isinstance(values, Mapping) or set(values) != known:
            raise UsageError(
                f"A target must be an object with the keys {', '.join(sorted(known))}, but is {values!r:.120}."
            )
        return cls(**values)

    def __str__(self) -> str:
        """Return the target in words: "eager on cpu, batch 1, 1 thread, float32"."""
        threads = "" if self.threads is None else f", {self.threads} thread{'s' if self.threads > 1 else ''}"
        return f"{self.runtime} on {self.device}, batch {self.batch}{threads}, {self.dtype}"


def _check_name(what: str, value: object, known: tuple[str, ...]) -> None:
    if value not in known:
        raise UsageError(f"Unknown {what} '{value}'.{nearest(str(value), list(known))} Known: {', '.join(known)}.")


def _check_number(what: str, value: object) -> None:
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise UsageError(f"The {what} of the target is {value!r}, but must be a whole number of at least 1.")
