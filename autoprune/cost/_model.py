"""Multiply-adds and parameters of any policy without touching a tensor.

A convolution costs (output positions) x (kernel) x (dimension 0 of its weight) x (dimension 1); a linear layer
likewise; attention and other products of activations as often as their dimensions say. The dimensions are affine in the channel
counts, so the sums are quadratic forms (and a few longer products) with integer coefficients. They equal half of what
`torch.utils.flop_counter.FlopCounterMode` counts (math attention, no fused transformer layers), and ``sum(p.numel())``, after
surgery, to the last unit.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence

import numpy as np
import numpy.typing as npt
from torch import nn

from autoprune.cost._quadratic import Affine, Elements, IntArray, Quadratic, Term
from autoprune.cost._shares import Shares
from autoprune.decisions import Decision, channel_groups
from autoprune.errors import AutopruneError
from autoprune.groups import Extent, Group, Layer, Product, PruningGraph


class CostModel:
    """The closed-form cost of a network as a function of how many channels each decided group keeps.

    Args:
        graph: The coupling graph.
        decisions: What a policy decides, in order; all other groups stay whole.
        shapes: Shape of every parameter, each tied one once. Default: read from ``graph.program``.

    Attributes:
        sizes: Channels of each decision, the counts of the dense network.
        dense_macs: Multiply-adds of one image, dense.
        dense_params: Number of parameters, dense.
        macs_form: The closed form of the multiply-adds.
        params_form: The number of parameters in the same way.
        product_forms: Multiply-adds of each of ``graph.products``: scale and factors.
    """

    def __init__(
        self, graph: PruningGraph, decisions: Sequence[Decision], *, shapes: Mapping[str, tuple[int, ...]] | None = None
    ) -> None:
        self.sizes: tuple[int, ...] = tuple(decision.size for decision in decisions)
        self._groups = channel_groups(decisions)
        self._place = {group.index: place for place, group in enumerate(decisions) if isinstance(group, Group)}
        self._shares = Shares(decisions)
        self._names = [layer.name for layer in graph.layers]
        self._all_sizes = [group.size for group in graph.groups]
        self._layers = [self._layer(layer) for layer in graph.layers]
        self.product_forms = tuple(self._product(product) for product in graph.products)
        layers = zip(self._names, self._layers, strict=True)
        self.macs_form = self._sum(
            [*((scale, factors, self._shares.of_layer(name)) for name, (scale, *factors) in layers)]
            + [(scale, factors, ()) for scale, factors in self.product_forms]
        )
        self.params_form = self.elements(_parameter_shapes(graph) if shapes is None else shapes)
        self.dense_macs = self.macs(self.sizes)
        self.dense_params = self.params(self.sizes)
        expected = sum(layer.macs for layer in graph.layers) + sum(product.macs for product in graph.products)
        if self.dense_macs != expected or expected >= 2**62:
            raise AutopruneError(
                f"The closed form counts {self.dense_macs} MACs for the dense network but its layers add up to "
                f"{expected}; this is a bug in autoprune, please report it with the model."
            )

    def _affine(self, groups: npt.NDArray[np.int64], units: npt.NDArray[np.int64]) -> Affine:
        """Return the number of channels left, where channel i is unit ``units[i]`` of group ``groups[i]``."""
        slope = [0] * len(self.sizes)
        offset = 0
        for index, count in zip(*np.unique(groups, return_counts=True), strict=True):
            place = self._place.get(int(index))
            if place is None:
                offset += int(count)
                continue
            owned = np.bincount(units[groups == index], minlength=self.sizes[place])
            if owned.size != self.sizes[place] or (owned != owned[0]).any():
                raise AutopruneError(
                    f"The channels of group {int(index)} own differing numbers of positions; "
                    "this is a bug in autoprune, please report it with the model."
                )
            slope[place] = int(owned[0])
        return Affine(tuple(slope), offset)

    def _constant(self, value: int) -> Affine:
        return Affine((0,) * len(self.sizes), value)

    def _layer(self, layer: Layer) -> tuple[int, Affine, Affine]:
        """Return a layer's (positions x kernel, weight dimension, other weight dimension)."""
        inputs = self._affine(layer.in_group, layer.in_unit)
        outputs = self._affine(layer.out_group, layer.out_unit)
        dense = layer.in_channels * layer.out_channels
        if layer.balanced:
            dense //= layer.groups
            width = layer.in_channels // layer.groups
            inputs = self._affine(layer.in_group[:width], layer.in_unit[:width])
        elif layer.groups > 1:  # Whole convolution groups go; the dimension inside a group stays.
            dense //= layer.groups
            if layer.op == "conv_transpose":
                outputs = self._constant(layer.out_channels // layer.groups)
            else:
                inputs = self._constant(layer.in_channels // layer.groups)
        if dense == 0 or (inputs.is_constant and outputs.is_constant):
            return layer.macs, self._constant(1), self._constant(1)
        scale, rest = divmod(layer.macs, dense)
        if rest:
            raise AutopruneError(
                f"The {layer.macs} MACs of layer '{layer.name}' are no multiple of its weight's {dense} channel pairs; "
                "this is a bug in autoprune, please report it with the model."
            )
        return scale, inputs, outputs

    def affine(self, extent: Extent) -> Affine:
        """Return how many are left of what channels own."""
        slope, offset = [0] * len(self.sizes), extent.fixed
        for index, each in extent.owned:
            place = self._place.get(index)
            if place is None:
                offset += each * self._all_sizes[index]
            else:
                slope[place] = each
        return Affine(tuple(slope), offset)

    def _product(self, product: Product) -> tuple[int, tuple[Affine, ...]]:
        """Return a product's (multiply-adds of one index of all dimensions with channels, those dimensions)."""
        factors = tuple(self.affine(extent) for extent in product.extents)
        dense = math.prod(factor(self.sizes) for factor in factors)
        scale, rest = divmod(product.macs, dense)
        if rest:
            raise AutopruneError(
                f"The {product.macs} MACs of '{product.node}' are no multiple of its {dense} combinations of channels; "
                "this is a bug in autoprune, please report it with the model."
            )
        return scale, factors

    def elements(self, shapes: Mapping[str, tuple[int, ...]], weights: Mapping[str, int] | None = None) -> Elements:
        """Return how many elements tensors have, as a function of the counts.

        Args:
            shapes: Shape of each, by parameter or buffer name.
            weights: What one element of each counts (bytes); 1 by default.
        """
        owners: dict[str, dict[int, tuple[IntArray, IntArray]]] = {}
        for group in self._groups:
            for piece in group.slices:
                if piece.tensor not in shapes:
                    continue
                length = shapes[piece.tensor][piece.dim]
                dims = owners.setdefault(piece.tensor, {})
                if piece.dim not in dims:
                    dims[piece.dim] = (np.full(length, -1, dtype=np.int64), np.zeros(length, dtype=np.int64))
                dims[piece.dim][0][piece.position] = group.index
                dims[piece.dim][1][piece.position] = piece.unit
        terms: list[tuple[int, list[Affine], tuple[int, ...]]] = []
        for name, shape in shapes.items():
            cut = owners.get(name, {})
            scale = math.prod(length for dim, length in enumerate(shape) if dim not in cut)
            scale *= 1 if weights is None else weights[name]
            factors = [self._affine(*cut[dim]) for dim in sorted(cut)]
            terms.append((scale, factors, self._shares.of_tensor(name)))
        return self._sum(terms)

    def _sum(self, terms: Iterable[tuple[int, Sequence[Affine], tuple[int, ...]]]) -> Elements:
        """Return the sum of products of dimensions, each with its scale, its factors and the levels it is in proportion to."""
        form = Quadratic(len(self.sizes))
        rest: list[Term] = []
        for scale, factors, shares in terms:
            if len(factors) > 2 or shares:
                levels = [Affine(tuple(int(place == p) for p in range(len(self.sizes))), 0) for place in shares]
                rest.append(Term(scale, (*factors, *levels), math.prod(self.sizes[place] for place in shares)))
            else:
                first, second = [*factors, self._constant(1), self._constant(1)][:2]
                form.add(scale, first, second)
        return Elements(form, tuple(rest))

    def _checked(self, counts: Sequence[int]) -> Sequence[int]:
        if len(counts) != len(self.sizes):
            raise ValueError(f"expected {len(self.sizes)} counts, one per decided group, got {len(counts)}")
        return counts

    def macs(self, counts: Sequence[int]) -> int:
        """Return the multiply-adds of one image for channel counts aligned with ``decisions``."""
        return self.macs_form(self._checked(counts))

    def params(self, counts: Sequence[int]) -> int:
        """Return the number of parameters."""
        return self.params_form(self._checked(counts))

    @property
    def layer_forms(self) -> tuple[tuple[int, Affine, Affine], ...]:
        """Each layer's multiply-adds as factors (scale, one dimension of the weight, the other), as ``graph.layers``."""
        return tuple(self._layers)

    def layer_macs(self, counts: Sequence[int]) -> list[int]:
        """Return the multiply-adds of each layer, aligned with ``graph.layers``."""
        self._checked(counts)
        shares = [self._shares.at(name, counts) for name in self._names]
        return [
            -(-scale * first(counts) * second(counts) * share.numerator // share.denominator)
            for (scale, first, second), share in zip(self._layers, shares, strict=True)
        ]


def _parameter_shapes(graph: PruningGraph) -> dict[str, tuple[int, ...]]:
    """Return the shapes of the program's parameters, each tied one under its first name only."""
    shapes: dict[str, tuple[int, ...]] = {}
    seen: set[int] = set()
    for name, tensor in graph.program.state_dict.items():
        if isinstance(tensor, nn.Parameter) and id(tensor) not in seen:
            seen.add(id(tensor))
            shapes[name] = tuple(tensor.shape)
    return shapes
