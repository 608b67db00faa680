"""The executor against torch's own interpreter and the model."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, fx, nn

from autoprune.graph import Executor, build_graph, free_after, last_uses
from autoprune.graph._interpret import placeholder_values
from autoprune.model_guard import ModelInputs

from ..reconstruct._networks import Grouped, Plain, Residual, images, trained


class Counting(Executor):
    """Notes how many values there are at once."""

    most = 0

    def call(self, node: fx.Node, env: Any) -> Any:
        self.most = max(self.most, len(env))
        return super().call(node, env)


@pytest.mark.parametrize("make", [Residual, Plain, Grouped])
def test_it_computes_what_torchs_interpreter_does_and_keeps_no_more(make: type[nn.Module]) -> None:
    network, x = trained(make()), images(5)
    graph = build_graph(network, images(2))
    values = placeholder_values(graph, network, ModelInputs((x,)), torch.float32)
    with torch.no_grad():
        expected: tuple[Tensor, ...] = fx.Interpreter(graph.program.graph_module).run(*values)
        run = Counting(graph.program)
        found = run.execute(values)
        torch.testing.assert_close(found[-1], network(x))
    assert all(map(torch.equal, found, expected))
    assert (
        run.most <= len(values) + 3
    )  # what is not read any more has gone: at most a shortcut and the batch's size stay


def test_values_go_after_their_last_use() -> None:
    traced = fx.symbolic_trace(lambda x, y: torch.relu(x + y) * x)
    x, y, total, relu, product, _ = nodes = list(traced.graph.nodes)
    assert last_uses(nodes, lambda node: node.all_input_nodes) == {x: 4, y: 2, total: 3, relu: 4, product: 5}
    assert free_after(nodes, lambda node: node.all_input_nodes)[4] == [x, relu]
