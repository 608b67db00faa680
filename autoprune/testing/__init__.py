"""For authors of plug-ins: contract tests to subclass, and a problem small enough to be solved."""

from __future__ import annotations

from autoprune.testing._toy import ToyProblem

__all__ = ["ToyProblem"]
