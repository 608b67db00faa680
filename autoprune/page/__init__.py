"""The report of a run as a page: one self-contained HTML file, and its charts as files.

A page is made of plain data (`Chart`, `Bars`) that small modules compute from what the run folder holds; it uses no plotting
library, no script and no font or image from elsewhere, and escapes everything that comes from the user.
"""

from autoprune.page._charts import write_charts
from autoprune.page._page import page
from autoprune.page._run import Run, Tuned, read_run
from autoprune.page._spec import Bar, Bars, Chart, Level, Point, Series
from autoprune.page._verdict import compare, verdict
from autoprune.page._write import check_path, read_runs, write_page

__all__ = [
    "Bar",
    "Bars",
    "Chart",
    "Level",
    "Point",
    "Run",
    "Series",
    "Tuned",
    "check_path",
    "compare",
    "page",
    "read_run",
    "read_runs",
    "verdict",
    "write_charts",
    "write_page",
]
