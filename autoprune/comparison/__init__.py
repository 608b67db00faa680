"""Several agents on one problem with equal effort, and what they say together."""

from autoprune.comparison._comparison import SharedProblem, compare, run_folder, summary
from autoprune.comparison._table import curve, draw, results, sentences, summarize, table

__all__ = [
    "SharedProblem",
    "compare",
    "curve",
    "draw",
    "results",
    "run_folder",
    "sentences",
    "summarize",
    "summary",
    "table",
]
