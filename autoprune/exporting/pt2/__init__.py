"""``.pt2`` files that may be a stranger's: nothing in them is unpickled, evaluated or run beyond listed pure operators."""

from autoprune.exporting.pt2._archive import checked_pt2
from autoprune.exporting.pt2._functional import functional

__all__ = ["checked_pt2", "functional"]
