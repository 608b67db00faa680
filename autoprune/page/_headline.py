"""The head of a run's page: one sentence, the numbers large, the verdict, the table."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from autoprune.evaluation import ACCURACY, Metric, loss_name, loss_text
from autoprune.page._cells import table_box, value_cell
from autoprune.page._html import Html, el, join
from autoprune.page._numbers import big, named, percent, plural, said, title, with_error
from autoprune.page._run import Run, Tuned
from autoprune.page._timing import headline_time, timing_part, where
from autoprune.page._verdict import verdict_box
from autoprune.report import Row, limit_sentences


def short_data(data: str) -> str:
    """Return a data specification without its folder: "cifar10:data/cifar10" is "cifar10"."""
    head, _, rest = data.partition(":")
    return (
        head
        if head in ("cifar10", "fashion-mnist", "digits")
        else "images"
        if head == "imagefolder"
        else (
            "data passed from Python" if data == "python" else f"{head.rpartition('/')[2]}{':' + rest if rest else ''}"
        )
    )


def short_model(model: str) -> str:
    """Return a model specification without folders."""
    return model.rpartition("/")[2]


def best_tuned(run: Run) -> Tuned | None:
    """Return the finished fine-tuning of the pruned weights that is best on the search part, None if none is."""
    done = [t for t in run.tuned if t.result is not None and not t.result.get("from_scratch")]
    return max(done, key=lambda t: run.metric.sign * float((t.result or {})["search_accuracy"]), default=None)


def lead(run: Run) -> str:
    """Return the run in one plain sentence."""
    final, dense = run.final, run.dense
    what = f"{short_model(run.config.model)} on {short_data(run.config.data)}"
    if final is None or dense is None:
        return (
            f"The search for a smaller {what} is not finished: {plural(len(run.episodes), 'policy', 'policies')} "
            "scored so far. What is there is shown."
        )
    metric = run.metric

    def shown(row: Row) -> str:
        return said(metric, row.accuracy, row.accuracy_se)

    images = "held-out images" if run.part == "report" else "the images that the search maximised it on"
    text = (
        f"{short_model(run.config.model)} with {percent(final.macs / dense.macs, 1)} % of its multiply-adds and "
        f"{percent(final.params / dense.params, 1)} % of its parameters gets "
        + (
            f"{shown(final)} of {images} of {short_data(run.config.data)} right, the dense network {shown(dense)}"
            if metric == ACCURACY
            else f"{metric.name} {shown(final)} on {images} of {short_data(run.config.data)}, the dense network {shown(dense)}"
        )
    )
    tuned = best_tuned(run)
    if tuned is not None and tuned.result is not None:
        result = tuned.result
        text += (
            f"; after {plural(int(result['epochs_done']), 'epoch')} of fine-tuning it gets "
            f"{said(metric, result['accuracy'], result.get('accuracy_se'))}"
        )
    time = headline_time(run, final.name)
    if time is not None:
        text += f"; it takes {time['ratio']:.2f} of the dense network's time ({where(time)})"
    return text + "."


def tiles(run: Run) -> Html | None:
    """Return the most important numbers, large."""
    final, dense = run.final, run.dense
    if final is None or dense is None:
        return None
    metric = run.metric
    entries = [
        _tile(title(metric), _big(metric, final.accuracy, final.accuracy_se), f"dense {said(metric, dense.accuracy)}"),
        _tile("Multiply-adds", big(final.macs), f"{final.macs / dense.macs:.3f} of {big(dense.macs)}"),
        _tile("Parameters", big(final.params), f"{final.params / dense.params:.3f} of {big(dense.params)}"),
    ]
    tuned = best_tuned(run)
    if tuned is not None and tuned.result is not None:
        shown = _big(metric, tuned.result["accuracy"], tuned.result.get("accuracy_se"))
        entries.insert(1, _tile("Fine-tuned", shown, plural(int(tuned.result["epochs_done"]), "epoch")))
    time = headline_time(run, final.name)
    if time is not None:
        entries.append(_tile("Time", f"{time['ms']:.3g} ms", f"{time['ratio']:.2f} of dense, {where(time)}"))
    return el("dl", *entries, class_="tiles")


def table(run: Run) -> Html | None:
    """Return the table of all networks; every number also as ``data-value``, exactly as in ``report.json``."""
    if not run.rows:
        return None
    dense, metric = run.dense, run.metric
    head = (
        "",
        named(metric),
        f"search {named(metric)}",
        loss_name(metric),
        "MACs",
        "ratio",
        "parameters",
        "ratio",
        "policies",
        "cost",
        "images",
    )
    lines = [_line(run, row, dense) for row in run.rows]
    lines += [_scored_line(run, found, dense) for found in run.scored]
    lines += [_tuned_line(metric, tuned, dense) for tuned in run.tuned if tuned.result is not None]
    part = "held-out images" if run.part == "report" else "the search part, which flatters"
    error = " ± one standard error" if any(row.accuracy_se is not None for row in run.rows) else ""
    kind = "Loss in nats" if loss_name(metric) == "loss" else "Divergence from the dense network's outputs"
    note = (
        f"{title(metric)}{error} on {part}; {head[2].removesuffix(', %')} on the images that policies were scored on. "
        f"{kind}. Policies: how many were proposed and scored. Cost: what scoring one took, in passes of the dense "
        "network (median). Images: what the whole search for it computed, in images through the dense network."
    )
    return table_box("networks", note, head, lines, label="Table of networks")


def _big(metric: Metric, value: float, error: float | None) -> Html:
    spread = None if error is None else el("span", f" ± {metric.error_text(error)}", class_="pm")
    return join(said(metric, value), spread)


def _tile(name: str, value: object, more: str) -> Html:
    return el("div", el("dt", name), el("dd", value, el("span", more, class_="small")))


def _line(run: Run, row: Row, dense: Row | None) -> Html:
    own = row.name == (run.final.name if run.final is not None else run.config.agent)
    name = row.name + (" (best of its policies)" if row.policies_scored > 1 else "")
    return el(
        "tr",
        el("th", name, scope="row"),
        value_cell(row.name, "accuracy", row.accuracy, with_error(run.metric, row.accuracy, row.accuracy_se)),
        value_cell(row.name, "search_accuracy", row.search_accuracy, run.metric.text(row.search_accuracy)),
        value_cell(row.name, "loss", row.loss, "–" if row.loss is None else loss_text(run.metric, row.loss)),
        value_cell(row.name, "macs", row.macs, f"{row.macs:,}"),
        el("td", f"{row.macs / dense.macs:.3f}" if dense else "–"),
        value_cell(row.name, "params", row.params, f"{row.params:,}"),
        el("td", f"{row.params / dense.params:.3f}" if dense else "–"),
        value_cell(row.name, "policies_scored", row.policies_scored, f"{row.policies_scored:,}" if row.policies_scored else "–"),
        value_cell(row.name, "score_cost", row.score_cost, "–" if row.score_cost is None else f"{row.score_cost:.2f}"),
        value_cell(row.name, "images", row.images, "–" if row.images is None else f"{row.images:,.0f}"),
        class_="own" if own else None,
    )  # fmt: skip


def _scored_line(run: Run, found: Mapping[str, Any], dense: Row | None) -> Html:
    """Return the line of a policy that was not finished: the metric as it was scored, none on the report part."""
    name, several = str(found["name"]), found["policies_scored"] > 1
    metric = run.metric
    return el(
        "tr",
        el("th", f"{name} ({'best of its policies, ' if several else ''}as scored, not finished)", scope="row"),
        el("td", "–"),
        value_cell(name, "search_accuracy", found["accuracy"], metric.text(found["accuracy"])),
        el("td", "–"),
        value_cell(name, "macs", found["macs"], f"{found['macs']:,}"),
        el("td", f"{found['macs'] / dense.macs:.3f}" if dense else "–"),
        value_cell(name, "params", found["params"], f"{found['params']:,}"),
        el("td", f"{found['params'] / dense.params:.3f}" if dense else "–"),
        value_cell(name, "policies_scored", found["policies_scored"], f"{found['policies_scored']:,}"),
        el("td", "–" if found["score_cost"] is None else f"{found['score_cost']:.2f}"),
        el("td", "–"),
    )


def tuned_name(tuned: Tuned) -> str:
    """Return what a fine-tuning is called in tables and legends."""
    result = tuned.result or {}
    kind = "from scratch" if result.get("from_scratch") or tuned.name.startswith("scratch") else "fine-tuned"
    plain = {"distilled": "distilled", "plain": "", "scratch": "", "scratch-distilled": "distilled"}
    extra = plain.get(tuned.name, tuned.name)
    return f"{kind}, {extra}" if extra else kind


def _tuned_line(metric: Metric, tuned: Tuned, dense: Row | None) -> Html:
    result = tuned.result or {}
    name = f"finetune/{tuned.name}"
    loss = result.get("loss")
    accuracy, error = result["accuracy"], result.get("accuracy_se")
    return el(
        "tr",
        el("th", f"{tuned_name(tuned)} ({plural(int(result['epochs_done']), 'epoch')})", scope="row"),
        value_cell(name, "accuracy", accuracy, with_error(metric, accuracy, error)),
        value_cell(name, "search_accuracy", result["search_accuracy"], metric.text(result["search_accuracy"])),
        value_cell(name, "loss", loss, "–" if loss is None else loss_text(metric, loss)),
        value_cell(name, "macs", result["macs"], f"{result['macs']:,}"),
        el("td", f"{result['macs'] / dense.macs:.3f}" if dense else "–"),
        value_cell(name, "params", result["params"], f"{result['params']:,}"),
        el("td", f"{result['params'] / dense.params:.3f}" if dense else "–"),
        el("td", "–"),
        el("td", "–"),
        el("td", "–"),
    )


def head(run: Run, *, level: str = "h1") -> Html:
    """Return everything down to the table."""
    budget = run.config.budget
    kicker = f"budget {budget.words} · agent {run.config.agent} · seed {run.config.seed} · {run.label}"
    title = f"{short_model(run.config.model)} on {short_data(run.config.data)}, pruned"
    return join(
        el(level, title),
        el("p", kicker, class_="kicker"),
        el("p", lead(run), class_="lead", data_finished="yes" if run.report is not None else "no"),
        tiles(run),
        verdict_box(run),
        *(
            el("p", sentence, class_="note")
            for sentence in (limit_sentences(run.report) if run.report is not None else ())
        ),
        table(run),
        timing_part(run),
    )
