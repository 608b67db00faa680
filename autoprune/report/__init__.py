"""What a run says: rows, table, sentences, measured times, TensorBoard events, an Optuna study."""

from typing import TYPE_CHECKING

from autoprune.report._figure import ResultInfo, result_figure, result_info
from autoprune.report._goals import drop_sentences, front_sentences
from autoprune.report._plot import WHOLE, Picture, check_path, draw, picture
from autoprune.report._progress import Progress
from autoprune.report._rows import Row, build_report, images_of, make_row, scored_row
from autoprune.report._sentences import finetuned_sentence, limit_sentences, sentences
from autoprune.report._shown import progress_of, search_bar
from autoprune.report._study import write_study
from autoprune.report._table import front_table, metric_of, short_name, table, with_error
from autoprune.report._tensorboard import FinetuneEvents, SearchEvents
from autoprune.report._timing import FILE, read_timing, time_result, time_run, why_no_faster

if TYPE_CHECKING:  # rich draws it, and is imported where a bar is wanted
    from autoprune.report._bar import SearchBar as SearchBar

__all__ = [
    "FILE",
    "WHOLE",
    "FinetuneEvents",
    "Picture",
    "Progress",
    "ResultInfo",
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
    "progress_of",
    "read_timing",
    "result_figure",
    "result_info",
    "scored_row",
    "search_bar",
    "sentences",
    "short_name",
    "table",
    "time_result",
    "time_run",
    "why_no_faster",
    "with_error",
    "write_study",
]
