"""What ``autoprune prune`` does: a policy file and a dense network in, the small network out."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from torch import nn

from autoprune.budget import Budget
from autoprune.cost import CostModel
from autoprune.data import Preparation
from autoprune.decisions import decisions_of, kinds_of
from autoprune.errors import UsageError
from autoprune.graph import PruningGraph
from autoprune.models import LoadedModel, untrained
from autoprune.problem import make_problem
from autoprune.registry import only_named_by
from autoprune.runs import (
    Inputs,
    RunFolder,
    check_device,
    inputs_for,
    load_dense,
    part_of,
    rebuild,
    task_of,
    weights_beside,
)
from autoprune.support.files import write_text_atomic
from autoprune.support.tensors import load_safetensors, save_safetensors_atomic
from autoprune.surgery import LOADER, Policy


@dataclass(frozen=True, eq=False)
class Applied:
    """A policy's network.

    Attributes:
        model: The small network.
        policy: The policy.
        weights: Where its weights are from, in words.
        macs: Multiply-adds of one image.
        params: Number of parameters.
        dense_macs: The same of the dense network.
        dense_params: The same of the dense network.
        loader: The text of ``load.py``.
        notes: What the user should know.
    """

    model: nn.Module
    policy: Policy
    weights: str
    macs: int
    params: int
    dense_macs: int
    dense_params: int
    loader: str
    notes: tuple[str, ...] = ()

    def save(self, folder: Path) -> None:
        """Write ``policy.json``, ``model.safetensors`` and ``load.py`` into a folder.

        Raises:
            AutopruneError: if it cannot be written.
        """
        save_safetensors_atomic(folder / "model.safetensors", self.model.state_dict())
        self.policy.save(folder / "policy.json")
        write_text_atomic(folder / LOADER, self.loader)


@only_named_by("model", "data", "run")
def apply_policy(
    path: Path,
    *,
    model: str | None,
    weights: str | None,
    data: str | None,
    refit: bool,
    mean: tuple[float, ...] = (),
    std: tuple[float, ...] = (),
    download: bool = False,
    device: str = "cpu",
    preparation: Preparation | None = None,
    run: str | None = None,
) -> Applied:
    """Rebuild the small network that a policy file describes.

    Args:
        path: The policy file.
        model: Specification of the dense network; None for the policy's.
        weights: Dense weights; None for the model's own.
        data: Images to refit on, if no refitted weights lie beside the policy.
        refit: Whether weights are refitted at all; if not, the dense ones are sliced.
        mean: Preprocessing of the data; empty for the model's.
        std: Preprocessing of the data; empty for the model's.
        download: Whether the data may be downloaded.
        device: Torch device of the refit.
        preparation: What is done to the pictures of an image folder; None for what is usual.
        run: Runs the network on a batch of the data, ``package.module:function`` or ``file.py:function``; None for the function
            of the run that the policy lies in, if it has one.

    Raises:
        UsageError: if something is missing or does not belong together.
    """
    folder = RunFolder(path.parent)
    if folder.exists and folder.finished:
        folder.read_report()  # the run says which policy and weights are its own
    policy = Policy.load(path)
    beside = weights_beside(path)
    if refit and beside is None and data is None:
        raise UsageError(
            f"There are no refitted weights beside '{path}'; give --data to refit them, or --no-refit to slice only."
        )
    dense = load_dense(policy.model, model=model, weights=weights)
    if refit and beside is not None:
        rebuilt = rebuild(policy, load_safetensors(beside), dense)
        return _applied(
            rebuilt.model, policy, rebuilt.graph, dense.model, f"refitted weights from {beside}", rebuilt.loader
        )
    if not refit:
        rebuilt = rebuild(policy, None, dense)
        origin = f"sliced from {weights or dense.spec}, not refitted"
        applied = _applied(rebuilt.model, policy, rebuilt.graph, dense.model, origin, rebuilt.loader)
    else:
        assert data is not None
        check_device(device)
        config = folder.read_config() if folder.exists else None
        task = task_of(config, run)
        if config is None and (run is not None or "inputs" in policy.model):
            task = replace(task, labels=False)  # they are no class numbers, and nothing is measured
        options: dict[str, Any] = {"mean": mean, "std": std, "download": download, "preparation": preparation}
        inputs = inputs_for(dense, data, weights=weights, task=task, **options)
        applied = _refitted(policy, dense, data, inputs, device=device)
    if untrained(dense.spec, weights):
        note = f"No --weights given: {dense.spec} has random weights, and so has the network made from it"
        applied = replace(applied, notes=(note,))
    return applied


def _refitted(policy: Policy, dense: LoadedModel, data: str, inputs: Inputs, *, device: str) -> Applied:
    rebuild(policy, None, dense)  # says what does not belong together before anything is computed
    problem = make_problem(
        inputs.model,
        inputs.example_input,
        calibration=inputs.calibration,
        evaluate=inputs.search,
        budget=Budget(1.0, "at-most"),
        include_residual=True,
        decide=kinds_of(policy),
        part=part_of(policy),
        task=inputs.task,
        device=device,
        seed=policy.seed or 0,  # the calibration images of the search
    )
    finished = problem.finish_kept(policy.kept())
    loader = problem.loader(finished.model)
    return _applied(finished.model, policy, problem.graph, problem.model, f"refitted on {data}", loader)


def _applied(
    small: nn.Module, policy: Policy, graph: PruningGraph, dense: nn.Module, weights: str, loader: str
) -> Applied:
    cost = CostModel(graph, decisions_of(policy, dense, graph))
    counts = policy.counts()
    return Applied(
        loader=loader,
        model=small.cpu(),
        policy=policy,
        weights=weights,
        macs=cost.macs(counts),
        params=cost.params(counts),
        dense_macs=cost.dense_macs,
        dense_params=cost.dense_params,
    )
