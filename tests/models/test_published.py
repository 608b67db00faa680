"""The published weights give the published accuracy. Needs the development data."""

import os
from pathlib import Path

import pytest
import torch

from autoprune.data import load_data
from autoprune.models import load_model

ROOT = Path(os.environ.get("AUTOPRUNE_DATA", Path(__file__).parents[3] / "shared" / "data"))


@pytest.mark.data
@pytest.mark.skipif(not (ROOT / "weights").is_dir(), reason=f"no development data in {ROOT}; set AUTOPRUNE_DATA")
@pytest.mark.parametrize(("depth", "images", "least"), [(20, 1000, 0.90), (56, 300, 0.90)])
def test_published_weights(depth: int, images: int, least: float) -> None:
    # 91.97% and 93.29% on all 4,979 images; one standard error here is 0.9 and 1.5 points
    loaded = load_model(f"cifar-resnet{depth}", weights=str(ROOT / "weights" / f"cifar10_resnet{depth}.safetensors"))
    data = load_data(f"cifar10:{ROOT / 'cifar10'}", mean=loaded.mean, std=loaded.std, input_size=loaded.input_shape)
    x, y = (tensor[:images] for tensor in data.search.tensors)  # type: ignore[attr-defined]
    with torch.inference_mode():
        right = torch.cat([loaded.model(batch).argmax(1) for batch in x.split(100)]) == y
    assert right.double().mean() > least
    assert (len(data.search), len(data.report), len(data.calibration)) == (2000, 2979, 5000)  # type: ignore[arg-type]
