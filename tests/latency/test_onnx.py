from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from autoprune.exporting import onnx_session
from autoprune.latency import Target
from autoprune.latency._family import OnnxFamily, _numbers, telling
from autoprune.latency._onnx import OnnxSegments, attributed
from autoprune.latency._segments import Segments
from autoprune.latency._sessions import VariantSession

from ._synthetic import Net, traced

onnx = pytest.importorskip("onnx")
NET = Net()
GRAPH, DECISIONS, EXAMPLE = traced(NET)


def event(name: str, op: str, microseconds: float, *shapes: list[int]) -> dict[str, Any]:
    arguments = {"op_name": op, "input_type_shape": [{"float": shape} for shape in shapes]}
    return {"cat": "Node", "name": f"{name}_kernel_time", "dur": microseconds, "args": arguments}


def test_kernels_belong_to_the_layer_they_are_of_or_follow() -> None:
    conv = [[1, 16, 8, 8], [16, 24, 3, 3]]
    one_run = [
        event("reorder", "ReorderInput", 1, [1, 3, 8, 8]),
        event("stem", "Conv", 10, [1, 3, 8, 8], [16, 3, 3, 3]),
        *(event(f"c{number}", "Conv", 20 + number, *conv) for number in range(6)),
        event("relu", "Relu", 2, [1, 16, 8, 8]),
        event("head", "Gemm", 5, [1, 16], [5]),
        {"cat": "Session", "name": "model_run", "dur": 1000},
    ]
    found = attributed(one_run * 10, GRAPH.layers)
    assert found is not None
    np.testing.assert_allclose(found, 1e-6 * np.array([11, 20, 21, 22, 23, 24, 27, 5]))
    assert attributed([*one_run[:3], *one_run[4:]], GRAPH.layers) is None  # a layer has no kernel


def test_cut_files_are_what_is_exported_and_run_in_segments(tmp_path: Path) -> None:
    with VariantSession(NET, GRAPH, DECISIONS, EXAMPLE, Target("onnxruntime", threads=1)) as variants:
        family = OnnxFamily(lambda counts: variants.exported(variants.module(counts)), Segments(GRAPH, DECISIONS))
        assert family.cuts
        path = family.write([5, 9, 13], tmp_path / "cut.onnx")
        assert _numbers(onnx.load(path)) == _numbers(onnx.load(variants.exported(variants.module([5, 9, 13]))))
        session = onnx_session(path, threads=1)
        assert session.run(None, {session.get_inputs()[0].name: torch.randn(3, 3, 8, 8).numpy()})[0].shape == (3, 5)
        parts = OnnxSegments(path, 1, variants.images, GRAPH.layers)
        for _ in range(5):
            parts()
        seconds = parts.seconds()
    assert seconds is not None
    assert seconds.shape == (8,)
    assert (seconds >= 0).all()
    assert seconds.sum() > 0


def test_groups_of_equal_size_are_told_apart() -> None:
    sizes = (8,) * 20 + (4,) * 3 + (1,)
    probes = telling(sizes)
    assert len(probes) == 2
    for size in (8, 4):
        codes = [code for code, own in zip(zip(*probes, strict=True), sizes, strict=True) if own == size]
        assert len(set(codes)) == len(codes)
        assert all(1 <= count < size for code in codes for count in code[:1])
    assert len(telling((16,) * 9 + (32,) * 9)) == 1
