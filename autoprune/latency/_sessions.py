"""Networks made ready to run on a target, whole and in segments."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, Self

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from autoprune.errors import AutopruneError, UsageError
from autoprune.exporting import export_model
from autoprune.graph import Group, PruningGraph
from autoprune.latency._eager import EagerSegments, hooked_layers
from autoprune.latency._family import OnnxFamily
from autoprune.latency._onnx import OnnxSegments
from autoprune.latency._segments import Segments
from autoprune.latency._target import Target
from autoprune.surgery import copy_model, prune_model
from autoprune.timing import batch_of, compile_runner, eager_runner, onnx_runner

_FEW = 4
FloatArray = npt.NDArray[np.float64]


class Parts(Protocol):
    """Runs a network and keeps the time of its segments."""

    def __call__(self) -> None:
        """Run once."""

    def seconds(self) -> FloatArray | None:
        """Return the seconds of each segment, None if they cannot be told apart."""


@dataclass(frozen=True)
class Ready:
    """A network on a target.

    Attributes:
        whole: Runs it once.
        parts: Returns what runs it and keeps the time of its segments; None where the target does not tell.
    """

    whole: Callable[[], object]
    parts: Callable[[], Parts] | None


def clock_of(target: Target) -> Callable[[], float]:
    """Return the clock that a target is profiled with.

    For one thread on the CPU it counts that thread's own time: what the wall clock shows where no other process wants the
    processor, and hardly disturbed by those that do.
    """
    own = target.threads == 1 and torch.device(target.device).type == "cpu"
    return time.thread_time if own else time.perf_counter


class TargetSession:
    """A target with a batch of images, where networks are made ready. Used in a ``with`` statement.

    Args:
        example: Images (B, C, H, W), repeated or cut to the target's batch.
        target: The target, `Target.resolved`.

    Raises:
        UsageError: if the device is not there.
    """

    def __init__(self, example: Tensor, target: Target) -> None:
        if torch.device(target.device).type == "cuda" and not torch.cuda.is_available():
            raise UsageError(
                f"The target's device is '{target.device}', but torch finds no CUDA here; use --device cpu."
            )
        self.target = target
        self.images = batch_of(example, target.batch).to(target.device, getattr(torch, target.dtype))
        self._folder = tempfile.TemporaryDirectory()
        self._files = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self._folder.cleanup()

    def placed(self, network: nn.Module) -> nn.Module:
        """Return the network itself, in eval mode and moved to the target's device and dtype."""
        return network.eval().to(self.target.device, getattr(torch, self.target.dtype))

    def whole(self, network: nn.Module) -> Callable[[], object]:
        """Return what runs a network in PyTorch; it is moved to the target.

        Raises:
            AutopruneError: if it does not run there.
        """
        make = compile_runner if self.target.runtime == "compile" else eager_runner
        run = make(self.placed(network))(self.images)
        try:
            run()
        except (RuntimeError, ValueError, TypeError) as error:
            first = next((line for line in str(error).splitlines() if line.strip()), type(error).__name__)
            raise AutopruneError(
                f"The network does not run on the target ({self.target}): {first.strip().rstrip('.')}."
            ) from error
        return run

    def placer(self, network: nn.Module) -> Callable[[], Callable[[], object]]:
        """Return what makes a network ready anew each time it is called: other places in memory, another session.

        What is compiled stays the same, since compiling takes a minute. The network is not changed.

        Raises:
            AutopruneError: if it does not run on the target (from what is returned, if that is eager PyTorch).
        """
        if self.target.runtime == "onnxruntime":
            path = self.exported(copy_model(network))
            return lambda: self.session(path)
        if self.target.runtime == "compile":
            run = self.whole(copy_model(network))
            return lambda: run
        return lambda: self.whole(copy_model(network))

    def session(self, path: Path) -> Callable[[], object]:
        """Return what runs an ONNX file."""
        return onnx_runner(path, self.target.threads or 1)(self.images)

    def exported(self, network: nn.Module) -> Path:
        """Return an ONNX file of a network for the target's batch."""
        path = self._file()
        if not export_model(
            self.placed(network), batch_of(self.images, max(2, self.target.batch)), path, format="onnx"
        ):
            export_model(network, self.images, path, format="onnx")
        return path

    def _file(self) -> Path:
        self._files += 1
        return Path(self._folder.name) / f"{self._files}.onnx"


class VariantSession(TargetSession):
    """Makes pruned variants of one network ready to be timed on a target.

    Args:
        model: The dense network; it is not changed.
        graph: Its coupling graph.
        decisions: The groups that a policy decides, in order.
        example: Images (B, C, H, W), repeated or cut to the target's batch.
        target: The target, `Target.resolved`.
        expected: How many networks will be made ready; ONNX files of few are exported, of many cut out of the dense one's.
        clock: Tells seconds; by default `clock_of` the target.

    Attributes:
        clock: Tells seconds.
        spans: Number of the first layer of each segment that is told apart; None where only the whole network is timed.

    Raises:
        UsageError: if the device is not there, or the network takes no such batch.
    """

    def __init__(
        self,
        model: nn.Module,
        graph: PruningGraph,
        decisions: Sequence[Group],
        example: Tensor,
        target: Target,
        *,
        expected: int = 1000,
        clock: Callable[[], float] | None = None,
    ) -> None:
        if not graph.dynamic_batch and target.batch != graph.layers[0].in_shape[0]:
            raise UsageError(
                f"The network takes batches of {graph.layers[0].in_shape[0]} only, but the target's batch is {target.batch}."
            )
        super().__init__(example, target)
        self._model, self._graph, self._decisions = model, graph, tuple(decisions)
        self._family: OnnxFamily | None = None
        self._paths: dict[tuple[int, ...], Path] = {}
        self._expected = expected
        self.clock = clock_of(target) if clock is None else clock
        self.spans: tuple[int, ...] | None = None
        if target.runtime == "eager":
            dense = self.placed(self.module([group.size for group in decisions]))
            self.spans = hooked_layers(dense, self.images, [layer.name for layer in graph.layers])
        elif target.runtime == "onnxruntime":
            self.spans = tuple(range(len(graph.layers)))

    def module(self, counts: Sequence[int]) -> nn.Module:
        """Return the network that keeps the first so many channels of each group."""
        kept = {group.name: np.arange(count) for group, count in zip(self._decisions, counts, strict=True)}
        return prune_model(self._model, self._graph, kept)

    def ready(self, counts: Sequence[int]) -> Ready:
        """Return the network of a policy, ready to run whole and in segments.

        Raises:
            AutopruneError: if it does not run on the target.
        """
        if self.target.runtime == "onnxruntime":
            if self._family is None and self._expected > _FEW:
                self._family = OnnxFamily(
                    lambda kept: self.exported(self.module(kept)), Segments(self._graph, self._decisions)
                )
            path = self._path(tuple(counts))
            threads, layers = self.target.threads or 1, self._graph.layers
            return Ready(self.session(path), lambda: OnnxSegments(path, threads, self.images, layers))
        network = self.module(counts)
        whole = self.whole(network)
        if self.spans is None:
            return Ready(whole, None)
        names = [self._graph.layers[number].name for number in self.spans]
        return Ready(whole, lambda: EagerSegments(network, self.images, names, clock=self.clock))

    def _path(self, counts: tuple[int, ...]) -> Path:
        """Return the ONNX file of a policy, written once."""
        if counts not in self._paths:
            family = self._family
            self._paths[counts] = (
                self.exported(self.module(counts)) if family is None else family.write(counts, self._file())
            )
        return self._paths[counts]
