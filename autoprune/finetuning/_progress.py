"""What a fine-tuning tells about itself while it runs; this one keeps silent."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from autoprune.evaluation import Metric


class FinetuneProgress:
    """Receives a fine-tuning's events. Override what is of interest."""

    def stage(self, text: str) -> None:
        """Say what is being done now."""

    def measured_by(self, metric: Metric) -> None:
        """Say what epochs are measured in, before the first."""

    def begin(self, name: str, epochs: int, done: int, images: int) -> None:
        """Training begins: ``epochs`` in all, ``done`` in an earlier session, each over so many images."""

    def step(self, images: int) -> None:
        """So many images of the present epoch are done."""

    def epoch(self, record: Mapping[str, Any]) -> None:
        """An epoch is over; ``record`` is its line of ``history.jsonl``."""

    def finished(self, result: Mapping[str, Any]) -> None:
        """The result was written; it is that of ``result.json``."""


class Several(FinetuneProgress):
    """Passes every event on to several receivers."""

    def __init__(self, *receivers: FinetuneProgress) -> None:
        self._receivers = receivers

    def stage(self, text: str) -> None:
        """Pass it on."""
        for receiver in self._receivers:
            receiver.stage(text)

    def measured_by(self, metric: Metric) -> None:
        """Pass it on."""
        for receiver in self._receivers:
            receiver.measured_by(metric)

    def begin(self, name: str, epochs: int, done: int, images: int) -> None:
        """Pass it on."""
        for receiver in self._receivers:
            receiver.begin(name, epochs, done, images)

    def step(self, images: int) -> None:
        """Pass it on."""
        for receiver in self._receivers:
            receiver.step(images)

    def epoch(self, record: Mapping[str, Any]) -> None:
        """Pass it on."""
        for receiver in self._receivers:
            receiver.epoch(record)

    def finished(self, result: Mapping[str, Any]) -> None:
        """Pass it on."""
        for receiver in self._receivers:
            receiver.finished(result)
