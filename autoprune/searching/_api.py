"""``autoprune.search``: the same search from Python, for a model and data in memory."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn

from autoprune.agents import Agent
from autoprune.budget import Budget
from autoprune.data import CALIBRATION, UNLABELLED, Adapted, Expected, Held, Images, Items, adapt, is_function
from autoprune.decisions import Bounds, Ignore, network_of, restrictions_of
from autoprune.errors import UsageError
from autoprune.evaluation import DivergenceFn, Evaluate, Part, Score, Task
from autoprune.graph import build_graph, parts_and_inputs
from autoprune.latency import Target
from autoprune.model_guard import check_example, unchanged
from autoprune.models import check_finite
from autoprune.report import Progress, sentences, table
from autoprune.runs import Inputs, RunFolder, check_device, check_run, classes_of
from autoprune.searching._resolve import DEFAULT_BUDGET, asks_no_size, metric_asked, resolve
from autoprune.searching._session import as_found, check_plugins, execute, task_asked
from autoprune.support.files import write_text_atomic
from autoprune.support.fingerprint import fingerprint
from autoprune.support.strict_json import write_json_atomic
from autoprune.support.tensors import load_safetensors, save_safetensors_atomic
from autoprune.surgery import LOADER, Policy, copy_model, loader_text

_SAMPLE = 64  # images of a data set that go into its fingerprint


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
    example_input: Tensor,
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
    select: str | None = None,
    score: Literal["sequential", "cached"] | None = None,
    race: bool | None = None,
    baselines: Sequence[str] | None = None,
    finish_policies: int | None = None,
    most_tried: int | None = None,
    finish_steps: int | None = None,
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
    progress: Progress | None = None,
) -> SearchResult:
    """Search for the best pruned network within a budget, and compare it with the simple rules.

    What is None is as in the run in ``out``, or the default of `autoprune.runs.RunConfig`: the command line's options of the same
    names lead to the same search.

    Args:
        model: The trained network; images (B, C, H, W) in, logits (B, classes) out. It is not changed.
        example_input: One batch of at least two images, shape (B, C, H, W).
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
        maximize: The number to maximise of those that a function ``evaluate`` returns.
        minimize_metric: Instead: the number to minimise.
        divergence: How outputs are compared with the dense network's (`autoprune.evaluation.divergences`): a name for all
            tensors, or one for each with commas between, or a function; by default "kl" for class scores (N, classes), else
            "relative".
        select: How the channels of a policy are chosen.
        score: How policies are scored during the search.
        race: Whether scoring stops, after a part of the images, at policies that are clearly worse than the best simple rule.
        baselines: The simple rules (and "random") that are scored too.
        finish_policies: How many of each agent's best policies are finished, since scores are on fewer images than results.
        most_tried: How many are finished at most until one is within the drop of accuracy, and measured to be fast enough.
        finish_steps: Steps of gradient descent for each block of a finished network, on calibration images without labels; 0 for
            the closed form alone.
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
        progress: Receives what happens.

    Raises:
        UsageError: if what is asked cannot be done; says why.
        AutopruneError: if something fails while it runs.
    """
    started = time.monotonic()
    if not isinstance(model, nn.Module):
        raise UsageError(f"The model is a {type(model).__name__}, but must be a torch.nn.Module.")
    restrictions = restrictions_of(model, ignore, bounds)
    asked = {
        "model": _name(type(model)),
        "data": "python",
        "budget": budget,
        "budget_mode": budget_mode,
        "max_drop": max_drop,
        "pareto": pareto,
        "minimize": minimize,
        "preset": preset,
        "agent": agent if agent is None or isinstance(agent, str) else _name(agent),
        "agent_options": None if agent_options is None else dict(agent_options),
        "episodes": episodes,
        "reward": reward if reward is None or isinstance(reward, str) else _name(reward),
        "labels": labels,
        **metric_asked(maximize, minimize_metric),
        "divergence": divergence if divergence is None or isinstance(divergence, str) else _name(divergence),
        "select": select,
        "score": score,
        "race": race,
        "baselines": None if baselines is None else tuple(baselines),
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
        task = task_asked({**asked, "divergence": divergence}, stored)
        inputs = _inputs(
            model, example_input, calibration, evaluate, report, reward=function, device=config.device, task=task
        )
        config = as_found(config, inputs, asked)
        with tempfile.TemporaryDirectory() if out is None else nullcontext(str(out)) as path:
            folder = RunFolder(Path(path))
            execute(
                config,
                inputs,
                folder,
                progress=progress or Progress(),
                started=started,
                agent=agent,
                workers=workers,
            )
            policy = Policy.load(folder.policy_path)
            state = load_safetensors(folder.model_path)
            found = folder.read_report()
        dense = copy_model(model).to(config.device)
        graph = build_graph(*parts_and_inputs(dense, example_input.to(config.device), config.part))
        small = network_of(dense, graph, policy, state).cpu().eval()
        loader = loader_text(dense, small, graph)
    return SearchResult(policy=policy, model=small, report=found, loader=loader)


def _inputs(
    model: nn.Module,
    example_input: Tensor,
    calibration: Images,
    evaluate: Part,
    report: Part | None,
    *,
    reward: Callable[..., float] | None,
    device: str,
    task: Task,
) -> Inputs:
    """Check what was passed and put it together."""
    check_device(device)
    check_example(example_input)
    if example_input.ndim < 2 or len(example_input) < 2:
        raise UsageError("The example_input must be a tensor with a batch of at least two images, shape (B, C, H, W).")
    check_finite(model.state_dict(), weights="of the model")
    outputs = check_run(model, example_input)
    if is_function(evaluate):
        task, _ = task.seen_in(evaluate)
    else:
        task, evaluate = task.suited(outputs).seen_in(evaluate)
        task = task.completed(outputs)
    classes = classes_of(outputs)
    expected = Expected(tuple(example_input.shape[1:]), example_input.dtype, classes)
    images = adapt(calibration, "calibration", expected, labelled=False if task.labels else None, most=CALIBRATION)
    search, held_out = (
        _adapted(part, name, expected, task) for part, name in ((evaluate, "evaluate"), (report, "report"))
    )
    assert search is not None
    return Inputs(
        model=model,
        example_input=example_input,
        calibration=images,
        search=search,
        report=held_out,
        model_spec={
            "name": _name(type(model)),
            "input_shape": list(example_input.shape[1:]),
            "num_classes": classes,
            "buildable": False,
        },
        reward=reward,
        recorded={
            "model_fingerprint": fingerprint((k, v) for k, v in model.state_dict().items() if isinstance(v, Tensor)),
            "data_fingerprint": _fingerprint_parts(images, search, held_out),
            "input_shape": tuple(example_input.shape[1:]),
            **task.recorded,
        },
        task=task,
    )


def _adapted(part: Any, name: str, expected: Expected, task: Task) -> Adapted | Evaluate | None:
    """Return images as they are understood, the user's own function, or None for neither."""
    if part is None and name == "report":
        return None
    if is_function(part):
        function: Evaluate = part
        return function
    return adapt(part, name, expected, labelled=True if task.labels else None)


