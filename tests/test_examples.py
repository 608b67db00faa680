from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest

from ._sample import FULL, pick

EXAMPLES = Path(__file__).parent.parent / "examples"


def test_every_example_is_tested() -> None:
    known = {
        "quick_start",
        "custom_reward",
        "custom_cost",
        "own_model_and_data",
        "finetune_pytorch",
        "finetune_lightning",
        "unet_denoising",
        "audio_1d",
        "video_3d",
        "two_inputs",
        "segmentation_torchvision",
        "yolo_ultralytics",
    }
    assert {path.stem for path in EXAMPLES.glob("*.py")} == known


@pytest.mark.parametrize("path", sorted(EXAMPLES.glob("*.py")), ids=lambda path: path.stem)
def test_every_example_compiles(path: Path) -> None:
    compile(path.read_text(encoding="utf-8"), str(path), "exec")


@pytest.mark.skipif(importlib.util.find_spec("ultralytics") is not None, reason="ultralytics is installed")
def test_what_an_example_lacks_is_said_in_a_sentence(tmp_path: Path) -> None:
    command = [sys.executable, str(EXAMPLES / "yolo_ultralytics.py")]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 1
    assert done.stderr.strip() == "This example needs ultralytics, which is not installed: pip install ultralytics."


LONGER = [
    ("unet_denoising", "dB with them."),
    ("audio_1d", "and no label was read."),
    ("two_inputs", "with them."),
    *([("segmentation_torchvision", "no map was read")] if FULL else []),
    *([("yolo_ultralytics", "Wrote yolo-pruned/model.onnx")] if FULL else []),
    ("video_3d", "no label was read by the search."),
]


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("quick_start", "* exported, at 0.4"),
        ("custom_reward", "where 0.800 were allowed"),
        ("custom_cost", "where 0.600 were allowed"),
        ("own_model_and_data", "% of the test images"),
        ("finetune_pytorch", "fine-tuned"),
        ("finetune_lightning", "fine-tuned"),
        *pick(LONGER, 1),
    ],
)
def test_example_runs(name: str, said: str, tmp_path: Path) -> None:
    if name == "finetune_lightning":
        pytest.importorskip("lightning")
    if name == "yolo_ultralytics":
        pytest.importorskip("ultralytics")
    done = subprocess.run(
        [sys.executable, "-W", "error", str(EXAMPLES / f"{name}.py")],
        cwd=tmp_path,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    assert said in done.stdout
    assert "Traceback" not in done.stderr
    if name == "quick_start":
        names = sorted(path.name for path in (tmp_path / "runs" / "quick-start").iterdir())
        assert names == ["load.py", "model.safetensors", "policy.json", "report.json"]
