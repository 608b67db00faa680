"""Exports that are run before they are believed: written, read back, compared with the run's network, timed."""

from autoprune.verification._compare import TIE, TOLERANCE, Comparison, compare
from autoprune.verification._evaluation import evaluate_target
from autoprune.verification._export import export_run
from autoprune.verification._images import BOUND, NOISE
from autoprune.verification._record import read_record, record_path
from autoprune.verification._verify import verify_file

__all__ = [
    "BOUND",
    "NOISE",
    "TIE",
    "TOLERANCE",
    "Comparison",
    "compare",
    "evaluate_target",
    "export_run",
    "read_record",
    "record_path",
    "verify_file",
]
