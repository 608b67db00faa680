"""``autoprune.search``: the same search from Python, for a model and data in memory."""

from __future__ import annotations

import html
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from torch import nn

from autoprune.agents import Agent
from autoprune.budget import Budget
from autoprune.data import Images, moved, name_of
from autoprune.decisions import Bounds, Ignore, network_of, restrictions_of
from autoprune.errors import UsageError
from autoprune.evaluation import DivergenceFn, Part, Run, Score
from autoprune.exporting import SUFFIXES, export_model
from autoprune.graph import build_graph, parts_and_inputs, view
from autoprune.latency import Target
from autoprune.model_guard import unchanged
from autoprune.report import Progress, metric_of, progress_of, result_figure, sentences, table, with_error
from autoprune.runs import RunFolder
from autoprune.searching._ending import CONVERGED, Ending, parse_seconds
from autoprune.searching._passed import inputs_passed
from autoprune.searching._plugins import check_plugins
from autoprune.searching._resolve import DEFAULT_BUDGET, asks_no_size, metric_asked, resolve
from autoprune.searching._session import as_found, execute, task_asked
from autoprune.support.files import write_text_atomic
from autoprune.support.strict_json import write_json_atomic
from autoprune.support.tensors import load_safetensors, save_safetensors_atomic
from autoprune.surgery import LOADER, Policy, copy_model, loader_text

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@dataclass(frozen=True, eq=False)
class SearchResult:
    """What a search found.

    Attributes:
        policy: What stays of each group, and what that achieved.
        model: The pruned, refitted network, an ordinary module of the original's class, in eval mode on the CPU.
        report: The report, as in a run folder's ``report.json``.
        loader: The text of a ``load.py``, which puts saved weights into a network of the dense one's class without autoprune.
    """

    policy: Policy
    model: nn.Module
    report: Mapping[str, Any]
    loader: str = ""

    @property
    def table(self) -> str:
        """The report as a text table, with what there is to say about it below."""
        return "\n".join([table(self.report), "", *sentences(self.report)])

    def __repr__(self) -> str:
        """Return what was found on one line, without weights."""
        final, dense, metric = self.report["final"], self.report["dense"], metric_of(self.report)
        return (
            f"<SearchResult: {final['macs'] / dense['macs']:.3f} of the MACs, {final['params'] / dense['params']:.3f} of the "
            f"parameters, {metric.name} {with_error(final, metric)}{metric.unit} (dense {metric.text(dense['accuracy'])}), "
            f"{final['name']}'s policy>"
        )

    def _repr_html_(self) -> str:
        """Return the table for a notebook."""
        return f"<pre>{html.escape(self.table)}</pre>"

    def plot(self) -> Figure:
        """Return a figure of what the finished networks reach and of what stays of each group; ``.savefig(path)`` writes it.

        Raises:
            UsageError: if matplotlib is not installed.
        """
        return result_figure(self.report)

    def export(self, path: str | Path, example_input: Any) -> None:
        """Write the small network to a file that other tools read, as its suffix says: ``.onnx``, ``.pt2`` or ``.safetensors``.

        Args:
            path: The file.
            example_input: A batch of at least two items, as for `search`.

        Raises:
            UsageError: for another suffix, or where what ONNX needs is not installed.
            AutopruneError: if the network cannot be exported.
        """
        suffix = Path(path).suffix
        formats = {ending: name for name, ending in SUFFIXES.items()}
        if suffix not in formats:
            raise UsageError(f"The file '{path}' must end in {', '.join(formats)}, which says its format.")
        export_model(self.model, example_input, Path(path), format=formats[suffix])

    def save(self, folder: str | Path) -> None:
        """Write ``policy.json``, ``model.safetensors``, ``load.py`` and ``report.json`` into a folder, which is made if need be.

        Raises:
            AutopruneError: if it cannot be written.
        """
        path = Path(folder)
        save_safetensors_atomic(path / "model.safetensors", self.model.state_dict())
        self.policy.save(path / "policy.json")
        write_text_atomic(path / LOADER, self.loader)
        write_json_atomic(path / "report.json", self.report)


