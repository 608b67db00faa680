"""Images in three disjoint parts: calibration, search and report."""

from autoprune.data._load import load_data
from autoprune.data._types import Data, ImageArrays

__all__ = ["Data", "ImageArrays", "load_data"]