def _fingerprint_parts(*parts: Any) -> str:
    """Return a fingerprint of some images and labels of each part, and of its length; a function counts by its name."""
    named: list[tuple[str, Tensor]] = []
    for number, part in enumerate(parts):
        if part is None or is_function(part):
            named.append((f"{number} {'none' if part is None else _name(part)}", torch.zeros(0)))
        elif isinstance(part, Held):
            named += [(f"{number} {place}", tensor) for place, tensor in enumerate(part.tensors)]
        elif isinstance(part, Items):
            size = len(part)
            chosen = torch.linspace(0, size - 1, min(size, _SAMPLE)).long().tolist()
            images, labels = zip(*(part[index] for index in chosen), strict=True)
            named.append((f"{number} {size}", torch.stack(images)))
            named += [(f"{number} label", torch.as_tensor(label)) for label in labels if label != UNLABELLED]
        else:
            images, labels = part.first(_SAMPLE)
            named += [(f"{number} {part.size}", images), (f"{number} labels", labels)]
    return fingerprint(named)


def _name(thing: Any) -> str:
    """Return ``package.module:name`` of a class or function."""
    while isinstance(thing, partial):
        thing = thing.func
    if not hasattr(thing, "__qualname__"):
        thing = type(thing)
    return f"{thing.__module__}:{thing.__qualname__}"
