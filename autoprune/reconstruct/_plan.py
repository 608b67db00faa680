"""The order in which a model's exported graph is run so that every layer can be refitted when it is reached.

A layer whose output goes through BatchNorm and into an addition (the end of a residual branch) can correct what pruning did to
the *whole* sum, if the other summand is computed before it. Such layers are therefore run right before their addition.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import cached_property, partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.fx import Node

from autoprune.graph import Executor, concrete, free_after, input_nodes, output_nodes, output_tensors
from autoprune.groups import Layer, PruningGraph
from autoprune.model_guard import ModelInputs, as_inputs
from autoprune.reconstruct._cuts import cut
from autoprune.reconstruct._steps import Affine, Block, Call, Step, made, used
from autoprune.surgery import fast_layout

_aten = torch.ops.aten
_ADDS = (_aten.add.Tensor, _aten.add_.Tensor)
_NORMS = (_aten.batch_norm.default,)
_REFITTABLE = (_aten.conv1d.default, _aten.conv2d.default, _aten.conv3d.default, _aten.linear.default)
_RESHAPES = {_aten.view.default: _aten.reshape.default}
_POINTWISE = ("relu", "relu6", "hardtanh", "leaky_relu", "elu", "silu", "gelu", "hardswish", "dropout", "clone")
_VIEWS = (
    "view",
    "slice",
    "select",
    "permute",
    "transpose",
    "expand",
    "squeeze",
    "unsqueeze",
    "chunk",
    "split",
    "getitem",
    "detach",
    "alias",
)


Dense = Callable[[Tensor], Tensor]
Visit = Callable[[Affine, Tensor, Tensor | None, Dense], Tensor]


class Plan(Executor):
    """The steps of one forward pass: layers with their BatchNorms, in the order in which they can be refitted.

    Args:
        graph: The coupling graph; its program is run, nothing is traced again.
        model: The dense model, whose parameters and buffers are read at every pass.
    """

    def __init__(self, graph: PruningGraph, model: nn.Module) -> None:
        super().__init__(graph.program)
        self.graph = graph
        signature = graph.program.graph_signature
        self.tensor_names: dict[str, str] = {**signature.inputs_to_parameters, **signature.inputs_to_buffers}
        self._constants: dict[str, str] = dict(signature.inputs_to_lifted_tensor_constants)
        self._held = self.tensor_names.keys() | self._constants.keys()
        self._state: dict[str, Tensor] = {
            **dict(model.named_parameters(remove_duplicate=False)),
            **dict(model.named_buffers(remove_duplicate=False)),
        }
        nodes = [node for node in self.nodes if node.op != "output"]
        self.reorders = not any(_mutates_view(node) for node in nodes)
        self.steps = self._order(nodes)
        self.sources = input_nodes(graph.program)
        self.outputs = output_nodes(graph.program)
        self._free_after_step = [
            [node for node in free if node not in self.outputs and node.op != "placeholder"]
            for free in free_after(self.steps, used)
        ]
        self._shapes = [node for node in nodes if isinstance(node.meta.get("val"), torch.SymInt)]
        self._sizes: dict[int, dict[Node, int]] = {}  # by the number of images

    def tensor(self, node: Node) -> Tensor:
        """Return the dense model's parameter, buffer or constant behind a placeholder."""
        if node.name in self.tensor_names:
            return self._state[self.tensor_names[node.name]]
        constant: Tensor = self.graph.program.constants[self._constants[node.name]]
        return constant

    def tensor_by_name(self, name: str) -> Tensor:
        """Return the dense model's parameter or buffer called ``name``."""
        return self._state[name].detach()

    @property
    def tensors(self) -> Mapping[str, Tensor]:
        """The dense model's parameters and buffers by name."""
        return self._state

    def _order(self, nodes: list[Node]) -> list[Step]:
        by_name = {layer.node: layer for layer in self.graph.layers}
        weights = [layer.weight for layer in self.graph.layers]
        depth: dict[Node, int] = {}
        affine: dict[Node, Affine] = {}
        for node in nodes:
            before = max((depth.get(source, 0) for source in node.all_input_nodes), default=0)
            depth[node] = before + (node.name in by_name)
            if node.name in by_name:
                affine[node] = self._affine(node, by_name[node.name], weights)
        deferred: dict[Node, Node] = {}  # addition -> layer node run right before it
        for node, step in affine.items():
            if step.total is not None and self.reorders:
                other = deferred.get(step.total)
                if other is None or depth[node] >= depth[other]:
                    deferred[step.total] = node
        late = set(deferred.values())
        steps: list[Step] = []
        skip = {step.norm for step in affine.values() if step.norm is not None}
        for node in nodes:
            if node in deferred:
                steps.append(affine[deferred[node]])
            if node.op == "placeholder" or node in skip or node in late:
                continue
            if node in affine:
                own = affine[node]
                saturation = own.saturation if own.total is None else None
                steps.append(replace(own, other=None, total=None, saturation=saturation))
            else:
                steps.append(Call(node))
        return steps

    def _affine(self, node: Node, layer: Layer, weights: list[str]) -> Affine:
        source, weight = node.args[:2]
        assert isinstance(source, Node)
        norm = _sole_user(node) if layer.norm is not None else None
        if norm is not None and norm.target not in _NORMS:
            norm = None
        result = norm or node
        refit = (
            node.target in _REFITTABLE
            and isinstance(weight, Node)
            and weight.name in self.tensor_names
            and weights.count(layer.weight) == 1
            and len(weight.users) == 1  # a table may be it, too
        )
        total = _sole_user(result)
        if refit and total is not None and total.target in _ADDS and not total.kwargs and len(total.args) == 2:
            other = total.args[1] if total.args[0] is result else total.args[0]
            if isinstance(other, Node) and other.op != "placeholder" and _shape(other) == _shape(result):
                return Affine(layer, node, source, result, norm, other, total, refit, _rectifier(_sole_user(total)))
        return Affine(layer, node, source, result, norm, None, None, refit, _rectifier(total))

    @torch.no_grad()
    def run(self, inputs: Tensor | ModelInputs, affine: Visit) -> Tensor:
        """Run all steps without gradients, and return the first output; see `answer`."""
        return self.answer(inputs, affine)[0]

    def answer(self, inputs: Tensor | ModelInputs, affine: Visit) -> tuple[Tensor, ...]:
        """Run all steps, with gradients where they are enabled.

        Args:
            inputs: A batch of N: a tensor of shape (N, ...), or several.
            affine: Called for every layer as ``affine(step, x, other, dense)``; returns the value of ``step.result``.
                ``dense(x)`` computes it with the dense network's own weights.

        Returns:
            The program's outputs, those that are tensors.
        """
        env = self._given()
        env.update(zip(self.sources, as_inputs(inputs).tensors, strict=True))
        self._run_steps(env, (0, len(self.steps)), affine)
        return tuple(env[node] for node in self.outputs)

    def run_block(self, block: Block, values: Sequence[Tensor], affine: Visit) -> tuple[Tensor, ...]:
        """Run one block, with gradients where they are enabled.

        Args:
            block: The block.
            values: What goes in, of a batch of any size N, each of shape (N, ...).
            affine: As for `run`.

        Returns:
            What comes out, each of shape (N, ...).
        """
        env = dict(self._fixed)
        batch = next(len(value) for value in values if value.dim())
        if batch not in self._sizes:
            self._sizes[batch] = {node: _sized(node, batch) for node in self._shapes}
        env.update(self._sizes[batch])
        env.update(zip(block.sources, values, strict=True))
        for place, node in self._of_sizes:
            if place < block.steps[0]:
                env[node] = self.call(node, env)
        self._run_steps(env, block.steps, affine)
        return tuple(env[node] for node in block.results)

    def _given(self) -> dict[Node, Any]:
        nodes = self.graph.program.graph.nodes
        return {
            node: self.tensor(node).detach()
            for node in nodes
            if node.op == "placeholder" and node not in self.sources and node.name in self._held
        }

    def _run_steps(self, env: dict[Node, Any], steps: tuple[int, int], affine: Visit) -> None:
        for step, free in zip(self.steps[slice(*steps)], self._free_after_step[slice(*steps)], strict=True):
            if isinstance(step, Affine):
                other = env[step.other] if step.other is not None else None
                env[step.result] = affine(step, env[step.source], other, partial(self._dense, step, env))
            elif step.node not in env:
                env[step.node] = self.call(step.node, env)
            for node in free:
                env.pop(node, None)

    @cached_property
    def _fixed(self) -> dict[Node, Any]:
        """Values that depend on no image, by their nodes."""
        env = self._given()
        for step in self.steps:
            if (
                isinstance(step, Call)
                and step.node not in self._moving
                and all(n in env for n in step.node.all_input_nodes)
            ):
                env[step.node] = self.call(step.node, env)
        return env

    @cached_property
    def _of_sizes(self) -> tuple[tuple[int, Node], ...]:
        """Values that depend on the number of images alone, by their places: an LSTM's first state, say."""
        return tuple(
            (place, step.node)
            for place, step in enumerate(self.steps)
            if isinstance(step, Call)
            and step.node not in self._fixed
            and step.node not in self._moving
            and step.node not in self._shapes
        )

    @cached_property
    def _moving(self) -> frozenset[Node]:
        """Nodes whose values depend on the images, sizes apart."""
        moving: set[Node] = set()
        for node in self.graph.program.graph.nodes:
            if node in self.sources or (node not in self._shapes and any(n in moving for n in node.all_input_nodes)):
                moving.add(node)
        return frozenset(moving)

    def stored_bytes(self, block: Block) -> int:
        """Return how much a pass with gradients keeps of a block, in bytes an image: an upper bound, from the traced shapes."""
        traced = max(1, next((size for node in self.sources if (size := _first(node))), 1))
        total = 0
        for step in self.steps[slice(*block.steps)]:
            values = [made(step), *([step.source] if isinstance(step, Affine) else [])]
            copies = (
                3 if isinstance(step, Affine) else 1
            )  # narrowed, before and after its channels are put in their places
            total += copies * sum(_bytes(node) for node in values)
        return -(-total // traced)

    @cached_property
    def blocks(self) -> tuple[Block, ...]:
        """The program as blocks, see `cut`; none if it cannot be cut."""
        return cut(self.steps, self.sources, self.outputs, self._moving, self.graph.channels)

    @cached_property
    def narrow(self) -> frozenset[str]:
        """Names of layers whose output may lack the channels that go.

        Nothing but convolutions of just those channels read it, with functions of one element at a time in between.
        """
        consumers = {step.node: step.layer for step in self.steps if isinstance(step, Affine) and step.refit}

        def alone(layer: Layer, node: Node) -> bool:
            return bool(node.users) and all(
                _pointwise(user) and alone(layer, user) if user not in consumers else _same(layer, consumers[user])
                for user in node.users
            )

        steps = [step for step in self.steps if isinstance(step, Affine) and step.total is None]
        return frozenset(step.layer.name for step in steps if alone(step.layer, step.result))

    def computes(self, model: nn.Module, inputs: Tensor | ModelInputs) -> bool:
        """Whether the program gives the model's own answer on this batch (not if it was traced for another batch size)."""
        try:
            with torch.no_grad():
                found = self.answer(fast_layout(inputs, inputs.device), as_it_is)
        except (RuntimeError, IndexError):
            return False
        with torch.no_grad():
            expected = output_tensors(as_inputs(inputs).call(model))
        return len(found) == len(expected) and all(
            a.shape == b.shape and torch.allclose(a.double(), b.double(), rtol=1e-3, atol=1e-4)
            for a, b in zip(found, expected, strict=True)
        )

    def _dense(self, step: Affine, env: dict[Node, Any], value: Tensor) -> Tensor:
        inner = {**env, step.source: value}
        inner[step.node] = self.call(step.node, inner)
        result: Tensor = inner[step.node] if step.norm is None else self.call(step.norm, inner)
        return result

    def call(self, node: Node, env: Mapping[Node, Any]) -> Any:
        """Compute one node: on any memory layout, and out of place where steps are reordered."""
        if node.op == "get_attr":
            return super().call(node, env)
        args, kwargs = self.arguments(node, env)
        target: Any = _RESHAPES.get(node.target, node.target)  # type: ignore[call-overload]
        return (_functional(target) if self.reorders else target)(*args, **kwargs)


def as_it_is(_step: Affine, value: Tensor, _other: Tensor | None, dense: Dense) -> Tensor:
    """Visit a layer: compute what the dense network's does."""
    return dense(value)


def _sized(node: Node, batch: int) -> int:
    """Return what a size is for another number of images: it is an expression in that number."""
    expression = node.meta["val"].node.expr
    return int(expression.subs(dict.fromkeys(expression.free_symbols, batch)))


def _first(node: Node) -> int:
    value = node.meta.get("val")
    return concrete(value.shape)[0] if isinstance(value, Tensor) and value.dim() else 0


def _bytes(node: Node) -> int:
    """Return the bytes of all tensors that a node makes, of the traced batch."""
    values = node.meta.get("val")
    tensors = values if isinstance(values, list | tuple) else [values]
    return sum(math.prod(concrete(t.shape)) * t.element_size() for t in tensors if isinstance(t, Tensor))


def _pointwise(node: Node) -> bool:
    """Whether a node computes each element of its only input by itself."""
    if not isinstance(node.target, torch._ops.OpOverload) or len(node.all_input_nodes) != 1:
        return False
    return node.target._schema.name.removeprefix("aten::").removesuffix("_") in _POINTWISE


def _same(layer: Layer, consumer: Layer) -> bool:
    """Whether a convolution reads the channels of a layer's output one by one, all of them and no others."""
    found = consumer.op == "conv" and consumer.groups == 1 and consumer.in_channels == layer.out_channels
    return found and bool((consumer.in_group == layer.out_group).all() and (consumer.in_unit == layer.out_unit).all())


def _sole_user(node: Node) -> Node | None:
    return next(iter(node.users)) if len(node.users) == 1 else None


def _rectifier(node: Node | None) -> tuple[float, float] | None:
    """Return the bounds of a rectifier, between which it changes nothing; None if the node is none."""
    if node is None or not isinstance(node.target, torch._ops.OpOverload):
        return None
    name = node.target._schema.name.removeprefix("aten::").removesuffix("_")
    if name == "hardtanh":
        bounds: list[Any] = [*node.args[1:3], *(-1.0, 1.0)[len(node.args) - 1 :]]
        return float(bounds[0]), float(bounds[1])
    return {"relu": (0.0, math.inf), "relu6": (0.0, 6.0)}.get(name)


def _shape(node: Node) -> tuple[str, ...]:
    value = node.meta.get("val")
    return tuple(str(size) for size in value.shape) if isinstance(value, Tensor) else ()


def _functional(target: Any) -> Any:
    """Return the out-of-place twin of an in-place ATen operator (``relu_`` -> ``relu``), others unchanged."""
    if not isinstance(target, torch._ops.OpOverload):
        return target
    name = target._schema.name.split("::")[-1]
    if not name.endswith("_") or name.startswith("_"):
        return target
    packet = getattr(_aten, name[:-1], None)
    return getattr(packet, target._overloadname, target) if packet is not None else target


def _mutates_view(node: Node) -> bool:
    """Whether ``node`` writes into a view of a tensor: then order matters and nothing may be moved."""
    if _functional(node.target) is node.target or not node.args or not isinstance(node.args[0], Node):
        return False
    name = str(node.args[0].target)
    return any(view in name for view in _VIEWS)
