"""Fine-tuning: accuracy and training loss against epochs, and what it brought."""

from __future__ import annotations

from autoprune.evaluation import Metric
from autoprune.page._headline import tuned_name
from autoprune.page._html import Html, el, join
from autoprune.page._numbers import named, plural, said, title
from autoprune.page._run import Run, Tuned
from autoprune.page._spec import Chart, Level, Point, Series
from autoprune.page._svg_chart import chart_figure

_LOOKS = ("agent", "tuned", "shallow", "deep", "other", "uniform")


def tuning_chart(run: Run, key: str, field: str = "search_accuracy") -> Chart | None:
    """Return a field of the histories against epochs, one curve per fine-tuning.

    Args:
        run: The run.
        key: Prefix of ids.
        field: "search_accuracy" or "train_loss".
    """
    metric, accuracy = run.metric, field == "search_accuracy"
    series = []
    for place, tuned in enumerate(run.tuned):
        points = tuple(
            Point(line["epoch"], (metric.scale if accuracy else 1) * line[field], _said(metric, tuned, line, field))
            for line in tuned.history
            if line.get(field) is not None
        )
        if points:
            look = _LOOKS[place % len(_LOOKS)]
            series.append(Series(tuned_name(tuned), points, look, line="straight", marks=len(points) <= 60))
    if not series:
        return None
    levels = []
    if accuracy and run.dense is not None and run.final is not None:
        levels = [
            Level("dense", metric.scale * run.dense.search_accuracy, "dense"),
            Level(f"{run.config.agent}, before fine-tuning", metric.scale * run.final.search_accuracy, "random"),
        ]
    return Chart(
        f"{key}{'tuning' if accuracy else 'loss'}",
        f"{title(metric)} while fine-tuning" if accuracy else "Training loss while fine-tuning",
        "epoch",
        named(metric, " on the search part") if accuracy else "training loss",
        tuple(series),
        tuple(levels),
        "" if accuracy else "With distillation the loss holds the teacher's part too: the kinds do not compare.",
        whole_x=True,
    )


def tuning_section(run: Run, key: str) -> Html | None:
    """Return the section, None if nothing was fine-tuned."""
    accuracy = tuning_chart(run, key)
    lines = [_sentence(run, tuned) for tuned in run.tuned]
    if accuracy is None and not lines:
        return None
    loss = tuning_chart(run, key, "train_loss")
    figures = [chart_figure(chart) for chart in (accuracy, loss) if chart is not None]
    return join(
        el("h2", "Fine-tuning"),
        el("ul", *(el("li", sentence) for sentence in lines)),
        el("div", *figures, class_="pair") if figures else None,
    )


def _sentence(run: Run, tuned: Tuned) -> str:
    name = tuned_name(tuned)
    if tuned.result is None:
        return f"{name}: not finished, {plural(len(tuned.history), 'epoch')} so far."
    result, final = tuned.result, run.final
    text = (
        f"{name}: {said(run.metric, result['accuracy'], result.get('accuracy_se'))} on the {run.part} part after "
        f"{plural(int(result['epochs_done']), 'epoch')}"
    )
    if result.get("best_epoch") is not None:
        text += f", best epoch {result['best_epoch']} by the search part"
    if final is not None and not result.get("from_scratch"):
        gained = run.metric.gain(result["accuracy"], final.accuracy)
        by = f"{run.metric.text(abs(gained))}{run.metric.difference_unit}"
        text += f"; {by} {'better' if gained >= 0 else 'worse'} than the refitted network"
    return text + "."


def _said(metric: Metric, tuned: Tuned, line: object, field: str) -> str:
    assert isinstance(line, dict)
    value = said(metric, line[field]) if field == "search_accuracy" else f"{line[field]:.4f}"
    return f"{tuned_name(tuned)}, epoch {line['epoch']}: {value}{', best so far' if line.get('best') else ''}"
