"""The whole page: one HTML file that asks nothing of the network and needs no script."""

from __future__ import annotations

from collections.abc import Sequence

from autoprune.page._compare import comparison
from autoprune.page._details import configuration_section, notes_section
from autoprune.page._front import front_section
from autoprune.page._headline import head, short_data, short_model
from autoprune.page._html import Html, el, join
from autoprune.page._policy import policy_section
from autoprune.page._probes import sensitivity_section
from autoprune.page._run import Run
from autoprune.page._search import search_section
from autoprune.page._style import css
from autoprune.page._tuning import tuning_section

_POLICY = "default-src 'none'; style-src 'unsafe-inline'"


def page(runs: Sequence[Run]) -> str:
    """Return the page of one run, or of several over one another.

    Args:
        runs: At least one.
    """
    if len(runs) == 1:
        run = runs[0]
        title = f"{short_model(run.config.model)} on {short_data(run.config.data)}, pruned by autoprune"
        body = run_sections(run, "", heading="h1")
    else:
        title = f"{len(runs)} autoprune runs side by side"
        parts = (
            el("details", el("summary", run.label), run_sections(run, f"r{number}-", heading="h2"), class_="run")
            for number, run in enumerate(runs)
        )
        body = join(comparison(runs), *parts)
    return "<!doctype html>\n" + el(
        "html",
        el(
            "head",
            el("meta", charset="utf-8"),
            el("meta", http_equiv="Content-Security-Policy", content=_POLICY),
            el("meta", name="viewport", content="width=device-width,initial-scale=1"),
            el("meta", name="color-scheme", content="light dark"),
            el("title", title),
            el("style", Html(css())),
        ),
        el("body", el("main", body, el("footer", "Written by autoprune report. Multiply-adds (MACs) are those of one image."))),
        lang="en",
    ) + "\n"  # fmt: skip


def run_sections(run: Run, key: str, *, heading: str) -> Html:
    """Return everything about one run.

    Args:
        run: The run.
        key: Prefix of ids, unique on the page.
        heading: Tag of the title.
    """
    return join(
        head(run, level=heading),
        policy_section(run, key),
        tuning_section(run, key),
        front_section(run, key),
        search_section(run, key),
        sensitivity_section(run, key),
        notes_section(run),
        configuration_section(run),
    )
