"""What a run says: rows, table, sentences, measured times, TensorBoard events, an Optuna study."""

from autoprune.report._goals import drop_sentences, front_sentences
from autoprune.report._plot import WHOLE, Picture, check_path, draw, picture
from autoprune.report._progress import Progress
from autoprune.report._rows import Row, build_report, images_of, make_row, scored_row
from autoprune.report._sentences import finetuned_sentence, limit_sentences, sentences
from autoprune.report._study import write_study
from autoprune.report._table import front_table, metric_of, short_name, table, with_error
from autoprune.report._tensorboard import FinetuneEvents, SearchEvents
from autoprune.report._timing import FILE, read_timing, time_result, time_run

__all__ = [
    "FILE",
    "WHOLE",
    "FinetuneEvents",
    "Picture",
    "Progress",
    "Row",
    "SearchEvents",
    "build_report",
    "check_path",
    "draw",
    "drop_sentences",
    "finetuned_sentence",
    "front_sentences",
    "front_table",
    "images_of",
    "limit_sentences",
    "make_row",
    "metric_of",
    "picture",
    "read_timing",
    "scored_row",
    "sentences",
    "short_name",
    "table",
    "time_result",
    "time_run",
    "with_error",
    "write_study",
]