def search(
    model: nn.Module,
    example_input: Any,
    *,
    calibration: Images,
    evaluate: Part,
    report: Part | None = None,
    budget: float | str | Budget | None = None,
    budget_mode: Literal["exact", "at-most"] | None = None,
    max_drop: float | None = None,
    pareto: bool | None = None,
    minimize: str | None = None,
    preset: str | None = None,
    agent: str | type[Agent] | None = None,
    agent_options: Mapping[str, Any] | None = None,
    episodes: int | None = None,
    reward: str | Callable[[Score, Score, Budget], float] | None = None,
    labels: bool | None = None,
    maximize: str | None = None,
    minimize_metric: str | None = None,
    divergence: str | DivergenceFn | None = None,
    run: str | Run | None = None,
    select: str | None = None,
    score: Literal["sequential", "cached"] | None = None,
    race: bool | None = None,
    baselines: str | Sequence[str] | None = None,
    finish_policies: int | None = None,
    most_tried: int | None = None,
    finish_steps: int | Literal["fast", "normal", "best"] | None = None,
    include_residual: bool | None = None,
    decide: Sequence[str] | None = None,
    part: str | Sequence[str] | None = None,
    ignore: Ignore | None = None,
    bounds: Bounds | None = None,
    min_keep: float | None = None,
    round_to: int | None = None,
    batch_size: int | None = None,
    device: str | None = None,
    seed: int | None = None,
    target: Target | None = None,
    profile: str | Path | None = None,
    out: str | Path | None = None,
    workers: int = 1,
    timeout: float | str | None = None,
    max_passes: float | None = None,
    patience: int | Literal["converged"] | None = CONVERGED,
    row: str | None = None,
    accept_dense: bool = False,
    progress: Progress | bool | None = None,
) -> SearchResult:
    """Search for the best pruned network within a budget, and compare it with the simple rules.

    What is None is as in the run in ``out``, or the default of `autoprune.runs.RunConfig`: the command line's options of the same
    names lead to the same search.

    Args:
        model: The trained network. It is not changed.
        example_input: One batch of at least two items: a tensor, images (B, C, H, W) for instance, or what else it takes.
            A tuple is passed by position, a dict by name if the forward has parameters of these names. With ``run`` its batch.
        calibration: Images for statistics, best from the training set: a tensor (N, C, H, W), a data set or a loader.
            Labels are not used.
        evaluate: What policies are scored on: labelled images as a data set or loader, or a function that takes a model
            and returns ``{"accuracy": ..., "loss": ...}`` or other numbers, of which ``maximize`` or ``minimize_metric`` names
            one. Images alone will do: networks are then compared with the dense network's own outputs.
        report: The same, for images the search must not see; the table's accuracy is measured on them. Without it, that
            accuracy is the one the search maximised, and flatters.
        budget: Share of the MACs that may stay, in (0, 1], or a budget: "macs=0.5,size=4MB", `Budget`. Half of them where nothing
            says how small the network must get.
        budget_mode: "exact": every policy uses all of the budget to within one rounding step. "at-most": may be smaller.
        max_drop: Instead of a budget: find the smallest network that loses at most so many points of accuracy.
        pareto: Instead: find a whole front of accuracy against cost.
        minimize: The cost that ``max_drop`` and ``pareto`` make small; "macs" where it is not said.
        preset: "amc": agent, budget, selection and score as He et al. (ECCV 2018) published them, where nothing else is said.
        agent: Who proposes policies: a name, "package.module:Class", or a class; None for the best for this budget and reward.
        agent_options: The agent's own options.
        episodes: How many policies the agent may propose.
        reward: What is maximised: a name, "package.module:function", or a function of (score, dense score, budget); None for
            "accuracy", without labels "divergence", or "smallest" where the budget is a drop of accuracy.
        labels: Whether labels are read; by default where the images of ``evaluate`` have some. Without them networks are
            measured by how their outputs differ from the dense network's: the agreement of class scores, else the divergence.
        maximize: What is measured, where more is better: "psnr", "ssim", "miou", "dice" against the targets of ``evaluate``, or
            a number of those that it returns as a function.
        minimize_metric: Instead, where less is better: "mae", "rmse", or such a number.
        divergence: How outputs are compared with the dense network's (`autoprune.evaluation.divergences`): a name for all
            tensors, or one for each with commas between, or a function; by default "kl" for class scores (N, classes), else
            "relative".
        run: Runs the network on a batch, ``run(model, batch)``, where the batch's form does not say how; gets what a loader
            yields.
        select: How the channels of a policy are chosen.
        score: How policies are scored during the search.
        race: Whether scoring stops, after a part of the images, at policies that are clearly worse than the best simple rule.
        baselines: What is scored beside the agent: "none", "rules" (the default), "all" (random search with as many policies
            too), or names.
        finish_policies: How many of the best policies are finished at most to choose the result of, whoever proposed them.
        most_tried: How many are finished at most until one is within the drop of accuracy, and measured to be fast enough.
        finish_steps: Steps of gradient descent of a finished network, on calibration images without labels, or "fast" (the
            closed form alone, 0), "normal" (320, the default), "best" (1,600; about four times the passes).
        include_residual: Whether groups that cross a residual join are decided too.
        decide: Kinds of decisions: "channels" alone by default; others are registered (`autoprune.decisions`).
        part: Path of a submodule that alone is pruned ("backbone"), or several, on what it gets while the whole network runs.
            What surrounds it need not be traceable; scores are the whole network's, MACs and parameters the part's.
        ignore: Modules whose channels all stay: patterns over their paths ("head.*"), modules, or a predicate of (path, module).
        bounds: The share of the channels that stays of others: by pattern a number, or the least and the most,
            ``{"layer4.*": (0.5, 1.0)}``; or a function of (path, module) that returns one of these, or None.
        min_keep: The least share of a group's channels that stays.
        round_to: Kept counts are multiples of this; by default 1, or what is fast on the target where the budget limits latency.
        batch_size: Images at a time.
        device: Torch device.
        seed: The one seed of the run.
        target: What will run the network, where the budget limits latency or memory; by default PyTorch, one image at a time.
        profile: File of times measured on this target before, which need not be measured again.
        out: Run folder; an unfinished run there is continued, a finished one returned. None keeps nothing on disk.
        workers: Processes that score policies at the same time, with one thread each; what is found does not depend on it.
        timeout: Seconds (or "10m") after which the search ends with the best so far; with ``out`` more time goes on with it.
        max_passes: Passes of the dense network over the search images, for preparing and scores, after which it ends likewise.
        patience: Policies without a better one after which it ends; "converged": once the agent expects none that is better by
            more than the noise; None: after all ``episodes``.
        row: The agent or rule whose best network is to be the result; by default the best of all.
        accept_dense: Search even if the dense network's accuracy is no better than chance, which stops a search before it begins:
            wrong preprocessing or labels are the usual cause.
        progress: Receives what happens. True shows a bar on stderr, False nothing; by default there is a bar on a terminal and in
            a notebook.

    Raises:
        UsageError: if what is asked cannot be done; says why.
        AutopruneError: if something fails while it runs.
    """
    started = time.monotonic()
    if not isinstance(model, nn.Module):
        raise UsageError(f"The model is a {type(model).__name__}, but must be a torch.nn.Module.")
    restrictions = restrictions_of(model, ignore, bounds)
    seconds = parse_seconds(timeout) if isinstance(timeout, str) else timeout
    ending = Ending(timeout_s=seconds, max_passes=max_passes, patience=patience, row=row)
    asked = {
        "model": name_of(type(model)),
        "data": "python",
        "budget": budget,
        "budget_mode": budget_mode,
        "max_drop": max_drop,
        "pareto": pareto,
        "minimize": minimize,
        "preset": preset,
        "agent": agent if agent is None or isinstance(agent, str) else name_of(agent),
        "agent_options": None if agent_options is None else dict(agent_options),
        "episodes": episodes,
        "reward": reward if reward is None or isinstance(reward, str) else name_of(reward),
        "labels": labels,
        **metric_asked(maximize, minimize_metric),
        "divergence": divergence if divergence is None or isinstance(divergence, str) else name_of(divergence),
        "run": run if run is None or isinstance(run, str) else name_of(run),
        "select": select,
        "score": score,
        "race": race,
        "baselines": baselines if baselines is None or isinstance(baselines, str) else tuple(baselines),
        "finish_policies": finish_policies,
        "most_tried": most_tried,
        "finish_steps": finish_steps,
        "include_residual": include_residual,
        "decide": None if decide is None else tuple(decide),
        "part": None if part is None else (part,) if isinstance(part, str) else tuple(part),
        "ignore": None if ignore is None else restrictions.ignore,
        "bounds": None if bounds is None else dict(restrictions.bounds),
        "min_keep": min_keep,
        "round_to": round_to,
        "batch_size": batch_size,
        "device": device,
        "seed": seed,
        "target": None if target is None else target.to_dict(),
        "profile": None if profile is None else str(profile),
    }
    stored = RunFolder(Path(out)).read_config() if out is not None and RunFolder(Path(out)).exists else None
    if asks_no_size(asked, stored):
        asked["budget"] = DEFAULT_BUDGET
    config = resolve(asked, stored)
    check_plugins(config, agent=agent, reward=reward, divergence=divergence)
    with unchanged(model):
        function = None if isinstance(reward, str) else reward
        task = task_asked({**asked, "divergence": divergence, "run": run}, stored)
        inputs = inputs_passed(model, example_input, (calibration, evaluate, report), config=config, task=task)
        inputs = replace(inputs, reward=function)
        config = as_found(config, inputs, asked)
        where = tempfile.TemporaryDirectory() if out is None else nullcontext(str(out))
        with progress_of(progress) as events, where as path:
            folder = RunFolder(Path(path))
            execute(
                config,
                inputs,
                folder,
                progress=events,
                started=started,
                agent=agent,
                workers=workers,
                ending=ending,
                accept_dense=accept_dense,
            )
            policy = Policy.load(folder.policy_path)
            state = load_safetensors(folder.model_path)
            found = folder.read_report()
        dense = copy_model(model).to(config.device)
        example = moved(example_input, config.device)
        traced, given = parts_and_inputs(dense, example, config.part, task.run)
        graph = build_graph(traced, given)
        small = network_of(dense, graph, policy, state).cpu().eval()
        loader = loader_text(dense, small, graph, view(small, config.part), given.to("cpu"))
    return SearchResult(policy=policy, model=small, report=found, loader=loader)
