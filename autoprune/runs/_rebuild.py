"""A pruned network from what is on disk: its constructor, its policy and, if there are any, its weights."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from autoprune.decisions import network_of
from autoprune.errors import UsageError
from autoprune.graph import PruningGraph, build_graph, parts_and_inputs, view
from autoprune.model_guard import as_inputs, from_description
from autoprune.models import LoadedModel, load_model
from autoprune.registry import only_named_by
from autoprune.runs._run import RunFolder
from autoprune.support.tensors import load_safetensors
from autoprune.surgery import Policy, loader_text


@dataclass(frozen=True, eq=False)
class Rebuilt:
    """A pruned network.

    Attributes:
        model: The small network, in eval mode.
        policy: The policy that made it.
        example_input: One batch of two for it, shape (2, C, H, W), or of several inputs; None where only a part is pruned and what
            the whole network takes is not known.
        loaded: The dense network and its preprocessing.
        graph: The dense network's coupling graph.
    """

    model: nn.Module
    policy: Policy
    example_input: Any
    loaded: LoadedModel
    graph: PruningGraph

    @property
    def nested(self) -> bool:
        """Whether the network is called with anything but one tensor, or by a function of the user's."""
        return not part_of(self.policy) and "inputs" in self.policy.model

    def noise(self, count: int) -> Any:
        """Return so many random inputs, noise of floating-point numbers and zeros of whole ones."""
        return from_description(self.policy.model["inputs"], count) if self.nested else self.loaded.example_input(count, seed=1)

    @property
    def loader(self) -> str:
        """The text of a ``load.py``, see `autoprune.surgery.loader_text`."""
        inputs = None if part_of(self.policy) else as_inputs(self.example_input, self.model)
        return loader_text(self.loaded.model, self.model, self.graph, inputs=inputs)


@only_named_by("model")
def load_dense(spec: Mapping[str, Any], *, model: str | None = None, weights: str | None = None) -> LoadedModel:
    """Make the dense network that a policy's ``model`` entry names.

    Args:
        spec: The entry: ``name``, ``weights`` (only their preprocessing counts), ``input_shape``, ``num_classes``.
        model: Another specification to make it by, for networks passed from Python.
        weights: Dense weights; None for the constructor's own.

    Raises:
        UsageError: if there is no such model, or the entry names none.
    """
    name = model if model is not None else spec.get("name")
    if not isinstance(name, str) or (model is None and not spec.get("buildable", True)):
        raise UsageError(
            f"The policy's model ({name}) was passed from Python and cannot be made by name; "
            "give --model package.module:factory or path/to/file.py:factory."
        )
    return load_model(
        name,
        weights=weights,
        num_classes=spec.get("num_classes"),
        input_size=spec.get("input_shape") or None,
        preprocessing=spec.get("weights") if model is None else None,
    )


def rebuild(policy: Policy, state: Mapping[str, Tensor] | None, dense: LoadedModel) -> Rebuilt:
    """Apply a policy to a dense network.

    Args:
        policy: What stays.
        state: The small network's state dict; None keeps the dense network's weights as they are (slices only).
        dense: The dense network.

    Raises:
        UsageError: if the three do not belong together.
    """
    graph = graph_of(policy, dense)
    small = network_of(dense.model, graph, policy, state)
    return Rebuilt(small.eval(), policy, example_of(policy, dense), dense, graph)


def example_of(policy: Policy, dense: LoadedModel) -> Any:
    """Return a batch of two that the whole network takes; None where only a part is pruned and nothing tells it."""
    if policy.model.get("inputs") is not None and not part_of(policy):
        return from_description(policy.model["inputs"])
    return dense.example_input() if dense.input_shape or not part_of(policy) else None


def graph_of(policy: Policy, dense: LoadedModel) -> PruningGraph:
    """Return the coupling graph that a policy is about: of the dense network, or of the parts of it that were pruned.

    Raises:
        UsageError: if what the network was called with is not told, or damaged.
    """
    part = part_of(policy)
    if "inputs" not in policy.model:
        return build_graph(*parts_and_inputs(dense.model, dense.example_input(), part))
    if policy.model["inputs"] is None:
        raise UsageError(
            "What this network is called with holds things that files do not tell (others than tensors in lists, tuples and "
            "dicts), so it cannot be traced again; use autoprune.proved_graph and autoprune.load_pruned from Python."
        )
    traced = view(dense.model, part, _paths(policy, "outside"))
    return build_graph(traced, from_description(policy.model["inputs"]))


def part_of(policy: Policy) -> tuple[str, ...]:
    """Return the paths of the parts that a policy prunes; none for all of the network.

    Raises:
        UsageError: if they are no paths.
    """
    return _paths(policy, "part")


def _paths(policy: Policy, key: str) -> tuple[str, ...]:
    paths = policy.model.get(key, [])
    if not isinstance(paths, list) or not all(isinstance(path, str) for path in paths):
        raise UsageError(f"The policy's '{key}' is {paths!r:.60}, but must be a list of paths of modules.")
    return tuple(paths)


def finished_policy(folder: RunFolder) -> Policy:
    """Return the policy of a finished run, or of a folder that ``prune`` or ``SearchResult.save`` wrote.

    Raises:
        UsageError: if there is no finished run, or the policy is damaged.
    """
    if folder.exists or not folder.policy_path.is_file():
        folder.require().read_report()
    return Policy.load(folder.policy_path)


@only_named_by("model")
def rebuild_run(folder: RunFolder, *, model: str | None = None, weights: Path | None = None) -> Rebuilt:
    """Rebuild the network of a finished run, or of a folder that ``prune`` or ``SearchResult.save`` wrote.

    Args:
        folder: The folder, with ``policy.json`` and ``model.safetensors`` in it.
        model: Specification of the dense network, for one that was passed from Python.
        weights: Other weights of the small network, of a fine-tuning; None for the folder's own.

    Raises:
        UsageError: if there is no finished run, or the model cannot be made.
    """
    policy = finished_policy(folder)
    state = load_safetensors(folder.model_path if weights is None else weights)
    return rebuild(policy, state, load_dense(policy.model, model=model))


def weights_beside(policy_path: Path) -> Path | None:
    """Return the weights file that lies beside a policy file, or None."""
    candidates = (policy_path.with_suffix(".safetensors"), policy_path.parent / "model.safetensors")
    return next((path for path in candidates if path.is_file()), None)
