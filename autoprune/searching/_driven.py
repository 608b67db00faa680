"""What the driver needs of a problem and of a network that it finishes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

from torch import Tensor, nn

from autoprune.budget import AnyDrop
from autoprune.envs import ProblemLike
from autoprune.evaluation import Score
from autoprune.graph import IntArray
from autoprune.latency import Ratio
from autoprune.support.answers import ByImage


class Finished(Protocol):
    """A finished network, see ``autoprune.problem.Finished``."""

    @property
    def model(self) -> nn.Module:
        """The small network."""

    @property
    def kept(self) -> Mapping[str, IntArray]:
        """Channels kept by group name."""

    @property
    def search(self) -> Score:
        """Its score on the search part."""

    @property
    def report(self) -> Score | None:
        """Its score on the report part."""

    @property
    def right(self) -> ByImage | None:
        """Which images of that part it got right; None if they are not known one by one."""

    @property
    def drop(self) -> AnyDrop | None:
        """Where a drop of accuracy is the budget, what it lost on images that no policy is scored on; None if not known."""


class DrivenProblem(ProblemLike, Protocol):
    """What the driver needs of a problem, see ``autoprune.problem.Problem``."""

    @property
    def notes(self) -> Sequence[str]:
        """What the user should know about how the problem was set up."""

    @property
    def setup_images(self) -> float:
        """What preparing the search computed, in images through the dense network."""

    @property
    def setup_cost(self) -> float:
        """What preparing the search took, in dense passes over the search images."""

    @property
    def report_images(self) -> int | None:
        """Number of images that accuracy is reported on, if known."""

    @property
    def dense_report(self) -> Score | None:
        """The dense network's score on the report part."""

    @property
    def dense_right(self) -> ByImage | None:
        """Which images of the report part the dense network gets right."""

    def as_scored(self, counts: Sequence[int], /) -> tuple[nn.Module, Mapping[str, IntArray]]:
        """Return a policy's network as it is scored, and the units that it keeps, by name."""

    def finish(self, counts: Sequence[int], /) -> Finished:
        """Return the network of a policy after the final reconstruction."""

    def rebuilt(self, kept: Mapping[str, IntArray], state: Mapping[str, Tensor], /) -> nn.Module:
        """Return a finished network again, from its channels and its weights."""

    def loader(self, network: nn.Module, /) -> str:
        """Return the text of a ``load.py`` for a finished network, see `autoprune.surgery.loader_text`."""

    def timed(self, network: nn.Module, /) -> Ratio | None:
        """Return what a finished network takes on the target; None where latency does not count."""
