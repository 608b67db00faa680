"""Progress of a benchmark: the stages, a line each."""

from __future__ import annotations

from autoprune.report import Progress


class Say(Progress):
    def stage(self, text: str) -> None:
        print(text, flush=True)
